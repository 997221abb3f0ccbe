"""How small a change a suite can see: the minimum detectable effect of a paired comparison, at a confidence and power.

A change is seen when its test (`pipeline/judging/significance.py`) gives p <= 1 - confidence; `POWER` says in how many
of such comparisons a real change of the stated size is seen. Every size is in the units of the change: absolute, for
perplexity relative. Infinite where no change at all would be seen.
"""

import math
from statistics import NormalDist

from pipeline.judging.statistics import Floats, Items, Pairs, against_mean, paired

POWER = 0.8


def detectable(a: Items, b: Items, metric: str, confidence: float = 0.95, tests: int = 1) -> float:
    """The smallest change that is seen, from how much the two models differ item by item.

    `tests`: p is compared with (1 - confidence) / tests, the first step of Holm's correction. Where the two models do
    not differ on any item, nothing is known of how items vary, and the answer is that of `detectable_alone`.
    """
    pairs = paired(a, b)
    if not pairs.binary and not pairs.differences.any():
        return detectable_alone(a, metric, confidence, tests)
    return _smallest(standard_error(pairs) ** 2, pairs, metric, (1 - confidence) / tests)


def detectable_alone(items: Items, metric: str, confidence: float = 0.95, tests: int = 1) -> float:
    """The same before there is a second model: at most this, as if its scores had nothing to do with these."""
    pairs = against_mean(items)
    return _smallest(2 * standard_error(pairs) ** 2, pairs, metric, (1 - confidence) / tests)


def standard_error(pairs: Pairs) -> float:
    """Of the weighted mean difference, clusters being independent: the linearised one of a ratio of sums."""
    differences, weights, clusters = pairs.differences, pairs.sums[:, 2], len(pairs.sums)
    if clusters < 2:
        return math.inf
    residuals: Floats = differences - differences.sum() / weights.sum() * weights
    return math.sqrt(clusters / (clusters - 1) * float((residuals**2).sum())) / float(weights.sum())


def _smallest(variance: float, pairs: Pairs, metric: str, alpha: float) -> float:
    """The change at which (critical value + quantile of the power) standard errors are reached, by bisection."""
    if not math.isfinite(variance) or (variance == 0 and not pairs.binary):  # one cluster, or scores that never vary
        return math.inf
    low, high = 0.0, 1.0
    while not pairs.binary and not _seen(high, variance, pairs, alpha):
        high *= 2
    if not _seen(high, variance, pairs, alpha):
        return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _seen(middle, variance, pairs, alpha) else (middle, high)
    return math.expm1(high) if metric == "perplexity" else high


def _seen(size: float, variance: float, pairs: Pairs, alpha: float) -> bool:
    """Whether a change of this size is seen with `POWER`.

    On items that are right or wrong a change is itself variance: whoever loses a share of them disagrees with the
    other model on those (Connor, 1987). McNemar's exact test moves in whole items, hence one of them is taken off.
    """
    null = variance + (pairs.share * size if pairs.binary else 0.0)
    real = variance + (pairs.share * size * (1 - size) if pairs.binary else 0.0)
    exact = pairs.binary and pairs.alone
    taken = pairs.share if exact else 0.0
    critical = NormalDist().inv_cdf(1 - alpha / 2) if exact else student(1 - alpha / 2, len(pairs.sums) - 1)
    return size - taken >= critical * math.sqrt(null) + NormalDist().inv_cdf(POWER) * math.sqrt(real)


def student(probability: float, degrees: int) -> float:
    """Quantile of Student's t by its expansion around the normal one (Abramowitz and Stegun, 26.7.5)."""
    z = NormalDist().inv_cdf(probability)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3
