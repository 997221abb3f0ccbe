"""Near-duplicates among many sets: MinHash signatures in bands, in numpy; candidates are left to be verified.

Broder 1997, "On the resemblance and containment of documents"; the banding is that of Leskovec et al., "Mining of
Massive Datasets", chapter 3. `datasketch` chooses it; its own signatures take a call of Python for each set.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

PERMUTATIONS = 128
WEIGHTS = (0.02, 0.98)  # of false candidates, which verifying takes out, against missed pairs
STEEPEST = 0.95  # threshold above which datasketch finds no banding; a lower one only makes more candidates
COMPARED = 64  # candidates of a set that are verified, those with most bands in common first
CROWD = 256  # sets of a bucket that later ones are compared with
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@cache
def banding(threshold: float) -> tuple[int, int]:
    """(bands, rows of a band)."""
    from datasketch import MinHashLSH

    lsh = MinHashLSH(threshold=min(threshold, STEEPEST), num_perm=PERMUTATIONS, weights=WEIGHTS)
    return lsh.b, lsh.r


def recall(similarity: float, threshold: float) -> float:
    """The probability that two sets of this Jaccard similarity become candidates."""
    bands, rows = banding(threshold)
    return 1 - (1 - similarity**rows) ** bands


def mixed(codes: np.ndarray) -> np.ndarray:
    """Codes (uint64) with every bit depending on every other: the end of splitmix64 (Steele et al. 2014)."""
    codes = (codes ^ (codes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    codes = (codes ^ (codes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return codes ^ (codes >> np.uint64(31))


def band_keys(codes: np.ndarray, starts: np.ndarray, threshold: float) -> np.ndarray:
    """[sets, bands] uint64; two sets with an equal key in a band are candidates.

    `codes`: the sets one after the other, through `mixed`; `starts`: where each begins. No set is empty.
    """
    bands, rows = banding(threshold)
    draws = np.random.default_rng(0).integers(0, 2**64, size=(2, bands, rows), dtype=np.uint64)
    factors, shifts = draws[0] | np.uint64(1), draws[1]
    found = np.zeros((len(starts), bands), dtype=np.uint64)
    for band in range(bands):
        for factor, shift in zip(factors[band], shifts[band], strict=True):
            least = np.minimum.reduceat((codes * factor + shift) >> np.uint64(32), starts)
            found[:, band] = mixed(found[:, band] * _GOLDEN + least)
    return found


def first_like(keys: np.ndarray, alike: Callable[[int, int], bool]) -> Iterator[tuple[int, int]]:
    """(set, an earlier one that it is like), for each set that goes; those that stay are like no other that stays.

    Sets come in their order, and each is compared only with earlier ones that stay.
    """
    staying: dict[int, list[int]] = defaultdict(list)
    for number, buckets in _buckets(keys):
        met = Counter(earlier for bucket in buckets for earlier in staying[bucket])
        nearest = sorted(met, key=lambda earlier: (-met[earlier], earlier))[:COMPARED]
        like = next((earlier for earlier in nearest if alike(earlier, number)), None)
        if like is not None:
            yield number, like
            continue
        for bucket in buckets:
            if len(staying[bucket]) < CROWD:
                staying[bucket].append(number)


def _buckets(keys: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    """(set, its buckets), in order, of the sets that share a bucket with another."""
    if not len(keys):
        return
    numbers, names, taken = [], [], 0
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        repeats = np.diff(keys[order, band]) == 0
        shared = np.append(repeats, False) | np.insert(repeats, 0, False)
        bucket = taken + np.cumsum(np.insert(~repeats, 0, False))
        numbers.append(order[shared])
        names.append(bucket[shared])
        taken = int(bucket[-1]) + 1
    number, name = np.concatenate(numbers), np.concatenate(names)
    order = np.argsort(number, kind="stable")
    number, name = number[order], name[order]
    ends = np.flatnonzero(np.diff(number)) + 1
    for begin, end in zip([0, *ends], [*ends, len(number)], strict=True):
        if begin < end:
            yield int(number[begin]), name[begin:end].tolist()
