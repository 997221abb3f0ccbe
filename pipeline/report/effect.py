"""The effect table: every suite on every model, with intervals, and the change of each model against the start."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.report import words
from pipeline.report.changes import changes
from pipeline.report.collect import Node, Run
from pipeline.report.words import Change


@dataclass(frozen=True)
class Cell:
    """One model on one suite, ready to print; `tone` is good, bad, flat or empty (nothing to compare)."""

    value: str
    interval: str = ""
    change: str = ""
    span: str = ""
    tone: str = ""
    word: str = ""
    arrow: str = ""


@dataclass(frozen=True)
class Move:
    """A suite's summary for the start and for another model, and the change between them."""

    before: dict[str, Any]
    after: dict[str, Any]
    change: Change


@dataclass
class Row:
    """One suite (or one slice of it) with a cell for each measured model."""

    name: str
    about: str = ""
    direction: str = ""
    size: str = ""
    baselines: list[tuple[str, str]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    slices: list["Row"] = field(default_factory=list)


@dataclass
class Effect:
    """The measured models (the start first), the rows, and how the last model moved on each suite."""

    models: list[str]
    unmeasured: list[Node]
    rows: list[Row]
    last: dict[str, Move]
    summaries: dict[str, dict[str, Any]]  # model -> its summary.json


def effect(run: Run, cache: Path) -> Effect:
    """Every measured model on every suite. `cache`: where changes between two evaluations are kept."""
    read = {node.name: summary_of(node) for node in run.models}
    measured = [node for node in run.models if read[node.name]]
    against = {node.name: _changes(run, node, cache) for node in measured}
    suites = _ordered(suite for node in measured for suite in read[node.name])
    rows = [row(s, [(read[n.name].get(s, {}), against[n.name].get(s)) for n in measured]) for s in suites]
    moves = {}
    for suite, change in against[measured[-1].name].items() if measured else ():
        if isinstance(change, Change):
            moves[suite] = Move(read[measured[0].name][suite], read[measured[-1].name][suite], change)
    unmeasured = [n for n in run.models if n not in measured]
    return Effect([n.name for n in measured], unmeasured, rows, moves, {n.name: read[n.name] for n in measured})


def summary_of(node: Node) -> dict[str, Any]:
    """Suite -> what was measured of the model that the node made; empty when nothing was."""
    return node.evaluation.json("results/summary.json") if node.evaluation else {}


def _changes(run: Run, node: Node, cache: Path) -> dict[str, Change | str]:
    start = run.models[0].evaluation
    if start is None or start.folder is None or node.evaluation is None or node.evaluation is start:
        return {}
    return changes(start, node.evaluation, cache)


def _ordered(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def row(suite: str, results: list[tuple[dict[str, Any], Change | str | None]]) -> Row:
    """A suite's row. `results`: for each measured model its summary of the suite (empty if missing) and its change."""
    one = next(result for result, _ in results if result)
    metric = str(one.get("metric"))
    made = Row(words.title(suite), words.METRICS.get(metric, metric))
    made.direction = "higher is better" if one.get("higher_is_better") else "lower is better"
    made.size = f"{words.count(one.get('n'))} items in {words.count(one.get('clusters'))} groups"
    rules = one.get("baselines") or {}
    made.baselines = [(words.RULES.get(name, name), words.metric_value(metric, value)) for name, value in rules.items()]
    made.cells = [cell(result, change) for result, change in results]
    for name in _worst_first([result for result, _ in results]):
        parts = [(result.get("slices") or {}).get(name, {}) for result, _ in results]
        size = words.count(next(part.get("n") for part in parts if part))
        cells = [cell({"metric": metric, **part}, None) for part in parts]
        made.slices.append(Row(name.replace("=", ": ", 1), size=size, cells=cells))
    return made


def _worst_first(results: list[dict[str, Any]]) -> list[str]:
    """Names of a suite's slices, by the value of the last model that has them."""
    values: dict[str, float] = {}
    for result in results:
        sign = 1 if result.get("higher_is_better") else -1
        parts = (result.get("slices") or {}).items()
        values |= {name: sign * value for name, part in parts if (value := words.finite(part.get("value"))) is not None}
    return sorted(values, key=lambda name: (values[name], name))


def cell(result: dict[str, Any], change: Change | str | None) -> Cell:
    metric = str(result.get("metric"))
    value = words.metric_value(metric, result.get("value"))
    span = words.interval(metric, result.get("low"), result.get("high"))
    if change is None:
        return Cell(value, span)
    if isinstance(change, str):
        return Cell(value, span, span=change, tone="flat", change="not comparable:")
    tone = judge(result, change)
    word = {"good": "better", "bad": "worse", "flat": "no clear change"}[tone]
    arrow = "▲" if change.change > 0 else "▼" if change.change < 0 else "•"
    return Cell(value, span, words.change_value(metric, change), words.change_span(metric, change), tone, word, arrow)


def judge(result: dict[str, Any], change: Change) -> str:
    """good, bad, or flat when the interval holds zero."""
    if not change.clear:
        return "flat"
    return "good" if (change.change > 0) == bool(result.get("higher_is_better")) else "bad"


@dataclass(frozen=True)
class Extreme:
    """The suite that changed most in one direction."""

    name: str
    before: str
    after: str
    change: str
    span: str

    def __str__(self) -> str:
        return f"{self.name} from {self.before} to {self.after} ({self.change}, 95 % interval {self.span})"


def tones(found: Effect) -> dict[str, list[str]]:
    """The suites of the last model by good, bad and flat, the largest change first."""
    ranked = sorted(found.last.items(), key=lambda pair: -abs(pair[1].change.change))
    by: dict[str, list[str]] = {"good": [], "bad": [], "flat": []}
    for suite, move in ranked:
        by[judge(move.after, move.change)].append(suite)
    return by


def extreme(found: Effect, tone: str) -> Extreme | None:
    """The last model's largest clear change for better (`good`) or worse (`bad`)."""
    suites = tones(found)[tone]
    if not suites:
        return None
    move = found.last[suites[0]]
    metric = str(move.after.get("metric"))
    before, after = (words.metric_value(metric, summary.get("value")) for summary in (move.before, move.after))
    change, span = words.change_value(metric, move.change), words.change_span(metric, move.change)
    return Extreme(words.title(suites[0]), before, after, change, span)
