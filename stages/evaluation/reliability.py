"""Whether a confidence means what it says: bins, calibration error, scores, temperature, and the selective-risk curve.

Numbers only: N confidences and N outcomes in [0, 1], from a language model's choices or a reward model's preferences.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = Sequence[float] | Floats
BINS = 10
Z = 1.959964  # of the normal distribution, two-sided 95 %
LEAST, MOST = math.log(0.02), math.log(50)  # of the logarithm of a temperature


@dataclass(frozen=True)
class Bin:
    """Items whose confidence is in [low, high), the last bin with its end; means are 0 where there are none.

    `interval`: of the accuracy, 95 %.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


def equal_width(confidence: Numbers, right: Numbers, bins: int = BINS, start: float = 0.0) -> list[Bin]:
    """Bins that divide [start, 1] evenly; `start` is what a guess has: 0.5 between two answers."""
    c, r = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    place = np.minimum(((c - start) / (1 - start) * bins).astype(int), bins - 1)
    edges = [start + (1 - start) * edge / bins for edge in range(bins + 1)]
    return [_bin(edges[k], edges[k + 1], c[place == k], r[place == k]) for k in range(bins)]


def equal_mass(confidence: Numbers, right: Numbers, bins: int = BINS) -> list[Bin]:
    """Adaptive bins: as many items in each as can be, in the order of confidence; equal ones stay together."""
    c, r = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    order = np.argsort(c, kind="stable")
    c, r = c[order], r[order]
    cuts = {int(np.searchsorted(c, c[len(c) * k // bins])) for k in range(1, bins)} - {0}
    edges = [0, *sorted(cuts), len(c)]
    return [_bin(float(c[a]), float(c[b]) if b < len(c) else float(c[-1]), c[a:b], r[a:b]) for a, b in pairwise(edges)]


def _bin(low: float, high: float, confidence: Floats, right: Floats) -> Bin:
    n = len(confidence)
    means = (float(confidence.mean()), float(right.mean())) if n else (0.0, 0.0)
    return Bin(low, high, n, *means, wilson(means[1], n))


def calibration_error(bins: Sequence[Bin]) -> float:
    """ECE: mean distance of confidence and accuracy, weighted by the bins' items (Guo et al. 2017)."""
    return sum(part.n * abs(part.confidence - part.accuracy) for part in bins) / sum(part.n for part in bins)


def brier(confidence: Numbers, right: Numbers) -> float:
    """Mean squared distance of confidence and outcome (Brier 1950): 0.25 for someone who always says one half."""
    c, r = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    return float(np.mean(r * (1 - c) ** 2 + (1 - r) * c**2))


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share of n (Wilson 1927); 0 to 1 for n = 0."""
    if not n:
        return 0.0, 1.0
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def padded(values: Sequence[Sequence[float]]) -> Floats:
    """Rows of unequal length as one array (N, K): -inf, a probability of 0, where a row has no value."""
    found = np.full((len(values), max(map(len, values))), -np.inf)
    for row, own in zip(found, values, strict=True):
        row[: len(own)] = own
    return found


def probabilities(values: Floats, temperature: float = 1.0) -> Floats:
    """Softmax of every row of log-likelihoods (N, K) divided by the temperature."""
    scaled = (values - values.max(axis=1, keepdims=True)) / temperature
    grown = np.exp(scaled)
    return grown / grown.sum(axis=1, keepdims=True)


def log_loss(values: Floats, label: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean of -log p(label) under the softmax."""
    scaled = (values - values.max(axis=1, keepdims=True)) / temperature
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(label)), label]))


def fit_temperature(values: Floats, label: NDArray[np.int64]) -> float:
    """The temperature, 0.02 to 50, under which the labels are likeliest (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda log: log_loss(values, label, math.exp(log)), bounds=(LEAST, MOST), method="bounded")
    return math.exp(found.x)


@dataclass(frozen=True)
class Risk:
    """Those of at least this confidence: their share of all, and the share of errors among them."""

    coverage: float
    risk: float
    threshold: float


def risk_curve(confidence: Numbers, right: Numbers) -> list[Risk]:
    """The selective-risk curve, a point for every confidence that occurs, the surest first."""
    c, r = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    order = np.argsort(-c, kind="stable")
    c, wrong = c[order], np.cumsum(1 - r[order])
    last = np.flatnonzero(np.append(c[1:] != c[:-1], True))
    return [Risk((k + 1) / len(c), float(wrong[k] / (k + 1)), float(c[k])) for k in last]


def area_under_risk(confidence: Numbers, right: Numbers) -> float:
    """AURC: mean risk over all coverages 1/N to 1 (Geifman & El-Yaniv 2017); among equals, errors are spread evenly."""
    c, r = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    _, of = np.unique(-c, return_inverse=True)
    wrong = (np.bincount(of, weights=1 - r) / np.bincount(of))[np.sort(of)]
    return float(np.mean(np.cumsum(wrong) / np.arange(1, len(c) + 1)))
