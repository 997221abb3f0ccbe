"""How often the rules of coverage are right, and how fast they are, on texts that they were not made on.

    python scripts/coverage_benchmark.py --data ../shared/data --out benchmarks/coverage.json

Task types: prompts of real sets, labelled by hand before the rules saw them (`benchmarks/coverage_labels.json`: file,
line, the type and other types that a reader would accept). Harms: the authored held-out refusals of the project, with
categories that the rules were not made for. Speed: rows of real sets, repeated.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from stages.data import formats
from stages.data.coverage.asked import asked
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.refusals import UNNAMED, stances
from stages.data.coverage.survey import coverage
from stages.data.coverage.tasks import task_of
from stages.data.findings import Located
from stages.data.readers import read
from stages.data.rows import normalise

ROOT = Path(__file__).parents[1]
LABELS = ROOT / "benchmarks" / "coverage_labels.json"
SAFETY = ROOT / "stages" / "data" / "legal" / "authored" / "safety_heldout.jsonl"
ALPACA = "formats/llamafactory/alpaca_en_demo.json"
REFUSALS = "refusal/refusal.csv"
HARM = {  # category of the authored prompts -> categories of the rules that are right
    "animal_cruelty": "violence", "arson": "violence", "backdate_contract": "fraud", "bribery": "fraud",
    "counterfeit_money": "fraud", "drugs": "drugs", "election_fraud": "fraud legal", "exam_cheating_fraud": "fraud",
    "fake_compliance": "legal fraud", "forge_grant": "legal fraud", "fraud_phishing": "fraud malware",
    "harassment": "hate", "hide_copyleft": "legal", "identity_documents": "fraud", "infringe": "legal",
    "insider_trading": "fraud", "malware": "malware", "perjury": "fraud", "privacy_stalking": "privacy",
    "sabotage_of_infrastructure": "violence", "strip_notices": "legal", "trademark_counterfeit": "fraud legal",
    "weapons": "violence",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the real files")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = {
        "tasks": tasks(given.data),
        "harms": {"authored": harms(), "real": real_harms(given.data)},
        "speed": speed(given.data),
    }
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def tasks(data: Path) -> dict[str, Any]:
    """Accuracy by file, and how far the shares of the types are from those of the labels."""
    labels = json.loads(LABELS.read_text())
    judged = [
        (name, task_of(last_request(raw)), labels[name][str(line)])
        for name in labels
        for line, raw in read(str(data / name))
        if str(line) in labels[name]
    ]
    told, true = Counter(mine for _, mine, _ in judged), Counter(types[0] for *_, types in judged)
    return {
        "prompts": len(judged),
        "right": share(mine == types[0] for _, mine, types in judged),
        "acceptable": share(mine in types for _, mine, types in judged),
        "by_file": {file: share(mine in types for name, mine, types in judged if name == file) for file in labels},
        "misplaced_share": round(sum(abs(told[t] - true[t]) for t in told | true) / 2 / len(judged), 3),
        "shares": {t: [round(true[t] / len(judged), 3), round(told[t] / len(judged), 3)] for t in sorted(told | true)},
    }


def last_request(raw: Any) -> str:
    row = formats.to_internal(raw, formats.find(raw))
    turns = row.get("messages") or row["prompt"]
    return [turn["content"] for turn in turns if turn["role"] == "user"][-1]


def harms() -> dict[str, Any]:
    """How many authored harmful prompts with a refusal get a category, and the right one."""
    rows = [json.loads(line) for line in SAFETY.read_text().splitlines()]
    refused = [row for row in rows if row["harmful"]]
    made = [chat(row["prompt"], "I'm sorry, but I can't help with that.", place) for place, row in enumerate(refused)]
    found = [each.harm for each in stances(asked(made, "sft"))]
    named = [(harm, HARM[row["category"]].split()) for harm, row in zip(found, refused, strict=True) if harm != UNNAMED]
    return {
        "prompts": len(refused),
        "named": round(len(named) / len(refused), 3),
        "named_right": share(harm in right for harm, right in named),
    }


def real_harms(data: Path) -> dict[str, Any]:
    """How many refused prompts of the real completions get a category."""
    rows = [row for line, raw in read(str(data / REFUSALS)) for row in [normalise(raw, "chat", formats.find(raw))[0]]]
    found = stances(asked([Located(row, REFUSALS, place + 1) for place, row in enumerate(rows)], "sft"))
    refused = [each for each in found if each.refused]
    return {"prompts": len(refused), "named": share(each.harm != UNNAMED for each in refused)}


def chat(prompt: str, answer: str, place: int) -> Located:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Located({"messages": turns}, "authored", place + 1)


def speed(data: Path) -> dict[str, Any]:
    """Seconds for 10,000 rows of instructions, with and without a production sample of 1,000."""
    rows = []
    for line, raw in read(str(data / ALPACA)):
        rows.append(Located(normalise(raw, "chat", formats.find(raw))[0], ALPACA, line))
    many = (rows * 11)[:10_000]
    coverage(asked(rows, "sft"), "sft", CoverageConfig())  # the language model is loaded once
    times = []
    for production in (None, rows):
        start = time.process_time()
        coverage(asked(many, "sft"), "sft", CoverageConfig(), production)
        times.append(round(time.process_time() - start, 2))
    return {"rows": len(many), "cpu_seconds": times[0], "cpu_seconds_with_production": times[1]}


def share(told: Any) -> float:
    values = list(told)
    return round(sum(values) / max(1, len(values)), 3)


if __name__ == "__main__":
    main()
