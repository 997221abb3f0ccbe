"""Values with their uncertainty from per-item results: a cluster bootstrap, alone or paired. numpy only.

Items that share a source are not independent, so whole clusters are drawn, never single items. All draws use one
fixed seed: the same results always give the same interval. Every function takes the metric's name because one metric
is not a plain mean: perplexity is exp(mean nll), and its change is relative. Whether a change is more than luck is
`Change.p`, from the tests of `pipeline/judging/significance.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.judging.significance import mcnemar, sign_flip

RESAMPLES = 2000
SEED = 20261122

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Items:
    """One suite's results for one model: n ids and clusters, scores and weights of shape (n,)."""

    ids: Sequence[str]
    clusters: Sequence[str]
    scores: Floats
    weights: Floats


@dataclass(frozen=True)
class Estimate:
    """A suite's value with its interval over `n` items in `clusters` clusters."""

    value: float
    low: float
    high: float
    n: int
    clusters: int


@dataclass(frozen=True)
class Change:
    """`value` against `other` on the same items. For perplexity `change` is relative (-0.3 = 30 % lower)."""

    value: float
    other: float
    change: float
    low: float
    high: float
    n: int
    p: float  # how often a change as large comes out between two models that are the same


@dataclass(frozen=True)
class Pairs:
    """Two models on the same items. `sums`: score * weight of the one, of the other, and weight, by cluster."""

    sums: Floats  # shape (clusters, 3)
    binary: bool  # every score is 0 or 1
    alone: bool  # every item is its own cluster and weighs the same
    share: float  # of one item in the variance of a mean over items: 1 / n where all weigh the same

    @property
    def differences(self) -> Floats:
        return self.sums[:, 0] - self.sums[:, 1]

    @property
    def better(self) -> int:
        """Clusters in which the one model scores higher."""
        return int((self.differences > 0).sum())

    @property
    def worse(self) -> int:
        return int((self.differences < 0).sum())


def estimate(items: Items, metric: str, confidence: float = 0.95) -> Estimate:
    """The metric's value and its percentile interval; ValueError without items.

    A bootstrap of results that are all 0 or all 1 has no spread, as if nothing could ever differ. There the interval
    is the exact binomial one (Clopper-Pearson) with the clusters as trials: 0 of 20 gives 0 to 0.17.
    """
    sums = _sums([items.scores * items.weights, items.weights], items.clusters)
    value = float(_level(sums.sum(axis=0), metric))
    low, high = _interval(sums, lambda drawn: _level(drawn, metric), confidence)
    scores = set(np.unique(items.scores))
    if metric != "perplexity" and scores in ({0.0}, {1.0}):
        reach = 1 - ((1 - confidence) / 2) ** (1 / len(sums))
        low, high = (0.0, reach) if scores == {0.0} else (1 - reach, 1.0)
    return Estimate(value, low, high, len(items.ids), len(sums))


def paired_change(a: Items, b: Items, metric: str, confidence: float = 0.95) -> Change:
    """How `a` differs from `b`, matched item by item: both are drawn together, so what is hard for both cancels.

    ValueError when the two do not hold the same items with the same weights and clusters.
    """
    pairs = paired(a, b)
    low, high = _interval(pairs.sums, lambda drawn: _change(drawn, metric), confidence)
    total = pairs.sums.sum(axis=0)
    value, other = float(_level(total[[0, 2]], metric)), float(_level(total[[1, 2]], metric))
    return Change(value, other, float(_change(total, metric)), low, high, len(a.ids), p_value(pairs))


def paired(a: Items, b: Items) -> Pairs:
    """The two models item by item; ValueError when they do not hold the same items with the same weights."""
    b = _matched(a, b)
    binary = bool(np.isin(a.scores, (0, 1)).all() and np.isin(b.scores, (0, 1)).all())
    return _pairs(a, b.scores, binary)


def against_mean(items: Items) -> Pairs:
    """A model beside one that scores its mean on every item: how its scores vary."""
    mean = float(np.average(items.scores, weights=items.weights))
    return _pairs(items, np.full(len(items.ids), mean), bool(np.isin(items.scores, (0, 1)).all()))


def _pairs(a: Items, other: Floats, binary: bool) -> Pairs:
    sums = _sums([a.scores * a.weights, other * a.weights, a.weights], a.clusters)
    alone = len(sums) == len(a.ids) and bool((a.weights == a.weights[0]).all())
    return Pairs(sums, binary, alone, float((a.weights**2).sum() / a.weights.sum() ** 2))


def p_value(pairs: Pairs) -> float:
    """McNemar's test where items are independent, weigh the same and are right or wrong; else signs of clusters."""
    if pairs.binary and pairs.alone:
        return mcnemar(pairs.better, pairs.worse)
    return sign_flip(pairs.differences)


def sampling_share(scores: Floats) -> float:
    """Share of the variance of single answers that lies within prompts, from scores of shape (prompts, samples >= 2).

    0: an answer says all about its prompt; 1: prompts do not differ, only the draws do. NaN where nothing varies. The
    components are those of a one-way random-effects model; a negative one between prompts counts as none.
    """
    within = float(scores.var(axis=1, ddof=1).mean())
    between = max(0.0, float(scores.mean(axis=1).var(ddof=1)) - within / scores.shape[1]) if len(scores) > 1 else 0.0
    return within / (within + between) if within + between else float("nan")


def _matched(a: Items, b: Items) -> Items:
    """`b` in the order of `a`."""
    place = {item: i for i, item in enumerate(b.ids)}
    alone = set(a.ids) ^ set(b.ids)
    if alone or len(place) != len(a.ids) or len(a.ids) != len(b.ids):
        some = ", ".join(sorted(alone)[:3])
        raise ValueError(f"the two models were not measured on the same items; {len(alone)} differ, such as {some}")
    order = [place[item] for item in a.ids]
    b = Items(list(a.ids), [b.clusters[i] for i in order], b.scores[order], b.weights[order])
    if not np.array_equal(a.weights, b.weights) or list(a.clusters) != list(b.clusters):
        raise ValueError("the two models weigh or cluster the items differently (another tokenizer, other data?)")
    return b


def _sums(columns: list[Floats], clusters: Sequence[str]) -> Floats:
    """Each column summed within each cluster: shape (clusters, columns), clusters in the order of their names."""
    if not len(clusters):
        raise ValueError("no items")
    _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    return np.stack([np.bincount(index, weights=column) for column in columns], axis=1)


def _level(sums: Floats, metric: str) -> Floats:
    """The metric from (..., [score * weight, weight])."""
    mean = sums[..., 0] / sums[..., 1]
    return np.exp(mean) if metric == "perplexity" else mean


def _change(sums: Floats, metric: str) -> Floats:
    """The metric's change from (..., [score * weight of a, of b, weight])."""
    a, b = sums[..., 0] / sums[..., 2], sums[..., 1] / sums[..., 2]
    return np.expm1(a - b) if metric == "perplexity" else a - b


def _interval(sums: Floats, statistic: Callable[[Floats], Floats], confidence: float) -> tuple[float, float]:
    """Percentiles of the statistic over resampled clusters."""
    draws = _draws(len(sums))
    drawn = np.stack([column[draws].sum(axis=1) for column in sums.T], axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistic(drawn), [tail, 1 - tail])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _draws(clusters: int) -> NDArray[np.int32]:
    """Which clusters each resample holds: shape (RESAMPLES, clusters)."""
    return np.random.default_rng(SEED).integers(0, clusters, (RESAMPLES, clusters), dtype=np.int32)
