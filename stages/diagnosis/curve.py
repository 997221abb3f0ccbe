"""Learning curves: failures of models trained on a share of the data, and what twice the data would change.

A power law with an irreducible error, c + a x^-b (Hestness et al. 2017), falls by a fixed factor from one doubling of
the data to the next: the last two drops give the next one. Intervals draw whole clusters of items anew, the
same ones at every point; they do not cover another training seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.diagnosis.failures import Floats

RESAMPLES, SEED = 1000, 20261125


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float

    def json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Curve:
    """Failure rates at each share of the data, at twice the data, and the drop from all of it to twice of it."""

    shares: tuple[float, ...]
    rates: tuple[Estimate, ...]
    next: Estimate
    gain: Estimate

    def json(self) -> dict[str, object]:
        rates = [{"share": at, **rate.json()} for at, rate in zip(self.shares, self.rates, strict=True)]
        return {"rates": rates, "next": self.next.json(), "gain": self.gain.json()}


def curve(failed: Floats, shares: Sequence[float], clusters: Sequence[str], confidence: float = 0.95) -> Curve:
    """`failed`: shape (points, items), in the order of `shares`, of which there are at least two, rising to 1."""
    sums = _sums(failed, clusters)
    draws = np.random.default_rng(SEED).integers(0, len(sums), (RESAMPLES, len(sums)))
    drawn = np.stack([column[draws].sum(axis=1) for column in sums.T], axis=1)
    rates, redrawn = _rates(sums.sum(axis=0)[None])[0], _rates(drawn)
    gain, gains = next_drop(rates[None], shares)[0], next_drop(redrawn, shares)
    ahead = np.maximum(redrawn[:, -1] - gains, 0.0)
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)

    def spread(value: float, over: Floats) -> Estimate:
        low, high = np.quantile(over, tails)
        return Estimate(float(value), float(low), float(high))

    points = tuple(spread(rate, redrawn[:, i]) for i, rate in enumerate(rates))
    return Curve(tuple(shares), points, spread(max(0.0, rates[-1] - gain), ahead), spread(gain, gains))


def next_drop(rates: Floats, shares: Sequence[float]) -> Floats:
    """By how much each row of `rates` (..., points) falls over the next doubling, from its last two drops or its last.

    Two points have a law without an irreducible error, and so have drops for which that error would be below 0. What
    did not fall at the end goes on as it went.
    """
    doublings = np.diff(np.log2(np.asarray(shares, dtype=float)))
    drops = -np.diff(rates, axis=-1) / doublings
    last, before = drops[..., -1], drops[..., -2] if drops.shape[-1] > 1 else drops[..., -1] * 0
    end, start = rates[..., -1], np.maximum(rates[..., -2], 1e-12)
    most = end * (1 - (end / start) ** (1 / doublings[-1]))
    ahead = np.where(before > 0, last * np.minimum(1, last / np.maximum(before, 1e-12)), np.inf)
    return np.where(last > 0, np.minimum(ahead, most), last)


def _sums(failed: Floats, clusters: Sequence[str]) -> Floats:
    """Failures at each point, and items, of every cluster: shape (clusters, points + 1)."""
    _, of = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    return np.stack([np.bincount(of, weights=row) for row in (*failed, np.ones(failed.shape[1]))], axis=1)


def _rates(sums: Floats) -> Floats:
    return sums[:, :-1] / sums[:, -1:]
