"""How far two distributions over the same classes are from one another."""

import numpy as np

SMALLEST = 0.5  # rows that an empty class counts as, so that its logarithm exists
SURE = 3.3  # standard deviations: one false alarm in two thousand


def jensen_shannon(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon divergence of two rows of counts, in bits: 0 for the same shares, 1 for nothing in common.

    JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2 (Lin 1991). 0 where either has no rows.
    """
    if not first.sum() or not second.sum():
        return 0.0
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    return float((_kl(p, middle) + _kl(q, middle)) / 2)


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    held = p > 0
    return float((p[held] * np.log2(p[held] / q[held])).sum())


def psi(first: np.ndarray, second: np.ndarray) -> float:
    """Population stability index of two rows of counts: sum of (p - q) ln(p / q).

    Siddiqi 2006, Credit Risk Scorecards: below 0.1 there is no shift to speak of, from 0.25 it is large. A class
    that one side lacks counts as half a row there. 0 where either has no rows.
    """
    if not first.sum() or not second.sum():
        return 0.0
    held = (first + second) > 0
    p, q = (np.maximum(counts[held], SMALLEST) for counts in (first, second))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def chance(first: np.ndarray, second: np.ndarray) -> float:
    """The PSI that two samples of one distribution hardly ever exceed.

    Then PSI / (1/n + 1/m) is about chi-squared with one degree of freedom fewer than classes (Yurdakul and Naranjo
    2020), of which this is the mean and SURE standard deviations.
    """
    if not first.sum() or not second.sum():
        return float("inf")
    free = max(1, int(((first + second) > 0).sum()) - 1)
    return float((1 / first.sum() + 1 / second.sum()) * (free + SURE * np.sqrt(2 * free)))
