"""Is a paired change more than luck? p-values of two models on the same items, and Holm's correction of several.

All tests are two-sided and ask one thing: were the two models the same, how often would a change as large come out?
Under that, which of the two scores of an item belongs to which model is arbitrary, so the differences of whole
clusters change sign freely. For items on their own that are right or wrong this is McNemar's test, exact by the
binomial distribution; for everything else the signs are drawn. Both hold whatever the size of the suite, which the
percentiles of a bootstrap do not on a few dozen items. numpy only.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FLIPS = 4095  # random sign vectors; with the observed one, p is a multiple of 1 / 4096
ENUMERATED = 12  # clusters up to which every sign vector is taken instead
EXACT = 1000  # discordant pairs up to which McNemar's test is the exact one
SEED = 20261125


def mcnemar(better: int, worse: int) -> float:
    """p from the numbers of items that only the one and only the other model got right (McNemar, 1947).

    Exact up to `EXACT` such items, beyond that chi-squared with Edwards' continuity correction, where both agree to
    three digits. The mid-p variant has more power on few items but does not keep its promise on each of them.
    """
    n = better + worse
    if n <= EXACT:
        ways = sum(math.comb(n, k) for k in range(min(better, worse) + 1))
        return min(1.0, ways / 2 ** (n - 1)) if n else 1.0
    chi2 = (abs(better - worse) - 1) ** 2 / n
    return math.erfc(math.sqrt(max(chi2, 0.0) / 2))


def sign_flip(differences: Floats) -> float:
    """p of a sum of differences, one for each cluster, when each sign is as likely as the other (Fisher, 1935).

    All sign vectors for up to `ENUMERATED` clusters, else `FLIPS` drawn ones, the observed one counted among them
    (Phipson and Smyth, 2010).
    """
    kept = differences[differences != 0]
    if not len(kept):
        return 1.0
    reached = np.abs(_signs(len(kept)) @ kept) >= abs(kept.sum()) * (1 - 1e-12)
    if len(kept) <= ENUMERATED:  # the observed one is among them
        return float(reached.mean())
    return (1 + int(reached.sum())) / (1 + FLIPS)


@lru_cache(maxsize=8)
def _signs(n: int) -> NDArray[np.float32]:
    """Vectors of +1 and -1 in rows: all 2^n, or `FLIPS` drawn under a fixed seed."""
    if n <= ENUMERATED:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        bits = np.random.default_rng([SEED, n]).integers(0, 2, (FLIPS, n), dtype=np.int8)
    return (2 * bits - 1).astype(np.float32)


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted so that one at or below alpha comes out in at most alpha of families without any change.

    Holm, 1979: whatever their dependence, and never less powerful than Bonferroni's.
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted
