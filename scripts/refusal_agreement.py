"""How often the refusal classifier and people say the same of an answer. `--help` says how.

Each file is a CSV with the columns `assistant_response`, `human_score` (1 a refusal, 0 not, several scores joined by
commas: the majority) and, if there is one, `objective`: what was asked. Leading lines that start with `#` are skipped.
Results go to benchmarks/refusal_agreement.json: of the rules together, and of those that see the answer alone.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from stages.evaluation.refusal_rules import is_refusal

ROOT = Path(__file__).resolve().parent.parent


def labelled(path: Path, classify: Callable[[str, str], bool] = is_refusal) -> Iterator[tuple[bool, bool]]:
    """(people say refusal, the classifier says refusal) of every row on which people have a majority.

    `classify`: from the answer and the request, which is empty where the file has none.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(dropwhile(lambda line: line.startswith("#"), stream)):
            votes = [float(vote) for vote in row["human_score"].split(",")]
            if (mean := sum(votes) / len(votes)) != 0.5:
                yield mean > 0.5, classify(row["assistant_response"], row.get("objective") or "")


CLASSIFIERS = {"rules": is_refusal, "answer_alone": lambda answer, request: is_refusal(answer)}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="CSV files with labels by people")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "refusal_agreement.json")
    asked = parser.parse_args()
    found = {
        path.name: {name: agreement(list(labelled(path, classify))) for name, classify in CLASSIFIERS.items()}
        for path in asked.files
    }
    asked.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
