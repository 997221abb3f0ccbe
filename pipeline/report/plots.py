"""Loss curves as plain SVG numbers: the template draws them in the page's own colours, so they follow light and dark.

Written by hand rather than with a plotting library: a curve is one polyline, and nothing heavy is imported for it.
"""

import math
from dataclasses import dataclass
from typing import Any

from pipeline.report.words import finite

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 26
SERIES = {"loss": "training loss", "rewards/accuracies": "chosen preferred, share of pairs"}
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


def curves(history: list[dict[str, Any]]) -> list[Curve]:
    """A curve for each known series with at least two finite points."""
    found = []
    for key, name in SERIES.items():
        pairs = [(finite(row.get("step")), finite(row.get(key))) for row in history]
        points = [(step, value) for step, value in pairs if step is not None and value is not None]
        if len(points) > 1 and points[-1][0] > points[0][0]:
            found.append(curve(name, points))
    return found


def curve(name: str, points: list[tuple[float, float]]) -> Curve:
    steps, values = [step for step, _ in points], [value for _, value in points]
    smooth = moving_average(values)
    xticks, yticks = ticks(0.0, max(steps), 4), ticks(min(values), max(values), 4)
    low, high = min(yticks[0], min(values)), max(yticks[-1], max(values))

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / max(steps), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    def path(line: list[float]) -> str:
        return " ".join(f"{x(step)},{y(value)}" for step, value in zip(steps, line, strict=True))

    labels = ([(x(tick), f"{tick:g}") for tick in xticks], [(y(tick), f"{tick:g}") for tick in yticks])
    return Curve(name, path(values), path(smooth), *labels, smooth[0], smooth[-1], spark(smooth))


def moving_average(values: list[float]) -> list[float]:
    """Centred mean over a tenth of the curve, narrower at its ends."""
    half = len(values) // 20
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
