"""Whether a probability means what it says: a reliability table, the expected calibration error, and the Brier score.

Which answer of a pair is called the first is arbitrary, so that every value here stays the same when a pair is turned
round: confidence is the probability of the answer that the model prefers, and what is compared with it is whether that
answer was the better one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10
Z = 1.959964  # of the normal distribution, two-sided 95 %


@dataclass(frozen=True)
class Bin:
    """Pairs whose confidence is in [low, high), the last bin with its end; means are 0 where there are none.

    `interval`: of the accuracy, 95 %.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """`ece`: mean distance of confidence and accuracy over the bins, weighted by their pairs (Guo et al. 2017).

    `brier`: mean squared distance of probability and outcome, 0.25 for someone who always says one half.
    """

    ece: float
    brier: float
    bins: list[Bin]


def calibration(probability: Sequence[float], outcome: Sequence[float], bins: int = BINS) -> Calibration:
    """Of N probabilities that the first answer is better, with N outcomes: 1 if it is, 0 if not, a share of votes."""
    p, y = np.asarray(probability, dtype=float), np.asarray(outcome, dtype=float)
    confidence, right = np.maximum(p, 1 - p), np.where(p >= 0.5, y, 1 - y)
    right = np.where(p == 0.5, 0.5, right)  # no preference is half right whichever answer is better
    place = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    table = [_bin(number, bins, confidence[place == number], right[place == number]) for number in range(bins)]
    ece = sum(part.n * abs(part.confidence - part.accuracy) for part in table) / len(p)
    brier = float(np.mean(y * (1 - p) ** 2 + (1 - y) * p**2))
    return Calibration(float(ece), brier, table)


def _bin(number: int, bins: int, confidence: Floats, right: Floats) -> Bin:
    low, high = (0.5 + edge / (2 * bins) for edge in (number, number + 1))
    n = len(confidence)
    means = (float(confidence.mean()), float(right.mean())) if n else (0.0, 0.0)
    return Bin(low, high, n, *means, wilson(means[1], n))


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share of n (Wilson 1927); 0 to 1 for n = 0."""
    if not n:
        return 0.0, 1.0
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)
