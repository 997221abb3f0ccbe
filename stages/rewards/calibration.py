"""The calibration of preferences: of probabilities that the first of two answers is the better one.

Which answer of a pair is called the first is arbitrary, so that every value here stays the same when a pair is turned
round: confidence is the probability of the answer that the model prefers, and what is compared with it is whether that
answer was the better one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.evaluation.reliability import BINS, Bin, brier, calibration_error, equal_width


@dataclass(frozen=True)
class Calibration:
    """`ece` and `brier` as in `stages.evaluation.reliability`; the Brier score is of `probability` itself."""

    ece: float
    brier: float
    bins: list[Bin]


def calibration(probability: Sequence[float], outcome: Sequence[float], bins: int = BINS) -> Calibration:
    """Of N probabilities that the first answer is better, with N outcomes: 1 if it is, 0 if not, a share of votes."""
    p, y = np.asarray(probability, dtype=float), np.asarray(outcome, dtype=float)
    confidence, right = np.maximum(p, 1 - p), np.where(p >= 0.5, y, 1 - y)
    right = np.where(p == 0.5, 0.5, right)  # no preference is half right whichever answer is better
    table = equal_width(confidence, right, bins, start=0.5)
    return Calibration(calibration_error(table), brier(p, y), table)
