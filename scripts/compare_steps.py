"""The same experiment with the fast step and with TRL's, beside each other: seconds, speed, memory and last loss.

    make pipeline EXP=legal
    make pipeline EXP=legal SET="stages.sft.step=trl stages.domain.step=trl stages.dpo.step=trl store.root=store_trl"
    python scripts/compare_steps.py store store_trl

Takes the newest run of each store that built something, and of it every stage that was built in both with another
step. Writes benchmarks/legal_steps.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

from legal_results import newest_build

WRITTEN = Path("benchmarks") / "legal_steps.json"


def trained(store: Path, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Training stage -> what its manifest says of time, speed, memory and loss."""
    found = {}
    for name, stage in run["stages"].items():
        manifest = json.loads((store / stage["path"] / "manifest.json").read_text()) if stage["digest"] else {}
        if stage["status"] == "BUILT" and "step" in (manifest.get("training") or {}):
            found[name] = {
                "step": manifest["training"]["step"].partition(" ")[0], "seconds": stage["seconds"],
                "train_seconds": manifest["timing"]["train_seconds"],
                "reference_seconds": manifest["timing"].get("reference_seconds"),
                "tokens_per_s": manifest["metrics"]["tokens_per_second"], "peak_bytes": manifest["peak_bytes"],
                "final_loss": manifest["metrics"]["final_loss"], "env": manifest["env"],
            }  # fmt: skip
    return found


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row for each stage and step, then the whole run."""
    columns = ["stage", "step", "training, s", "reference, s", "tokens/s", "peak, GB", "last loss"]
    lines = [f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * 5]
    for name in runs[0]["stages"]:
        for row in (run["stages"][name] for run in runs):
            reference = "" if row["reference_seconds"] is None else f"{row['reference_seconds']:.1f}"
            numbers = f"{row['train_seconds']:.1f} | {reference} | {row['tokens_per_s']:.0f}"
            last = f"{row['peak_bytes'] / 1e9:.2f} | {row['final_loss']:.5f}"
            lines.append(f"| `{name}` | `{row['step']}` | {numbers} | {last} |")
    lines += [f"| whole run | `{run['step']}` | {run['seconds']:.0f} | | | | |" for run in runs]
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} STORE STORE")
    stores = [Path(word) for word in sys.argv[1:]]
    runs = [newest_build(store / "runs" / "legal") for store in stores]
    both = [trained(store, run) for store, run in zip(stores, runs, strict=True)]
    names = [name for name, row in both[0].items() if name in both[1] and row["step"] != both[1][name]["step"]]
    if not names:
        sys.exit("compare_steps: no stage was built in both stores, with another step in each")
    made = [
        {
            "step": " and ".join(sorted({stages[name]["step"] for name in names})), "started": run["started"],
            "overrides": run["overrides"], "seconds": run["seconds"], "engine_seconds": run["engine_seconds"],
            "evaluation_seconds": sum(s["seconds"] for s in run["stages"].values() if s["kind"] == "evaluate"),
            "env": stages[names[0]]["env"], "stages": {name: _without_env(stages[name]) for name in names},
        }
        for run, stages in zip(runs, both, strict=True)
    ]  # fmt: skip
    WRITTEN.write_text(json.dumps(made, indent=1) + "\n")
    print(f"{table(made)}\n\nwritten: {WRITTEN}")


def _without_env(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "env"}


if __name__ == "__main__":
    main()
