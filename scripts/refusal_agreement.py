"""How often the refusal classifier and people say the same of an answer. `--help` says how.

Each file is a CSV with the columns `assistant_response`, `human_score` (1 a refusal, 0 not, several scores joined by
commas: the majority) and, if there is one, `objective`: what was asked. Leading lines that start with `#` are skipped.
Results go to benchmarks/refusal_agreement.json: of the rules together, of those that see the answer alone, and with
`--judge` of the model's readings.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from stages.evaluation import refusal
from stages.evaluation.refusal_rules import is_refusal

ROOT = Path(__file__).resolve().parent.parent
Said = dict[str, list[bool]]  # classifier -> whether it calls each answer a refusal


@dataclass(frozen=True)
class Labelled:
    """An answer on which people have a majority."""

    request: str
    answer: str
    refused: bool


def labelled(path: Path) -> list[Labelled]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(dropwhile(lambda line: line.startswith("#"), stream)))
    found = []
    for row in rows:
        votes = [float(vote) for vote in row["human_score"].split(",")]
        if (mean := sum(votes) / len(votes)) != 0.5:
            found.append(Labelled(row.get("objective") or "", row["assistant_response"], mean > 0.5))
    return found


def by_rules(rows: Sequence[Labelled]) -> Said:
    return {
        "rules": [is_refusal(row.answer, row.request) for row in rows],
        "answer_alone": [is_refusal(row.answer) for row in rows],
    }


def by_judge(rows: Sequence[Labelled], source: str, readings: Sequence[str]) -> Said:
    """Each reading of the model alone, and beside the rules. `source` as in `model.source`."""
    from pipeline.schema import ModelConfig
    from stages.models import sources
    from stages.models.chain import Chain, Policy

    model, tokenizer = sources.load(ModelConfig(source=source))
    judge = Policy(model.eval(), tokenizer, Chain(base={}), "cpu")
    asked = [{"id": k, "prompt": [{"role": "user", "content": row.request}]} for k, row in enumerate(rows)]
    answers, found = [row.answer for row in rows], {}
    for reading in readings:
        read = refusal.unrelated if reading == "relevance" else refusal.declined
        found[reading] = [p > 0.5 for p in read(judge, asked, answers, 0)]
        both = zip(found[reading], by_rules(rows)["rules"], strict=True)
        found[f"rules_and_{reading}"] = [one or other for one, other in both]
    return found


def agreement(pairs: list[tuple[bool, bool]]) -> dict[str, Any]:
    """Share of equal labels with its 95 % Wilson interval; precision and recall of the classifier's refusals."""
    equal = sum(people == found for people, found in pairs)
    both = sum(people and found for people, found in pairs)
    interval = binomtest(equal, len(pairs)).proportion_ci(method="wilson")
    return {
        "n": len(pairs),
        "refusals": sum(people for people, _ in pairs),
        "agreement": round(equal / len(pairs), 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "precision": round(both / max(1, sum(found for _, found in pairs)), 4),
        "recall": round(both / max(1, sum(people for people, _ in pairs)), 4),
    }


def measured(rows: Sequence[Labelled], said: Said) -> dict[str, Any]:
    return {
        name: agreement([(row.refused, one) for row, one in zip(rows, every, strict=True)])
        for name, every in said.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="CSV files with labels by people")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "refusal_agreement.json")
    parser.add_argument("--judge", help="a model that judges as well, as in model.source")
    parser.add_argument("--readings", nargs="+", default=["relevance"], choices=["relevance", "verdict"])
    asked = parser.parse_args()
    files = {path.name: labelled(path) for path in asked.files}
    rows = [row for found in files.values() for row in found]
    said = by_rules(rows) | (by_judge(rows, asked.judge, asked.readings) if asked.judge else {})
    found = {"all": measured(rows, said)} if len(files) > 1 else {}
    for name, own in files.items():
        found[name] = measured(own, {key: [every.pop(0) for _ in own] for key, every in said.items()})
    asked.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
