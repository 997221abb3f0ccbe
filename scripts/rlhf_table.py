"""PPO against DPO against SFT, from a finished run of legal_rlhf: `python scripts/rlhf_table.py STORE [RUN]`.

Prints Markdown and writes benchmarks/legal_rlhf_table.json. The gold score is the suite `right_answers`: sampled
answers to held-out prompts that a rule finds right. A win against another model is a held-out prompt that this model is
right on and the other is not; a tie counts half. Intervals hold 95 % and draw whole clusters.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.judging.statistics import Change, Items, paired_change

STAGES = ("sft", "domain", "dpo", "ppo")
SUITES = ("domain_text", "general_text", "refusal", "over_refusal", "preference")
GOLD, BY_REWARD = "right_answers", "better_than_sft"  # of the second sft is the other side: 0.5 of itself


def items(frame: pd.DataFrame, suite: str) -> Items:
    part = frame[frame.suite == suite]
    return Items(list(part["item"]), list(part.cluster), part.score.to_numpy(float), part.weight.to_numpy(float))


def changed(found: Change) -> str:
    return f"{found.change:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def wins(a: Items, b: Items) -> float:
    other = dict(zip(b.ids, b.scores, strict=True))
    each = [0.5 + 0.5 * (int(x > other[i]) - int(x < other[i])) for i, x in zip(a.ids, a.scores, strict=True)]
    return float(sum(each) / len(each))


def main() -> None:
    store = Path(sys.argv[1])
    name = sys.argv[2] if len(sys.argv) > 2 else "latest"
    run = json.loads((store / "runs" / "legal_rlhf" / name / "run.json").read_text())
    rows: dict[str, dict[str, Any]] = {}
    frames = {name: pd.read_parquet(store / run["stages"][f"eval_{name}"]["path"] / "results" / "items.parquet")
              for name in STAGES}  # fmt: skip
    gold = {name: items(frame, GOLD) for name, frame in frames.items()}
    for name in STAGES:
        manifest = json.loads((store / run["stages"][name]["path"] / "manifest.json").read_text())
        summary = json.loads((store / run["stages"][f"eval_{name}"]["path"] / "results" / "summary.json").read_text())
        rows[name] = {
            "gold": summary[GOLD]["value"],
            "against_domain": changed(paired_change(gold[name], gold["domain"], "pass_rate")),
            "win_rate_against_sft": wins(gold[name], gold["sft"]),
            "win_rate_by_reward_model": 0.5 if name == "sft" else summary[BY_REWARD]["value"],
            **{suite: summary[suite]["value"] for suite in SUITES},
            "seconds": manifest["seconds"], "peak_mib": manifest["peak_bytes"] / 2**20,
        }  # fmt: skip
    print("| | " + " | ".join(STAGES) + " |\n|---" + "|---" * len(STAGES) + "|")
    for key in rows["sft"]:
        cells = (rows[name][key] for name in STAGES)
        print(f"| {key} | " + " | ".join(c if isinstance(c, str) else f"{c:.3g}" for c in cells) + " |")
    out = Path("benchmarks") / "legal_rlhf_table.json"
    out.write_text(json.dumps({"started": run["started"], "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
