"""Shares of small groups whose items are not independent, and how two of them differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """The mean of values between 0 and 1, and how many independent items it is worth."""

    value: float
    size: float


@dataclass(frozen=True)
class Difference:
    """`value` of the one share above the other, its interval, and p of the one not being the larger."""

    value: float
    low: float
    high: float
    p: float


def share(values: Floats, clusters: Sequence[str]) -> Share:
    """The mean with its effective size: n over the design effect of the clusters (Kish 1965), at least their number.

    Where all values are equal there is no effect to estimate, and the clusters themselves are counted.
    """
    if not len(values):
        return Share(0.0, 0.0)
    _, of = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    count, n, mean = int(of.max()) + 1, len(values), float(np.mean(values))
    plain = mean * (1 - mean) / n
    if plain <= 1e-12 or count == 1:
        return Share(mean, float(count))
    apart = np.bincount(of, weights=values - mean)
    robust = count / (count - 1) * float((apart**2).sum()) / n**2
    return Share(mean, float(np.clip(n * plain / max(robust, 1e-12), count, n)))


def difference(one: Share, other: Share, confidence: float = 0.95) -> Difference:
    """Agresti and Caffo (2000): a success and a failure are added to both; right also for few items and shares of 0."""
    (p, n), (q, m) = (((each.value * each.size + 1) / (each.size + 2), each.size + 2) for each in (one, other))
    error = float(np.sqrt(p * (1 - p) / n + q * (1 - q) / m))
    reach = float(norm.ppf((1 + confidence) / 2)) * error
    return Difference(p - q, p - q - reach, p - q + reach, float(norm.sf((p - q) / error)))
