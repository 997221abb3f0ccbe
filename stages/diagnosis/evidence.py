"""What is known of one slice: how often it fails, what training has near it, how those rows agree, its curve."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from pipeline.judging.statistics import Estimate, Items, estimate
from stages.diagnosis.curve import Curve, curve
from stages.diagnosis.failures import Floats, Suite
from stages.diagnosis.lessons import Lesson
from stages.diagnosis.neighbours import Around
from stages.diagnosis.rates import Difference, Share, difference, share
from stages.diagnosis.slices import ALL, DECLARED, Slice


@dataclass(frozen=True)
class Density:
    """Training rows near an item of the slice, over those near one of the rest, and p of there not being fewer."""

    ratio: float
    p: float


@dataclass(frozen=True)
class Evidence:
    """Differences are of the slice against the rest of its suite; None without a rest, or with nothing known.

    `size`: independent items. `covered`: share of items with a training row near, `rows`: different such rows.
    `same_value`: training rows with its column's value, `value_ratio`: these for each item, over the median of the same
    among the column's other values.
    """

    rate: Estimate
    size: float
    excess: Difference | None
    covered: float
    density: Density | None
    rows: int
    same_value: int | None
    value_ratio: float | None
    disagreement: Share
    dispute: Difference | None
    contradiction: tuple[float, float] | None  # mean, and the lower end of its interval
    curve: Curve | None


def gather(
    suite: Suite, one: Slice, around: Around, points: Mapping[float, Floats], lessons: Sequence[Lesson]
) -> Evidence:
    """`points`: share of the data -> failures of the suite's items."""
    inside, rest = one.inside, ~one.inside
    clusters = np.asarray(suite.clusters, dtype=str)

    def part(values: Floats, where: NDArray[np.bool_]) -> Share:
        where = where & ~np.isnan(values)
        return share(values[where], clusters[where])

    failed, disputed = (part(values, inside) for values in (suite.failed, around.disagreement))
    versus = one.kind != ALL
    same, ratio = _same_value(suite, one, lessons)
    return Evidence(
        rate=_interval(suite, inside),
        size=failed.size,
        excess=difference(failed, part(suite.failed, rest)) if versus else None,
        covered=float((around.counts[inside] > 0).mean()),
        density=_density(around.counts, inside, clusters) if versus else None,
        rows=len(np.unique(np.concatenate([around.rows[i] for i in np.flatnonzero(inside)]))),
        same_value=same,
        value_ratio=ratio,
        disagreement=disputed,
        dispute=difference(disputed, part(around.disagreement, rest)) if versus and disputed.size else None,
        contradiction=_mean(around.contradiction[inside], clusters[inside]),
        curve=_curve(suite, inside, points),
    )


def _interval(suite: Suite, inside: NDArray[np.bool_]) -> Estimate:
    places = np.flatnonzero(inside)
    ids, clusters = ([column[i] for i in places] for column in (suite.ids, suite.clusters))
    return estimate(Items(ids, clusters, suite.failed[inside], np.ones(len(places))), "failure rate")


def _density(counts: Floats, inside: NDArray[np.bool_], clusters: NDArray[np.str_]) -> Density:
    """By the test of Mann and Whitney (1947) on means of clusters. The ratio is 1 where nothing is near anything."""
    ours, theirs = (_means(counts[part], clusters[part]) for part in (inside, ~inside))
    usual = float(counts[~inside].mean())
    ratio = float(counts[inside].mean()) / usual if usual else 1.0
    return Density(ratio, float(mannwhitneyu(ours, theirs, alternative="less").pvalue))


def _means(values: Floats, clusters: NDArray[np.str_]) -> Floats:
    _, of = np.unique(clusters, return_inverse=True)
    return np.bincount(of, weights=values) / np.bincount(of)


def _same_value(suite: Suite, one: Slice, lessons: Sequence[Lesson]) -> tuple[int | None, float | None]:
    """Training rows with the slice's value; nothing where no training row has any of the suite's values there.

    A whole suite has a value if all its items share it.
    """
    if one.kind == DECLARED:
        items, rows = _counts(suite, one.column, lessons)
        others = [rows[value] / items[value] for value in items if value != one.value]
        usual = float(np.median(others)) if others else 0.0
        if not rows.total():
            return None, None
        return rows[one.value], rows[one.value] / items[one.value] / usual if usual else None
    if one.kind == ALL:
        shared = [_counts(suite, column, lessons) for column in suite.columns[0]]
        found = [rows.total() for items, rows in shared if list(items.values()) == [len(suite.ids)] and rows.total()]
        return (min(found), None) if found else (None, None)
    return None, None


def _counts(suite: Suite, column: str, lessons: Sequence[Lesson]) -> tuple[Counter[str], Counter[str]]:
    """Value of the column -> items of the suite, and training rows."""
    items = Counter(item[column] for item in suite.columns if column in item)
    return items, Counter(lesson.columns[column] for lesson in lessons if lesson.columns.get(column) in items)


def _mean(values: Floats, clusters: NDArray[np.str_]) -> tuple[float, float] | None:
    """The mean of what is known and the lower end of its 95 % interval, robust for clusters; None for under five."""
    known = ~np.isnan(values)
    values, of = values[known], np.unique(clusters[known], return_inverse=True)[1]
    if len(values) < 5:
        return None
    mean, count = float(values.mean()), int(of.max()) + 1
    apart = np.bincount(of, weights=values - mean)
    error = float(np.sqrt((apart**2).sum() * count / max(1, count - 1))) / len(values)
    return mean, mean - 1.96 * error


def _curve(suite: Suite, inside: NDArray[np.bool_], points: Mapping[float, Floats]) -> Curve | None:
    if len(points) < 2:
        return None
    shares = sorted(points)
    clusters = [suite.clusters[i] for i in np.flatnonzero(inside)]
    return curve(np.stack([points[at][inside] for at in shares]), shares, clusters)
