"""Near-duplicates: texts whose sets of 5-word shingles overlap. Exact, and fast enough to run each time."""

import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

WORD = re.compile(r"[a-z0-9]+")
SIZE = 5  # words in a shingle
LEAST_ALIKE = 0.5  # a near-duplicate has at least this similarity, whatever the threshold
NOT_LATIN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\x00-\x7f]+")  # first: no spaces between words
KNOWN = 1 << 20  # words whose hashes are kept
_MULTIPLIER = np.uint64(6364136223846793005)
_codes: dict[str, int] = {}  # word -> its hash


def shingles(text: str) -> np.ndarray:
    """Sorted 64-bit hashes of the text's 5-word shingles; a shorter text is one shingle."""
    words = WORD.findall(text.lower())
    if len(_codes) > KNOWN:
        _codes.clear()
    for word in set(words).difference(_codes):
        data = word.encode()
        _codes[word] = zlib.crc32(data) << 32 | zlib.adler32(data)
    codes = np.fromiter(map(_codes.__getitem__, words), dtype=np.uint64, count=len(words))
    size = max(1, min(SIZE, len(codes)))
    total = np.zeros(max(0, len(codes) - size + 1), dtype=np.uint64)
    for offset in range(size):
        total = total * _MULTIPLIER + codes[offset : offset + len(total)]
    return np.unique(total)


def spelt(text: str) -> str:
    """The text with letters beyond ASCII spelt out in its digits, so that `shingles` reads every language."""
    return text if text.isascii() else NOT_LATIN.sub(_digits, text.lower())


def _digits(letters: re.Match[str]) -> str:
    code = letters.group().encode(errors="surrogatepass").hex()
    return f" {code} " if letters.group() >= "\u3040" else code


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Size of the intersection over size of the union; 0 where either is empty."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common) if common else 0.0


def contained(a: np.ndarray, b: np.ndarray) -> float:
    """Share of `a`'s shingles that `b` (sorted) holds."""
    if not len(a) or not len(b):
        return 0.0
    return float((b[np.minimum(np.searchsorted(b, a), len(b) - 1)] == a).mean())


def pairs(sets: Sequence[np.ndarray], threshold: float) -> Iterator[tuple[int, int]]:
    """All (i, j), i < j, with Jaccard >= threshold.

    Prefix filter: order shingles from rare to frequent; two sets as similar as that must share one among the first
    (1 - threshold) * size + 1 of each, and there rare shingles make few candidates.
    """
    for i, j in _candidates(sets, threshold):
        small, large = sorted((len(sets[i]), len(sets[j])))
        if small >= threshold * large and jaccard(sets[i], sets[j]) >= threshold:
            yield i, j


def _candidates(sets: Sequence[np.ndarray], threshold: float) -> list[tuple[int, int]]:
    if not any(map(len, sets)):
        return []
    _, codes, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    found: set[tuple[int, int]] = set()
    holders: dict[int, list[int]] = {}
    start = 0
    for number, item in enumerate(sets):
        own = codes[start : start + len(item)]
        start += len(item)
        prefix = own[np.lexsort((own, counts[own]))][: len(own) - int(np.ceil(threshold * len(own))) + 1]
        for code in prefix[counts[prefix] > 1].tolist():
            others = holders.setdefault(code, [])
            found.update((other, number) for other in others)
            others.append(number)
    return sorted(found)


class Groups:
    """Union-find over items 0..n-1."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def find(self, item: int) -> int:
        while self.parent[item] != item:
            self.parent[item] = self.parent[self.parent[item]]
            item = self.parent[item]
        return item

    def join(self, a: int, b: int) -> None:
        first, second = sorted((self.find(a), self.find(b)))
        self.parent[second] = first  # the smallest member names the group, whatever the order of joins
