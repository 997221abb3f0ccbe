"""How often the refusal classifier and people say the same of an answer. `--help` says how.

Each file is CSV, TSV or JSONL, a row for each answer, with one column of each kind (the first that is there counts):

    request  objective, prompt, request, instruction, question (a file may do without)
    answer   assistant_response, response, completion, answer, output
    label    human_score, final_label, response_refusal_label, is_refusal, refused, refusal, label

A label says whether the answer is a refusal: 1 or 0, true or false, yes or no, refusal or compliance and words like
these; several people's are joined by commas, or a list in JSONL, and the majority counts. Rows without a label and ties
are left out, and counted. Leading lines of a table that start with `#` are skipped.

Printed, and written to benchmarks/refusal_agreement.json: first `classifier`, the documented one (docs/refusal.md:
rules or the judge's relevance), then the rules alone, those that see the answer alone, and the judge's `--readings`.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from pipeline.errors import ConfigError, DataError
from stages.evaluation import refusal
from stages.evaluation.refusal_rules import is_refusal

ROOT = Path(__file__).resolve().parent.parent
Said = dict[str, list[bool]]  # classifier -> whether it calls each answer a refusal
REQUEST = ("objective", "prompt", "request", "instruction", "question")
ANSWER = ("assistant_response", "response", "completion", "answer", "output")
LABEL = ("human_score", "final_label", "response_refusal_label", "is_refusal", "refused", "refusal", "label")
REFUSED = ("true", "yes", "y", "refusal", "refused", "refuse", "declined", "full refusal", "partial refusal",
           "direct refusal", "indirect refusal")  # fmt: skip
ANSWERED = ("false", "no", "n", "compliance", "complied", "comply", "answered", "full compliance", "direct answer",
            "no refusal", "not refused", "non refusal")  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """An answer on which people have a majority."""

    request: str
    answer: str
    refused: bool


def labelled(path: Path) -> list[Labelled]:
    """The rows of a file that have a majority. DataError for a file or a label that cannot be read."""
    rows = _rows(path)
    names = {str(name).strip().lower(): name for name in rows[0]}
    request = next((names[name] for name in REQUEST if name in names), None)
    answer, label = (_column(path, names, known) for known in (ANSWER, LABEL))
    found = []
    for number, row in enumerate(rows, 1):
        mean = vote(row.get(label), f"{path.name}, row {number}: {label}")
        if mean is not None and mean != 0.5:
            found.append(Labelled(str(row.get(request) or ""), str(row.get(answer) or ""), mean > 0.5))
    if not found:
        raise DataError(f"{path.name}: no row of `{label}` has a label with a majority")
    told = [f"{len(rows) - len(found)} rows without a label or with a tie are left out"] * (len(found) < len(rows))
    told += ["no column for the request: answers are judged by their own words, which finds fewer"] * (request is None)
    print(f"{path.name}: {len(found)} answers{''.join(f'; {each}' for each in told)}", file=sys.stderr)
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".jsonl"):
        raise DataError(f"{path}: give a file .csv, .tsv or .jsonl")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = _objects(path, stream) if kind == ".jsonl" else _table(stream, "\t" if kind == ".tsv" else ",")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from None
    if not rows:
        raise DataError(f"{path}: no row in it")
    return rows


def _table(stream: Iterable[str], delimiter: str) -> list[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)  # answers are long
    return list(csv.DictReader(dropwhile(lambda line: line.startswith("#"), stream), delimiter=delimiter))


def _objects(path: Path, stream: Iterable[str]) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(stream, 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path.name}, line {number}: no JSON object; write one object a line")
        found += [row] if row else []
    return found


def _column(path: Path, names: Mapping[str, str], known: Sequence[str]) -> str:
    for name in known:
        if name in names:
            return names[name]
    raise DataError(f"{path.name}: no column {', '.join(known[:-1])} or {known[-1]} (it has: {', '.join(names)})")


def vote(said: Any, where: str) -> float | None:
    """The share of people who call it a refusal; None where nobody said anything. DataError for another word."""
    parts = said if isinstance(said, list) else str("" if said is None else said).split(",")
    votes = [_one(part, where) for part in parts if str(part).strip() and part is not None]
    return sum(votes) / len(votes) if votes else None


def _one(said: Any, where: str) -> float:
    word = re.sub(r"[\s_-]+", " ", str(said).strip().lower())
    word = re.sub(r"^\d+ (?=[a-z])", "", word)  # as in 2_full_refusal
    if word in REFUSED or word in ANSWERED:
        return float(word in REFUSED)
    try:
        share = float(word)
    except ValueError:
        share = -1.0
    if 0 <= share <= 1:
        return share
    raise DataError(f"{where}={said!r} does not say whether it is a refusal; use 1 and 0, or {', '.join(REFUSED[:5])} "
                    f"and {', '.join(ANSWERED[:5])}")  # fmt: skip


def by_rules(rows: Sequence[Labelled]) -> Said:
    return {
        "rules": [is_refusal(row.answer, row.request) for row in rows],
        "answer_alone": [is_refusal(row.answer) for row in rows],
    }


def by_judge(rows: Sequence[Labelled], source: str, readings: Sequence[str]) -> Said:
    """The documented classifier with this model as judge, then each reading of the model alone, and beside the rules.

    Rows without a request have no reading: alone they count as answered.
    """
    judge = refusal.judge_of(source)
    requests, answers = [row.request for row in rows], [row.answer for row in rows]
    found = {"classifier": refusal.refused(requests, answers, judge)}
    asked = [{"id": k, "prompt": [{"role": "user", "content": row.request}]} for k, row in enumerate(rows)]
    for reading in readings:
        read = refusal.unrelated if reading == "relevance" else refusal.declined
        said = [refusal.declining(p) for p in read(judge, asked, answers, 0)]
        found[reading] = [one and bool(row.request) for one, row in zip(said, rows, strict=True)]
        if reading == "verdict":
            both = zip(found[reading], by_rules(rows)["rules"], strict=True)
            found["rules_and_verdict"] = [one or other for one, other in both]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="files with labels by people")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "refusal_agreement.json")
    parser.add_argument("--judge", default=refusal.JUDGE, help="a model as in model.source; none: the rules alone")
    parser.add_argument(
        "--readings", nargs="+", default=[], choices=["relevance", "verdict"], help="of the judge alone"
    )
    asked = parser.parse_args()
    try:
        found = compared(asked.files, asked.judge, asked.readings)
    except (ConfigError, DataError) as error:
        raise SystemExit(f"error: {error}") from None
    asked.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for name, said in found.items():
        print(told(name, said, asked.judge), file=sys.stderr)
    print(json.dumps(found, indent=2))


def compared(paths: Sequence[Path], judge: str, readings: Sequence[str]) -> dict[str, Any]:
    """File -> classifier -> agreement, before them `all` of several files."""
    files = {path.name: labelled(path) for path in paths}
    rows = [row for found in files.values() for row in found]
    said = (by_judge(rows, judge, readings) if judge != "none" else {}) | by_rules(rows)
    found = {"all": measured(rows, said)} if len(files) > 1 else {}
    for name, own in files.items():
        found[name] = measured(own, {key: [every.pop(0) for _ in own] for key, every in said.items()})
    return found


def told(name: str, said: Mapping[str, Any], judge: str) -> str:
    which = next(iter(said))
    what = f"the documented classifier (rules, or relevance by {judge})" if which == "classifier" else "the rules alone"
    one = said[which]
    return (
        f"{name}: {what} agrees with people on {one['agreement']:.3f} of {one['n']} answers ({one['low']:.3f} to "
        f"{one['high']:.3f})"
    )


if __name__ == "__main__":
    main()
