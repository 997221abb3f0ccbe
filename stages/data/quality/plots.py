"""Histograms as plain SVG numbers in a box as wide as the report's curves; the template draws them in its colours."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.plots import LEFT, RIGHT, WIDTH, spark, ticks
from pipeline.report.words import count

HEIGHT, CEILING, FLOOR = 216, 24, 172  # of the box, of the highest bar, of the axis
BINS = 25  # about as many
SKEWED = 8  # largest value / median, from which the axis is logarithmic
LABELS = 6  # at most, on a logarithmic axis


@dataclass(frozen=True)
class Bar:
    """One bin in pixels, and in words."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Histogram:
    """Bars with ticks [(pixel, label)]; `limit` is the pixel of max_length, where it lies on the axis."""

    name: str
    across: str  # what the axis shows, with its unit
    upward: str  # what is counted
    bars: list[Bar]
    xticks: list[tuple[float, str]]
    yticks: list[tuple[float, str]]
    limit: float | None
    summary: str
    spark: str


@dataclass(frozen=True)
class Axis:
    """Bins of whole numbers: each holds edge <= value < next edge."""

    edges: list[int]
    log: bool

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, here, high = (math.log(v) if self.log else v for v in (self.edges[0], value, self.edges[-1]))
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (here - low) / (high - low), 1)

    def ticks(self) -> list[tuple[float, str]]:
        if self.log:
            return [(self.at(value), count(value)) for value in self._powers()]
        single = self.edges[1] - self.edges[0] == 1  # then a number stands below the middle of its bar
        marks = [mark for mark in ticks(self.edges[0], self.edges[-1], 5) if mark == int(mark)]
        shown = [mark for mark in marks if self.edges[0] <= mark < self.edges[-1] + (not single)]
        return [(self.at(mark + 0.5 * single), count(mark)) for mark in shown]

    def _powers(self) -> list[int]:
        """Round numbers on the axis, as many as have room."""
        found: list[int] = []
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [f * 10**power for power in range(19) for f in factors]
            found = [number for number in found if self.edges[0] <= number <= self.edges[-1]]
            if len(found) <= LABELS:
                break
        return found


def histogram(name: str, numbers: Sequence[int], limit: int = 0) -> Histogram:
    """How often each of `numbers` (at least one; whole, from 0) occurs.

    `name`: a unit and what has it, as in 'tokens per prompt'. `limit`: a number to be marked, 0 = none.
    """
    values = np.asarray(numbers)
    axis = axis_of(int(values.min()), int(values.max()), float(np.median(values)))
    counts = [int(number) for number in np.histogram(values, axis.edges)[0]]
    unit, _, thing = name.partition(" per ")
    return Histogram(
        name=name,
        across=f"{name} (logarithmic)" if axis.log else name,
        upward=f"{thing}s" if thing else "values",
        bars=_bars(axis, counts, unit),
        xticks=axis.ticks(),
        yticks=[(_height(mark, counts), count(mark)) for mark in ticks(0, max(counts), 4) if mark == int(mark)],
        limit=axis.at(limit) if axis.edges[0] < limit < axis.edges[-1] else None,
        summary=_summary(values, unit, thing, limit),
        spark=spark([float(number) for number in counts]) if len(counts) > 1 else "",
    )


def axis_of(low: int, high: int, median: float) -> Axis:
    """Bins over low..high: logarithmic where the largest value is far from the middle one, else of one round width."""
    if low >= 1 and high > SKEWED * median:
        return Axis(list(_growing(low, high)), log=True)
    sizes = (factor * 10**power for power in range(19) for factor in (1, 2, 5))
    size = next(size for size in sizes if high // size - low // size < BINS)
    return Axis([size * step for step in range(low // size, high // size + 2)], log=False)


def _growing(low: int, high: int) -> Iterator[int]:
    """Edges in about equal steps of the logarithm. No bin is narrower than one before it, which would look rare."""
    growth, edge = ((high + 1) / low) ** (1 / BINS) - 1, low
    while edge <= high:
        yield edge
        edge += max(1, round(edge * growth))
    yield edge


def _bars(axis: Axis, counts: Sequence[int], unit: str) -> list[Bar]:
    bars = []
    for low, after, number in zip(axis.edges, axis.edges[1:], counts, strict=False):
        if number:
            left, right, top = axis.at(low), axis.at(after), min(_height(number, counts), FLOOR - 1.0)
            what = f"{count(low)} {unit}" if after == low + 1 else f"{count(low)} to {count(after - 1)} {unit}"
            width = max(1.0, round(right - left - 1, 1))
            bars.append(Bar(left, top, width, round(FLOOR - top, 1), f"{what}: {count(number)}"))
    return bars


def _height(number: float, counts: Sequence[int]) -> float:
    return round(FLOOR - (FLOOR - CEILING) * number / max(counts), 1)


def _summary(values: Any, unit: str, thing: str, limit: int) -> str:
    """'120 prompts of 3 to 95 tokens; median 20, 95 % up to 71'."""
    middle, most = (count(round(float(value))) for value in np.percentile(values, (50, 95)))
    reach = f"{count(int(values.min()))} to {count(int(values.max()))} {unit}"
    over = int((values > limit).sum())
    part = f"{count(over)} ({100 * over / len(values):.1f} %)" if over else "none"
    above = f"; {part} above max_length" if limit else ""
    return f"{count(len(values))} {thing or 'value'}s of {reach}; median {middle}, 95\u00a0% up to {most}{above}"
