"""Intervals of numbers that are no plain mean: a bootstrap that draws whole clusters and computes the number anew."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.judging.statistics import Items, estimate

RESAMPLES, SEED = 500, 20261125

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def clustered(
    statistic: Callable[[Places], float], clusters: Sequence[str], confidence: float = 0.95
) -> dict[str, Any]:
    """`statistic` of the places of n items, with its percentile interval over resampled clusters (Efron 1979).

    It may be nan for a draw that lacks what it needs; such draws are left out.
    """
    _, of = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    members = np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of))[:-1])
    rng = np.random.default_rng(SEED)
    drawn = [
        statistic(np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))]))
        for _ in range(RESAMPLES)
    ]
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return {
        "value": float(statistic(np.arange(len(of)))), "low": float(low), "high": float(high), "n": len(of),
    }  # fmt: skip


def mean_of(values: Sequence[float], clusters: Sequence[str]) -> dict[str, Any]:
    """The mean with its interval, as suites have it: values that are all 0 or all 1 get the exact one."""
    known = np.asarray(values, dtype=float)
    found = estimate(Items([str(k) for k in range(len(known))], clusters, known, np.ones(len(known))), "mean")
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def mean_drop(values: Sequence[float], clusters: Sequence[str]) -> dict[str, Any]:
    """The mean of differences; where none of them differs from 0, they might have done so either way."""
    found = mean_of(values, clusters)
    return found if any(values) else {**found, "low": -found["high"]}
