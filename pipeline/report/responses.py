"""Response curves of a sweep, drawn in pixels for the page and as rows for the terminal."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.report.plots import LEFT, RIGHT, WIDTH, Axis, spark, ticks, upright
from pipeline.report.words import interval, metric_value
from pipeline.sweeps.response import Point, Response, number

WIDE = 8  # largest over smallest value from which an axis is logarithmic
NAMED = 6  # values that all stand on the axis; of more, round numbers do
INSET = 14  # pixels between the ends of the axis and the first and last value
LETTERS = 12  # of a value's name below the axis


@dataclass(frozen=True)
class Mark:
    """One value of the key: the mean of its cells with the interval, the cells themselves, what it says in words."""

    x: float
    y: float
    low: float
    high: float
    cells: list[float]
    title: str


@dataclass(frozen=True)
class Picture:
    """A response curve in a box of WIDTH x HEIGHT."""

    key: str
    marks: list[Mark]
    line: str  # points of the line through the means; empty where the values are words
    xticks: list[tuple[float, str]]
    yticks: list[tuple[float, str]]
    scale: str  # what the axis below says beside the key


def picture(found: Response) -> Picture:
    places, xticks, scale = _across([point.value for point in found.points])
    heights = [y for point in found.points for y in (point.low, point.high, point.score, *point.cells)]
    y, _ = upright(heights)
    yticks = [(y.at(mark), metric_value(found.metric, mark)) for mark in ticks(min(heights), max(heights), 4)]
    marks = [_mark(point, x, y, found) for point, x in zip(found.points, places, strict=True)]
    line = "" if scale == "words" else " ".join(f"{mark.x},{mark.y}" for mark in marks)
    return Picture(found.key, marks, line, xticks, yticks, "" if scale == "words" else scale)


def _mark(point: Point, x: float, y: Axis, found: Response) -> Mark:
    span = interval(found.metric, point.low, point.high)
    count = f"{len(point.cells)} cells" if len(point.cells) > 1 else "1 cell"
    title = f"{point.value}: {metric_value(found.metric, point.score)} ({span}), {count}"
    cells = [y.at(cell) for cell in point.cells] if len(point.cells) > 1 else []
    return Mark(x, y.at(point.score), y.at(point.low), y.at(point.high), cells, title)


def _across(values: Sequence[str]) -> tuple[list[float], list[tuple[float, str]], str]:
    """Pixels of the values, the ticks, and the scale: words | logarithmic | nothing for a plain axis."""
    numbers = [at for value in values if (at := number(value)) is not None]
    start, end = LEFT + INSET, WIDTH - RIGHT - INSET
    if len(numbers) < len(values):
        step = (WIDTH - RIGHT - LEFT) / len(values)
        places = [round(LEFT + (i + 0.5) * step, 1) for i in range(len(values))]
        return places, [(at, _short(value)) for at, value in zip(places, values, strict=True)], "words"
    factors = min(numbers) > 0 and max(numbers) / min(numbers) >= WIDE
    scaled = [math.log10(at) for at in numbers] if factors else numbers
    axis = Axis(min(scaled), max(scaled), start, end)
    places = [axis.at(at) for at in scaled]
    if len(values) <= NAMED:
        return (
            places,
            [(at, f"{n:.3g}") for at, n in zip(places, numbers, strict=True)],
            "logarithmic" if factors else "",
        )
    marks = [float(n) for n in range(math.ceil(scaled[0]), math.floor(scaled[-1]) + 1)] if factors else []
    marks = marks if len(marks) > 1 else [at for at in ticks(scaled[0], scaled[-1], 4) if scaled[0] <= at <= scaled[-1]]
    return places, [(axis.at(at), f"{10**at if factors else at:.3g}") for at in marks], "logarithmic" if factors else ""


def _short(value: str) -> str:
    return value if len(value) <= LETTERS else value[: LETTERS - 1] + "…"


def lines(found: Sequence[Response]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """(key with its curve in block characters, a row for each value) for the terminal."""
    for response in found:
        scores = [point.score for point in response.points]
        rows: list[tuple[str, ...]] = [
            (point.value, metric_value(response.metric, point.score), interval(response.metric, point.low, point.high),
             f"{len(point.cells)} cell{'s' if len(point.cells) > 1 else ''}")
            for point in response.points
        ]  # fmt: skip
        yield f"{response.key}  {spark(scores)}", rows
