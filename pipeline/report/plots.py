"""Curves as plain SVG numbers: the template draws them in the page's own colours, so they follow light and dark.

Written by hand rather than with a plotting library: a curve is one polyline, and nothing heavy is imported for it.
"""

import math
from dataclasses import dataclass
from typing import Any

from pipeline.report.words import finite

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 26
SERIES = {"loss": "training loss", "rewards/accuracies": "chosen preferred, share of pairs",
          "accuracy": "chosen preferred, share of pairs"}  # fmt: skip
POINTS = 150  # of a drawn risk curve
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Curve:
    """One curve in pixels of a WIDTH x HEIGHT box, with its ticks [(pixel, label)]."""

    name: str
    raw: str  # points of the logged values
    smooth: str  # points of their moving average
    xticks: list[tuple[float, str]]
    yticks: list[tuple[float, str]]
    first: float
    last: float
    spark: str  # the same as a line of block characters
    level: float | None = None  # pixel of a line across the box


@dataclass(frozen=True)
class Pair:
    """Two series over the same x, each with its own axis: left (one) and right (other)."""

    one: str  # points of the smoothed series
    other: str
    dots: list[tuple[float, float, float]]  # (x, one, other) of what was logged
    xticks: list[tuple[float, str]]
    left: list[tuple[float, str]]
    right: list[tuple[float, str]]
    turn: float | None  # pixel of the x that is marked


@dataclass(frozen=True)
class Point:
    """One bin of a reliability diagram: a dot with the interval of its accuracy, above a bar as high as its share."""

    x: float
    y: float
    low: float
    high: float
    bar: tuple[float, float, float, float]  # x, y, width, height
    title: str


@dataclass(frozen=True)
class Reliability:
    """Accuracy over confidence; on the diagonal a probability means what it says."""

    points: list[Point]
    xticks: list[tuple[float, str]]
    yticks: list[tuple[float, str]]
    diagonal: tuple[float, float, float, float]  # x1, y1, x2, y2
    unit: str  # what is counted


@dataclass(frozen=True)
class Risk:
    """Errors among the answers that are given, over the share of questions that get one: {name: points} of a line."""

    lines: dict[str, str]
    xticks: list[tuple[float, str]]
    yticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Learning:
    """Failures over the share of the data: points with intervals, the line through them, and on to twice the data."""

    points: list[tuple[float, float, float, float]]  # x, y, low, high of what was measured
    line: str
    ahead: str  # the line from the last point to the next one
    next: tuple[float, float, float, float]
    xticks: list[tuple[float, str]]
    yticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Axis:
    """From values to pixels: `low` is drawn at pixel `start`, `high` at pixel `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return round(self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low), 1)


def upright(values: list[float]) -> tuple[Axis, list[tuple[float, str]]]:
    """The axis that holds the values from the bottom to the top of the box, with its ticks."""
    marks = ticks(min(values), max(values), 4)
    axis = Axis(min(marks[0], min(values)), max(marks[-1], max(values)), HEIGHT - BOTTOM, TOP)
    return axis, [(axis.at(mark), f"{mark:g}") for mark in marks]


def curves(history: list[dict[str, Any]]) -> list[Curve]:
    """A curve for each known series with at least two finite points."""
    found = []
    for key, name in SERIES.items():
        pairs = [(finite(row.get("step")), finite(row.get(key))) for row in history]
        points = [(step, value) for step, value in pairs if step is not None and value is not None]
        if len(points) > 1 and points[-1][0] > points[0][0]:
            found.append(curve(name, points))
    return found


def curve(name: str, points: list[tuple[float, float]], level: float | None = None) -> Curve:
    """`level`: a value that the series is held against, drawn as a line across the box."""
    steps, values = [step for step, _ in points], [value for _, value in points]
    smooth = moving_average(values)
    x = Axis(0.0, max(steps), LEFT, WIDTH - RIGHT)
    y, yticks = upright(values if level is None else [*values, level])

    def path(line: list[float]) -> str:
        return " ".join(f"{x.at(step)},{y.at(value)}" for step, value in zip(steps, line, strict=True))

    xticks = [(x.at(tick), f"{tick:g}") for tick in ticks(0.0, max(steps), 4)]
    across = None if level is None else y.at(level)
    return Curve(name, path(values), path(smooth), xticks, yticks, smooth[0], smooth[-1], spark(smooth), across)


def pair(xs: list[float], ones: list[float], others: list[float], turn: float | None = None) -> Pair:
    """Both series as functions of `xs`: means of neighbours in x, over a fifth of the points. `turn`: the x to mark."""
    xs, ones, others = map(list, zip(*sorted(zip(xs, ones, others, strict=True)), strict=True))
    marks = ticks(min(xs), max(xs), 5)
    x = Axis(min(marks[0], *xs), max(marks[-1], *xs), LEFT, WIDTH - LEFT)
    (left, left_ticks), (right, right_ticks) = upright(ones), upright(others)
    across = [x.at(value) for value in moving_average(xs, 5)]

    def path(axis: Axis, line: list[float]) -> str:
        return " ".join(f"{at},{axis.at(value)}" for at, value in zip(across, moving_average(line, 5), strict=True))

    dots = [(x.at(at), left.at(one), right.at(other)) for at, one, other in zip(xs, ones, others, strict=True)]
    xticks = [(x.at(mark), f"{mark:g}") for mark in marks]
    marked = None if turn is None else x.at(turn)
    return Pair(path(left, ones), path(right, others), dots, xticks, left_ticks, right_ticks, marked)


def reliability(bins: list[dict[str, Any]], start: float = 0.5, unit: str = "pairs") -> Reliability:
    """The diagram of bins {low, high, n, confidence, accuracy, interval}; an empty bin has no point.

    `start`: where the axis of confidence begins. Without edges or an interval a bin is a dot alone.
    """
    x, y = Axis(start, 1.0, LEFT, WIDTH - 2 * RIGHT), Axis(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    most = max(part["n"] for part in bins)
    points = [_point(part, x, y, most, unit) for part in bins if part["n"]]
    across = [start + i * (1 - start) / 5 for i in range(6)]
    xticks, yticks = [(x.at(mark), _percent(mark)) for mark in across], _shares(y, 1.0)
    return Reliability(points, xticks, yticks, (x.at(start), y.at(start), x.at(1.0), y.at(1.0)), unit)


def _point(part: dict[str, Any], x: Axis, y: Axis, most: int, unit: str) -> Point:
    sure, right = part["confidence"], part["accuracy"]
    left, end = x.at(part.get("low", sure)) + 1, x.at(part.get("high", sure)) - 1
    tall = 0.3 * (y.at(0.0) - y.at(1.0)) * part["n"] / most
    low, high = part.get("interval") or (right, right)
    title = f"{part['n']} {unit}: {100 * sure:.0f} % sure, {100 * right:.0f} % right"
    bar = (left, round(y.at(0.0) - tall, 1), round(max(0.0, end - left), 1), round(tall, 1))
    return Point(x.at(sure), y.at(right), y.at(low), y.at(high), bar, title)


def risk(curves: dict[str, list[dict[str, Any]]]) -> Risk | None:
    """The selective-risk curves {name: [{coverage, risk}]}; None without one. Long ones are drawn with fewer points."""
    if not curves:
        return None
    highest = max(point["risk"] for points in curves.values() for point in points)
    top = next((mark for mark in (0.1, 0.2, 0.5) if highest <= mark), 1.0)
    x, y = Axis(0.0, 1.0, LEFT, WIDTH - 2 * RIGHT), Axis(0.0, top, HEIGHT - BOTTOM, TOP)

    def line(points: list[dict[str, Any]]) -> str:
        step = max(1, len(points) // POINTS)
        kept = [*points[:-1:step], points[-1]]
        return " ".join(f"{x.at(point['coverage'])},{y.at(point['risk'])}" for point in kept)

    return Risk({name: line(points) for name, points in curves.items()}, _shares(x, 1.0), _shares(y, top))


def learning(rates: list[dict[str, float]], ahead: dict[str, float]) -> Learning:
    """`rates`: [{share, value, low, high}] up to the whole, `ahead`: {value, low, high} at twice of it."""
    highest = max(point["high"] for point in (*rates, ahead))
    top = next((mark for mark in (0.1, 0.2, 0.5) if highest <= mark), 1.0)
    shares = [point["share"] for point in rates]
    x = Axis(math.log2(shares[0]) - 0.3, 1.3, LEFT, WIDTH - RIGHT)
    y = Axis(0.0, top, HEIGHT - BOTTOM, TOP)

    def placed(share: float, rate: dict[str, float]) -> tuple[float, float, float, float]:
        return x.at(math.log2(share)), y.at(rate["value"]), y.at(rate["low"]), y.at(rate["high"])

    points = [placed(point["share"], point) for point in rates]
    last = placed(2.0, ahead)
    xticks = [(x.at(math.log2(share)), _percent(share)) for share in (*shares, 2.0)]
    line = " ".join(f"{point[0]},{point[1]}" for point in points)
    return Learning(points, line, f"{points[-1][0]},{points[-1][1]} {last[0]},{last[1]}", last, xticks, _shares(y, top))


def _shares(axis: Axis, top: float) -> list[tuple[float, str]]:
    """Six ticks from 0 to `top`."""
    return [(axis.at(i * top / 5), _percent(i * top / 5)) for i in range(6)]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def moving_average(values: list[float], parts: int = 10) -> list[float]:
    """Centred mean over a tenth of the curve (one of its `parts`), narrower at its ends."""
    half = len(values) // (2 * parts)
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers that cover low..high from below; at least two."""
    span = (high - low) or abs(high) or 1.0
    size = 10 ** math.floor(math.log10(span / wanted))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= wanted)
    start = math.floor(low / step + 1e-9)
    marks = [round((start + i) * step, 10) for i in range(wanted + 2)]
    kept = [mark for mark in marks if mark <= high + 1e-9 * span]
    return kept if len(kept) > 1 else marks[:2]


def spark(values: list[float], width: int = 24) -> str:
    """The curve as up to `width` block characters."""
    picked = [values[i * (len(values) - 1) // (min(width, len(values)) - 1)] for i in range(min(width, len(values)))]
    low, span = min(picked), (max(picked) - min(picked)) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in picked)
