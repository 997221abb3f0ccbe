"""Near-duplicate rows of a data set of any length: of rows that are alike, only the first stays.

Two rows are near-duplicates where the Jaccard similarity of their 5-word shingles reaches the threshold, and both their
prompts and their answers have most words in common; short ones must not contradict in a number or a negation. Wording
that many prompts share is the wording of a task: it is not counted. In a short row one exchanged word takes five of few
shingles; it is allowed where it is no larger a part of the row than the threshold allows of a long one.

Rows wait in a file; in memory are, for each row, the keys of its bands and where it stands.
"""

import json
import pickle
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.data import minhash, similar
from stages.data.conversion import Kept
from stages.data.processes import mapped

ANSWERS = ("text", "chosen", "rejected", "completion", "a", "b", "answers", "choices")
LEAST = 4  # shingles of a row that is compared: rows of fewer than eight words are alike by chance
STATEMENT = 50  # words of a prompt, an answer or a document up to which a number or a 'not' decides what it says
COMMON = 20  # prompts from which a shingle is wording of a task
OVERLAP = 0.5  # of the words of two prompts, and of two answers
PART = 1000  # rows that a process takes at once
ALONE = 20  # parts that one process does as fast as several, which must be started
SHORT = 16  # shingles of the shortest row in which a word may be exchanged
EXACT = 20_000  # rows up to which all pairs are found; above, MinHash misses a few at the threshold
COUNTERS = (20, 28)  # bits of the table that counts shingles: at least, at most
VALUE = re.compile(r"(?<!\w)\d+(?:[.,]\d+)*(?!\w)|\b(?:yes|no)\b", re.IGNORECASE)
NEGATED = re.compile(r"\b(?:not|never|cannot|without)\b|n['’]t\b", re.IGNORECASE)
ANSWER = np.uint64(0x5851F42D4C957F2D)  # tells shingles of answers from those of prompts

Texts = tuple[str, tuple[str, ...]]  # what a row asks, and what is said to it


@dataclass
class Spool:
    """Objects in a file, in order; any of them can be read again. `row_of` tells the row of one."""

    path: Path
    row_of: Callable[[Any], dict[str, Any]]
    ends: array = field(default_factory=lambda: array("Q", [0]))

    def fill(self, objects: Iterable[Any]) -> None:
        with self.path.open("wb") as file:
            for each in objects:
                file.write(pickle.dumps(each))
                self.ends.append(file.tell())

    def __len__(self) -> int:
        return len(self.ends) - 1

    def read(self, begin: int, end: int) -> Iterator[Any]:
        return between(self.path, self.ends[begin], self.ends[end])

    def parts(self) -> list[tuple[int, int]]:
        """The file in pieces: (first byte, end)."""
        return [(self.ends[i], self.ends[min(i + PART, len(self))]) for i in range(0, len(self), PART)]


def between(path: Path, begin: int, end: int) -> Iterator[Any]:
    with path.open("rb") as file:
        file.seek(begin)
        while file.tell() < end:
            yield pickle.load(file)


@dataclass
class Shingles:
    """The codes of all rows in a file: of each row those of its prompt, then those of its answers."""

    path: Path
    ends: np.ndarray  # [rows + 1]
    prompts: np.ndarray  # [rows]: codes that are of the prompt
    common: Path  # table of 0 and 1: whether the codes of this hash are wording

    def own(self, begin: int, end: int) -> list[np.ndarray]:
        """What tells rows begin..end from others: their codes without common wording.

        A row that is too short has none; a prompt of nothing but common wording keeps all of it.
        """
        codes = np.fromfile(
            self.path, np.uint64, int(self.ends[end] - self.ends[begin]), offset=8 * int(self.ends[begin])
        )
        places = self.ends[begin : end + 1] - self.ends[begin]
        keep = ~_table(self.common)[_slot(codes, _table(self.common))]
        found = []
        for start, stop, prompt in zip(places[:-1], places[1:], self.prompts[begin:end], strict=True):
            row, kept = codes[start:stop], keep[start:stop].copy()
            kept[prompt:] = True
            kept[:prompt] |= not kept[:prompt].any()
            found.append(row[kept] if len(row) >= LEAST else row[:0])
        return found


def first_of_each(
    rows: Iterable[tuple[str, Kept]], threshold: float, folder: Path | None = None
) -> Iterator[tuple[str, Kept, str]]:
    """(file, row, where the earlier row stands that it is like; '' where it stays), for each row in order.

    All rows are read before the first comes back; until then they lie in `folder`.
    """
    with tempfile.TemporaryDirectory(prefix="near-", dir=folder) as place:
        spool = Spool(Path(place) / "rows", _row_of)
        spool.fill(rows)
        gone = _near(spool, threshold, Path(place))
        where = {i: f"{file}, line {row.line}" for i in set(gone.values()) for file, row in spool.read(i, i + 1)}
        for number, (file, row) in enumerate(spool.read(0, len(spool))):
            yield file, row, where[gone[number]] if number in gone else ""


def _row_of(place: tuple[str, Kept]) -> dict[str, Any]:
    return json.loads(place[1].json)


def near(rows: Iterable[dict[str, Any]], threshold: float) -> dict[int, int]:
    """Number of each row that goes -> the earlier row that stays and that it is like."""
    with tempfile.TemporaryDirectory(prefix="near-") as place:
        spool = Spool(Path(place) / "rows", dict)
        spool.fill(rows)
        return _near(spool, threshold, Path(place))


def _near(spool: Spool, threshold: float, folder: Path) -> dict[int, int]:
    if not len(spool):
        return {}
    shingles = _shingles(spool, folder)
    return (_by_minhash if len(spool) > EXACT else _of_all_pairs)(spool, shingles, threshold)


def _of_all_pairs(spool: Spool, shingles: Shingles, threshold: float) -> dict[int, int]:
    sets = shingles.own(0, len(spool))
    gone: dict[int, int] = {}
    for early, late in sorted(similar.pairs(sets, lowest(threshold)), key=lambda pair: (pair[1], pair[0])):
        near = late not in gone and early not in gone and _near_enough(sets[early], sets[late], threshold)
        if near and _say_the_same(spool, early, late):
            gone[late] = early
    return gone


def _by_minhash(spool: Spool, shingles: Shingles, threshold: float) -> dict[int, int]:
    parts = [(i, min(i + PART, len(spool))) for i in range(0, len(spool), PART)]
    found = mapped(partial(_keys, shingles, lowest(threshold)), parts, ALONE)
    long, keys = map(np.concatenate, zip(*found, strict=True))
    numbers = np.flatnonzero(long)
    alike = partial(_alike, spool, shingles, threshold, numbers)
    return {int(numbers[late]): int(numbers[early]) for late, early in minhash.first_like(keys, alike)}


def _shingles(spool: Spool, folder: Path) -> Shingles:
    path, sizes, prompts = folder / "shingles", [], []
    with path.open("wb") as file:
        for codes, size, prompt in mapped(partial(_coded, spool.path, spool.row_of), spool.parts(), ALONE):
            codes.tofile(file)
            sizes.append(size)
            prompts.append(prompt)
    ends = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    found = Shingles(path, ends, np.concatenate(prompts), folder / "common.npy")
    np.save(found.common, _common(found))
    return found


def _coded(
    path: Path, row_of: Callable[[Any], dict[str, Any]], part: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All codes of the rows, how many each row has, and how many of them are of its prompt."""
    codes, sizes, prompts = [], [], []
    for each in between(path, *part):
        asked, said = texts(row_of(each))
        prompt, answer = (similar.shingles(similar.spelt(text)) for text in (asked, "\n".join(said)))
        codes += [minhash.mixed(prompt), minhash.mixed(answer ^ ANSWER)]
        sizes.append(len(prompt) + len(answer))
        prompts.append(len(prompt))
    return np.concatenate(codes), np.array(sizes), np.array(prompts)


def texts(row: dict[str, Any]) -> Texts:
    """What the row asks and what is said to it. A system turn is neither: many rows share it."""
    turns = row.get("messages") or row.get("prompt") or ()
    asked = [turn.get("content") or "" for turn in turns if turn["role"] in ("user", "tool") or "messages" not in row]
    said = [turn.get("content") or "" for turn in row.get("messages", ()) if turn["role"] == "assistant"]
    answers = [row[name] for name in ANSWERS if name in row]
    one_by_one = [text for each in answers for text in ([each] if isinstance(each, str) else each)]
    return "\n".join(asked), tuple(["\n".join(said)] if said else one_by_one)


def _common(shingles: Shingles) -> np.ndarray:
    """Table: whether COMMON prompts or more hold a code of this hash."""
    total = int(shingles.prompts.sum())
    bits = int(np.clip(np.ceil(np.log2(total + 1)) + 1, *COUNTERS))
    counts = np.zeros(1 << bits, dtype=np.uint8)
    for begin in range(0, len(shingles.prompts), PART):
        end = min(begin + PART, len(shingles.prompts))
        first, last = int(shingles.ends[begin]), int(shingles.ends[end])
        codes = np.fromfile(shingles.path, np.uint64, last - first, offset=8 * first)
        sizes, asked = np.diff(shingles.ends[begin : end + 1]), shingles.prompts[begin:end]
        of_prompt = np.tile([True, False], len(asked)).repeat(np.stack([asked, sizes - asked], 1).ravel())
        slots, more = np.unique(_slot(codes[of_prompt], counts), return_counts=True)
        counts[slots] = np.minimum(counts[slots] + more, COMMON)
    return counts >= COMMON


def _slot(codes: np.ndarray, table: np.ndarray) -> np.ndarray:
    return codes >> np.uint64(64 - int(np.log2(len(table))))


@lru_cache(maxsize=1)
def _table(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def _keys(shingles: Shingles, threshold: float, part: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of the part are long enough to be compared, and the keys of those."""
    own = shingles.own(*part)
    long = np.array([len(codes) > 0 for codes in own])
    sets = [codes for codes in own if len(codes)]
    if not sets:
        return long, np.zeros((0, minhash.banding(threshold)[0]), dtype=np.uint64)
    starts = np.cumsum([0, *map(len, sets[:-1])])
    return long, minhash.band_keys(np.concatenate(sets), starts, threshold)


def _alike(spool: Spool, shingles: Shingles, threshold: float, numbers: np.ndarray, early: int, late: int) -> bool:
    first, second = int(numbers[early]), int(numbers[late])
    (a,), (b,) = shingles.own(first, first + 1), shingles.own(second, second + 1)
    return _near_enough(a, b, threshold) and _say_the_same(spool, first, second)


def _near_enough(a: np.ndarray, b: np.ndarray, threshold: float) -> bool:
    """Whether the similarity reaches the threshold, or that of one exchanged word in rows long enough for it."""
    size = min(len(a), len(b))
    exchanged = (size - similar.SIZE) / (size + similar.SIZE)
    needed = min(threshold, exchanged) if size >= least_size(threshold) else threshold
    return similar.jaccard(a, b) >= needed


def least_size(threshold: float) -> float:
    """Shingles of a row from which one exchanged word is allowed: 20 at a threshold of 0.8, none at 1."""
    return max(SHORT, 4 / (1 - threshold)) if threshold < 1 else float("inf")


def lowest(threshold: float) -> float:
    """The similarity of any two rows that are near enough: 0.6 at a threshold of 0.8."""
    size = least_size(threshold)
    return min(threshold, (size - similar.SIZE) / (size + similar.SIZE)) if threshold < 1 else 1.0


def _say_the_same(spool: Spool, first: int, second: int) -> bool:
    a, b = (spool.row_of(next(spool.read(number, number + 1))) for number in (first, second))
    return same(a, b)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether prompts, answers and judgements of two rows with common shingles are alike, each by itself.

    A pair with its answers the other way round says the opposite; so does another label, and another vote says more.
    """
    if any(a.get(name) != b.get(name) for name in ("label", "votes")):
        return False
    (asked, answers), (also_asked, others) = texts(a), texts(b)
    if len(answers) != len(others) or overlap(asked, also_asked) < OVERLAP:
        return False
    if any(_decisive(*pair) for pair in zip((asked, *answers), (also_asked, *others), strict=True)):
        return False
    for place, answer in enumerate(answers):
        near = [overlap(answer, other) for other in others]
        if near[place] < max(OVERLAP, *near):
            return False
    return True


def _decisive(a: str, b: str) -> bool:
    """Whether each has a value that the other lacks, or one more negations; only where one is little but that."""
    if min(len(a.split()), len(b.split())) > STATEMENT:
        return False
    first, second = (Counter(VALUE.findall(text.lower())) for text in (a, b))
    return bool(first - second and second - first) or len(NEGATED.findall(a)) != len(NEGATED.findall(b))


def overlap(a: str, b: str) -> float:
    """Share of common words; 1 where neither has any."""
    first, second = (set(similar.WORD.findall(similar.spelt(text).lower())) for text in (a, b))
    return len(first & second) / len(first | second) if first or second else 1.0
