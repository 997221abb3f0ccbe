"""The diagnosis of a run's stage, worded for the page and for the terminal."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report import words
from pipeline.report.collect import Run, read_json
from pipeline.report.plots import Learning, learning

TONES = {"this slice is missing from the data": "bad", "labels disagree here": "bad", "more of the same helps": "warn"}
KINDS = {"all": "the whole suite", "declared": "declared slice", "discovered": "cluster of prompts"}
CLEAR = 0.05  # corrected p, below which a slice fails more than the rest


@dataclass(frozen=True)
class Row:
    """One slice. `tone`: bad, warn, or empty where nothing is advised."""

    suite: str
    name: str
    kind: str
    size: str
    rate: str
    span: str
    excess: str
    verdict: str
    sentence: str
    tone: str
    worse: bool  # clearly worse than the rest of its suite
    whole: bool  # all of a suite
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class Diagnosis:
    """`findings`: slices with a cause, or that clearly fail more; `others`: all the rest; `curves`: suite -> plot."""

    stage: str
    summary: str
    sets: list[tuple[str, str]]
    findings: list[Row]
    others: list[Row]
    curves: list[tuple[str, Learning]]
    why_not: str


def diagnosis(run: Run) -> Diagnosis | None:
    """What `journeyman eval diagnose` wrote beside run.json; None where nobody asked."""
    found = read_json(run.folder / "diagnosis.json")
    return worded(found) if found else None


def worded(found: Mapping[str, Any]) -> Diagnosis:
    rows = [_row(suite, one) for suite in found["suites"] for one in suite["slices"]]
    findings = _findings(rows)
    whole = {suite["suite"]: suite["slices"][0]["curve"] for suite in found["suites"]}
    return Diagnosis(
        found["stage"],
        _summary(rows),
        [(name, words.count(number)) for name, number in found["sets"].items()],
        findings,
        [row for row in rows if row not in findings],
        [(words.title(name), learning(one["rates"], one["next"])) for name, one in whole.items() if one],
        found["curve"]["why_not"],
    )


def _findings(rows: list[Row]) -> list[Row]:
    """What there is to do first: rows to add, answers to check, then more data, then what has no cause.

    Where more data helps a whole suite, it is not said of its slices again.
    """
    told = {row.suite for row in rows if row.whole and row.tone == "warn"}
    kept = [row for row in rows if (row.tone or row.worse) and not (row.tone == "warn" and row.suite in told)]
    kept += [row for row in rows if row.whole and row.suite in told]
    return sorted(kept, key=lambda row: ("bad", "warn", "").index(row.tone))


def _row(suite: Mapping[str, Any], one: Mapping[str, Any]) -> Row:
    rate, excess = one["failure_rate"], one["excess"]
    return Row(
        words.title(suite["suite"]), "all items" if one["kind"] == "all" else one["name"], KINDS[one["kind"]],
        words.count(one["items"]), words.share(rate["value"]), words.interval("share", rate["low"], rate["high"]),
        words.signed("share", excess["value"]) + " pts" if excess else "–", one["verdict"], one["sentence"],
        TONES.get(one["verdict"], ""), bool(excess) and excess["p"] < CLEAR, one["kind"] == "all",
        one["examples"],
    )  # fmt: skip


def _summary(rows: list[Row]) -> str:
    counts = Counter(row.verdict for row in rows)
    told = [f"{verdict}: {counts[verdict]}" for verdict in TONES if counts[verdict]]
    rest = sum(counts[verdict] for verdict in counts.keys() - TONES.keys())
    return f"{len(rows)} slices: {'; '.join([*told, f'without a cause: {rest}'])}."


def lines(found: Mapping[str, Any]) -> list[str]:
    """For the terminal: a block for each finding, then how many slices there is nothing to say of."""
    seen = worded(found)
    blocks = [_lines(row) for row in seen.findings]
    few = Counter(row.verdict for row in seen.others)
    rest = ", ".join(f"{verdict}: {count}" for verdict, count in few.items())
    why = [f"no learning curve: {seen.why_not}"] if seen.why_not else []
    return [f"{seen.stage}: {seen.summary}", *why, *(line for block in blocks for line in block),
            *([f"  other slices, in diagnosis.json: {rest}"] if rest else [])]  # fmt: skip


def _lines(row: Row) -> list[str]:
    size = f"{row.size} items, fails {row.rate} ({row.span})"
    more = f", {row.excess} against the rest" if row.excess != "–" else ""
    return [f"  {row.suite} / {row.name}: {row.verdict}", f"      {size}{more}; {row.sentence}"]
