"""Retraining end to end on the real chain of `smoke`: unchanged, new feedback, a worse and a better model, two at once.

python scripts/retrain_demo.py FOLDER     makes FOLDER, which must not exist, and prints every command with what it said

Its pairs are read from `feedback/`, so that rows can be added, and `asked.jsonl` stands for production; all else is
`smoke`. A few minutes on two cores. Artifacts that are up to date and gates that passed are left out.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.data.smoke import AUTHORED

EXPERIMENT = """# @package _global_
# smoke, with pairs from a folder to which feedback is added
defaults:
  - smoke
  - _self_
name: learner
budget: smoke
data:
  feedback: {format: preference, files: [feedback/]}
  asked: {format: prompt, files: [asked.jsonl]}
stages:
  dpo: {data: {train: feedback}}
retrain:
  feedback: {data: [feedback], rows: 20}
  drift: {sample: asked}
"""
SHOWN = 150  # letters of a line
LEFT_OUT = ("  HIT", "  GATE", "seen ", "lost:", "warning:", "report:", "summary:", "budget=", "gates for", "  2 notes")
WORSE, BETTER = "stages.domain.train.max_steps=3", "stages.domain.train.num_train_epochs=4"
COMMAND = [sys.executable, "-m", "pipeline"]


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "learner.yaml").write_text(EXPERIMENT)
    rows = unseen()
    add(folder, "feedback/monday.jsonl", rows[:60])
    add(folder, "asked.jsonl", questions("general_train.jsonl")[::10])
    tell(folder, "The first model", 0)
    tell(folder, "Nothing has changed", 0)
    add(folder, "feedback/tuesday.jsonl", rows[60:72])
    tell(folder, "12 rows of feedback: not enough", 0)
    add(folder, "feedback/wednesday.jsonl", rows[72:90])
    tell(folder, "18 more: what asks for training?", 0, "--dry-run")
    tell(folder, "Only what depends on feedback is built", 0)
    tell(
        folder,
        "A worse model: three steps on the domain texts instead of fifteen",
        3,
        "stages.domain.train.max_steps=3",
    )
    tell(folder, "The same again", 3, WORSE)
    tell(folder, "A better model: four epochs of them", 0, BETTER)
    summary = (folder / "store" / "retrain" / "learner" / "summary.md").read_text()
    print(f"The summary for the pull request:\n\n```markdown\n{summary}```\n")
    add(folder, "asked.jsonl", questions("general_heldout_constraints.jsonl"))
    tell(folder, "Production asks for other things, and there is nothing new to train on", 0, BETTER)
    two_at_once(folder)


def authored(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (AUTHORED / name).read_text(encoding="utf-8").splitlines()]


def questions(name: str) -> list[dict[str, Any]]:
    return [{"prompt": row["prompt"]} for row in authored(name) if "prompt" in row]


def unseen() -> list[dict[str, Any]]:
    """Pairs of the project's own that `smoke` neither trains on nor measures."""
    rows = authored("general_pairs.jsonl")
    used = {row["id"] for row in rows[:: len(rows) // 60][:60]}
    return [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows if row["id"] not in used]


def add(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def tell(folder: Path, title: str, expected: int, *words: str) -> None:
    """Run `retrain` and print what it said on its standard output, up-to-date artifacts left out."""
    done = subprocess.run(
        [*COMMAND, "retrain", "experiment=learner", *words], cwd=folder, capture_output=True, text=True
    )
    hidden = LEFT_OUT if "--dry-run" in words else (*LEFT_OUT, "  BUILD ")
    lines = [line.replace(str(folder), ".") for line in done.stdout.splitlines() if not line.startswith(hidden)]
    print(f"### {title}\n\n```\n$ journeyman retrain {' '.join(('experiment=learner', *words))}")
    print("\n".join(line if len(line) <= SHOWN else line[: SHOWN - 3] + "..." for line in lines))
    print(f"exit code {done.returncode}\n```\n")
    if done.returncode != expected:
        sys.exit(f"expected {expected}\n{done.stderr}")


def two_at_once(folder: Path) -> None:
    """Two commands start together; the lock decides."""
    line = [*COMMAND, "retrain", "experiment=learner", "stages.dpo.seed=7"]
    options = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(line, **options) for _ in range(2)]
    ended = [(process.communicate(), process.returncode) for process in both]
    print("### Two at once\n\n```\n$ journeyman retrain experiment=learner stages.dpo.seed=7 & journeyman retrain ...")
    for (out, err), code in sorted(ended, key=lambda each: each[1]):
        last = [line for line in out.splitlines() if not line.startswith(LEFT_OUT)] or err.splitlines()
        print(f"{last[-1]}\nexit code {code}")
    print("```")


if __name__ == "__main__":
    main()
