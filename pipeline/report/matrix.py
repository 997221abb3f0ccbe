"""The heat map: every suite after every stage, coloured by how much better or worse than the start it is."""

from dataclasses import dataclass
from typing import Any

from pipeline.report import words
from pipeline.report.collect import Run, read_json
from pipeline.report.words import Change, finite

SHADES = (0.02, 0.05, 0.15)  # a clear change below the first has the faintest shade, from the last on the strongest


@dataclass(frozen=True)
class Square:
    """One suite after one stage. `heat`: good-1 to good-4, bad-1 to bad-4, or empty without a clear change."""

    value: str = "–"
    change: str = ""  # against the start
    heat: str = ""
    told: str = ""
    step: str = ""  # against the stage's own input, where no stage lost more on this suite


@dataclass(frozen=True)
class Matrix:
    """The stages, (suite, direction, a square for each stage) rows, and a sentence for each suite that lost."""

    stages: list[str]
    rows: list[tuple[str, str, list[Square]]]
    causes: list[str]


def matrix(run: Run) -> Matrix | None:
    """What the run wrote as matrix.json, of its models; None where it measured none."""
    found = read_json(run.folder / "matrix.json")
    entries = {(entry["suite"], entry["stage"]): entry for entry in found.get("entries", [])}
    stages = [node.name for node in run.models if any(stage == node.name for _, stage in entries)]
    if not stages:
        return None
    causes = found["caused_by"]
    suites = dict.fromkeys(suite for suite, stage in entries if stage in stages)
    rows = [_row(suite, [entries.get((suite, stage)) for stage in stages], causes.get(suite)) for suite in suites]
    return Matrix(stages, rows, [_cause(entries[suite, stage]) for suite, stage in causes.items() if stage])


def _row(suite: str, entries: list[dict[str, Any] | None], cause: str | None) -> tuple[str, str, list[Square]]:
    higher = next(entry["higher_is_better"] for entry in entries if entry)
    squares = [_square(entry, cause) if entry else Square() for entry in entries]
    return words.title(suite), "higher is better" if higher else "lower is better", squares


def _square(entry: dict[str, Any], cause: str | None) -> Square:
    metric, compared = entry["metric"], entry["against_base"]
    step = _change(entry["against_input"]) if entry["stage"] == cause else None
    lost = f"worse here: {words.change_value(metric, step)}" if step else ""
    value = words.metric_value(metric, entry["value"])
    span = words.interval(metric, entry["low"], entry["high"])
    change = _change(compared)
    if change is None:
        reason = (compared or {}).get("reason", "")
        return Square(value, "not comparable" if reason else "", "", f"95 % interval {span}. {reason}".strip(), lost)
    told = f"95 % interval {span}; change against the start {words.change_span(metric, change)}"
    return Square(value, words.change_value(metric, change), heat(change, entry["higher_is_better"]), told, lost)


def heat(change: Change, higher_is_better: bool) -> str:
    """The class of a square's colour."""
    if not change.clear:
        return ""
    gain = change.change if higher_is_better else -change.change
    return f"{'good' if gain > 0 else 'bad'}-{1 + sum(abs(gain) >= shade for shade in SHADES)}"


def _change(compared: dict[str, Any] | None) -> Change | None:
    values = [finite((compared or {}).get(key)) for key in ("change", "low", "high")]
    change, low, high = values
    return None if change is None or low is None or high is None else Change(change, low, high)


def _cause(entry: dict[str, Any]) -> str:
    """Which stage lost how much on a suite."""
    compared, metric = entry["against_input"], entry["metric"]
    change = _change(compared)
    size = f"{words.change_value(metric, change)} (95 % interval {words.change_span(metric, change)})" if change else ""
    return f"{words.title(entry['suite'])}: {entry['stage']} lost most, {size} against {compared['stage']}"
