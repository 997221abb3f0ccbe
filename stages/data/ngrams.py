"""N-grams of many texts at once: which of some known texts share how many of them with other texts."""

import hashlib
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and Han: no spaces between words, so each letter counts as one
WORD = re.compile(f"[{ALONE}]|[^\\W_{ALONE}]+")
EXPANDED = 4_000_000  # shared n-grams that are counted at a time
_MULTIPLIER = np.uint64(6364136223846793005)


@dataclass(frozen=True)
class Grams:
    """Distinct n-grams of numbered texts: `hashes[i]` (64 bits) stands in text `texts[i]`; sorted by text."""

    texts: np.ndarray
    hashes: np.ndarray


@dataclass(frozen=True)
class Shared:
    """Pairs of a row (one of its texts) and a known text with n-grams in common: how many, and how many each has."""

    row: np.ndarray
    known: np.ndarray
    common: np.ndarray
    of_row: np.ndarray
    of_known: np.ndarray

    def jaccard(self) -> np.ndarray:
        return self.common / (self.of_row + self.of_known - self.common)

    def held(self) -> tuple[np.ndarray, np.ndarray]:
        """The share of the known text's n-grams that stand in the row, and of the row's text that stand in it."""
        return self.common / self.of_known, self.common / self.of_row


def encode(text: str) -> np.ndarray:
    """One 64-bit code for each word; punctuation is left out. `text` as `contract.view.plain` returns it."""
    found = WORD.findall(text)
    return np.fromiter(map(_code, found), dtype=np.uint64, count=len(found))


@lru_cache(maxsize=1_000_000)
def _code(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest())


def grams(texts: Sequence[np.ndarray], size: int) -> Grams:
    """The distinct n-grams of `size` words in each text, given as codes; a shorter text has none."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    codes = np.concatenate(texts) if len(texts) else np.empty(0, np.uint64)
    owners = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    count = max(0, len(codes) - size + 1)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(size):
        total = total * _MULTIPLIER + codes[offset : offset + count]
    inside = owners[:count] == owners[len(owners) - count :]
    total, owners = total[inside], owners[:count][inside]
    order = np.lexsort((total, owners))
    total, owners = total[order], owners[order]
    new = np.ones(len(total), dtype=bool)
    new[1:] = (total[1:] != total[:-1]) | (owners[1:] != owners[:-1])
    return Grams(owners[new], total[new])


class Known:
    """The n-grams of known texts, for comparison with others that stream by."""

    def __init__(self, texts: Sequence[np.ndarray], size: int) -> None:
        found = grams(texts, size)
        self.size, self.count = size, len(texts)
        self.hashes, places = np.unique(found.hashes, return_inverse=True)
        self.texts = found.texts[np.argsort(places, kind="stable")]  # by n-gram
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=len(self.hashes)))])
        self.common = np.zeros(len(self.hashes), dtype=bool)  # n-grams that tell nothing

    def discount(self, groups: np.ndarray, most: float) -> None:
        """N-grams in more than `most` groups are common. `groups`: each text's number; negative: not counted."""
        groups, places = groups[self.texts], np.repeat(np.arange(len(self.hashes)), np.diff(self.starts))
        counted = groups >= 0
        self.common |= frequent(groups[counted], places[counted], len(self.hashes), most)

    def hits(self, texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(text, place in `hashes`) of each known n-gram in the texts, and how many n-grams each text has."""
        found = grams(texts, self.size)
        sizes = np.bincount(found.texts, minlength=len(texts))
        if not len(self.hashes):
            return np.empty(0, np.int32), np.empty(0, np.int32), sizes
        places = np.minimum(np.searchsorted(self.hashes, found.hashes), len(self.hashes) - 1).astype(np.int32)
        known = self.hashes[places] == found.hashes
        return found.texts[known], places[known], sizes


class Stream:
    """What the rows of one data set share with the known texts; rows are added part by part."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.rows = array("q")  # of each text

    def add(self, rows: Sequence[int], texts: Sequence[np.ndarray]) -> None:
        """Texts, each with the number of its row."""
        owners, places, sizes = self.known.hits(texts)
        self.parts.append((owners + np.int32(len(self.rows)), places, sizes.astype(np.int32)))
        self.rows.extend(rows)

    def shared(self, groups: np.ndarray, most: float) -> Iterator[Shared]:
        """All pairs of a row's text and a known one that share an n-gram which is common on neither side.

        `groups`: the number of each row's group; an n-gram in more than `most` of them is common.
        """
        if not self.parts:
            return
        rows = np.array(self.rows, dtype=np.int64)
        owners, places, sizes = (np.concatenate(each) for each in zip(*self.parts, strict=True))
        known = self.known
        common = known.common | frequent(groups[rows[owners]], places, len(known.hashes), most)
        per_gram = np.diff(known.starts)
        of_known = np.bincount(known.texts[~np.repeat(common, per_gram)], minlength=known.count)
        of_row = sizes - np.bincount(owners[common[places]], minlength=len(rows))
        telling = ~common[places]
        owners, places = owners[telling], places[telling]
        for part in _parts(owners, per_gram[places]):
            text, other, count = self._count(owners[part], places[part])
            yield Shared(rows[text], other, count, of_row[text], of_known[other])

    def _count(self, owners: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every pair of a text and a known text, with the number of n-grams in both."""
        starts, lengths = self.known.starts[places], np.diff(self.known.starts)[places]
        inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        others = self.known.texts[np.repeat(starts, lengths) + inside]
        pairs = np.repeat(owners, lengths).astype(np.int64) * self.known.count + others
        pairs, counts = np.unique(pairs, return_counts=True)
        return pairs // self.known.count, pairs % self.known.count, counts


def _parts(owners: np.ndarray, lengths: np.ndarray) -> Iterator[slice]:
    """Pieces of about EXPANDED, none of which ends inside a text. `owners` is sorted."""
    ends, start = np.cumsum(lengths), 0
    while start < len(owners):
        stop = int(np.searchsorted(ends, (ends[start - 1] if start else 0) + EXPANDED, side="right"))
        last = owners[min(max(stop, start + 1), len(owners)) - 1]
        stop = int(np.searchsorted(owners, last, side="right"))
        yield slice(start, stop)
        start = stop


def frequent(groups: np.ndarray, places: np.ndarray, count: int, most: float) -> np.ndarray:
    """Which of `count` n-grams stand in more than `most` different groups. `groups[i]` holds `places[i]`."""
    pairs = np.unique(groups.astype(np.int64) * max(1, count) + places)
    return np.bincount(pairs % max(1, count), minlength=count) > most
