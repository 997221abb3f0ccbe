"""Near-duplicate rows of a data set of any length: of rows that are alike, only the first stays.

Rows wait in a file; in memory are, for each row, the keys of its bands and where it stands. Two rows are
near-duplicates where the Jaccard similarity of their 5-word shingles reaches the threshold, and both their prompts and
their answers have most words in common. Wording that many prompts share is the wording of a task: it is not counted.
"""

import json
import multiprocessing
import os
import pickle
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stages.data import minhash, similar
from stages.data.conversion import Kept

ANSWERS = ("text", "chosen", "rejected", "completion", "a", "b", "answers", "choices")
LEAST = 4  # shingles of a row that is compared: rows of fewer than eight words are alike by chance
COMMON = 20  # prompts from which a shingle is wording of a task
OVERLAP = 0.5  # of the words of two prompts, and of two answers
PART = 1000  # rows that a process takes at once
ALONE = 20  # parts that one process does as fast as several, which must be started
COUNTERS = (20, 28)  # bits of the table that counts shingles: at least, at most
ANSWER = np.uint64(0x5851F42D4C957F2D)  # tells shingles of answers from those of prompts

Place = tuple[str, Kept]  # a row and its file


@dataclass
class Spool:
    """Rows in a file, in order; any of them can be read again."""

    path: Path
    ends: array = field(default_factory=lambda: array("Q", [0]))

    def fill(self, rows: Iterable[Place]) -> None:
        with self.path.open("wb") as file:
            for row in rows:
                file.write(pickle.dumps(row))
                self.ends.append(file.tell())

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __iter__(self) -> Iterator[Place]:
        return between(self.path, 0, self.ends[-1])

    def parts(self) -> list[tuple[int, int]]:
        """The file in pieces: (first byte, end)."""
        return [(self.ends[i], self.ends[min(i + PART, len(self))]) for i in range(0, len(self), PART)]


def between(path: Path, begin: int, end: int) -> Iterator[Place]:
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
        """What tells rows begin..end from others: their codes without common wording, where enough else is left."""
        codes = np.fromfile(
            self.path, np.uint64, int(self.ends[end] - self.ends[begin]), offset=8 * int(self.ends[begin])
        )
        places = self.ends[begin : end + 1] - self.ends[begin]
        keep = ~_table(self.common)[_slot(codes, _table(self.common))]
        found = []
        for start, stop, prompt in zip(places[:-1], places[1:], self.prompts[begin:end], strict=True):
            row, kept = codes[start:stop], keep[start:stop].copy()
            kept[prompt:] = True
            found.append(row[kept] if kept.sum() >= LEAST else row)
        return found


def first_of_each(
    rows: Iterable[Place], threshold: float, folder: Path | None = None
) -> Iterator[tuple[str, Kept, str]]:
    """(file, row, where the earlier row stands that it is like; '' where it stays), for each row in order.

    All rows are read before the first comes back; until then they lie in `folder`.
    """
    with tempfile.TemporaryDirectory(prefix="near-", dir=folder) as place:
        spool = Spool(Path(place) / "rows")
        spool.fill(rows)
        gone = dict(_near(spool, threshold, Path(place))) if len(spool) else {}
        where = {i: f"{file}, line {row.line}" for i, (file, row) in _some(spool, set(gone.values()))}
        for number, (file, row) in enumerate(spool):
            yield file, row, where[gone[number]] if number in gone else ""


def _some(spool: Spool, wanted: set[int]) -> Iterator[tuple[int, Place]]:
    for number in sorted(wanted):
        yield number, next(between(spool.path, spool.ends[number], spool.ends[number + 1]))


def _near(spool: Spool, threshold: float, folder: Path) -> Iterator[tuple[int, int]]:
    """(row, the earlier row that stays and that it is like)."""
    with _processes(len(spool)) as each:
        shingles = _shingles(spool, each, folder)
        parts = [(i, min(i + PART, len(spool))) for i in range(0, len(spool), PART)]
        found = list(each(partial(_keys, shingles, threshold), parts))
    long, keys = (np.concatenate(part) for part in zip(*found, strict=True))
    numbers = np.flatnonzero(long)
    with spool.path.open("rb") as file:
        alike = partial(_alike, shingles, threshold, file, spool.ends, numbers)
        for late, early in minhash.first_like(keys, alike):
            yield int(numbers[late]), int(numbers[early])


@contextmanager
def _processes(rows: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """`map` in all cores, in order; in this process where there is little to do."""
    cores = len(os.sched_getaffinity(0))
    if cores == 1 or rows <= ALONE * PART:
        yield map
        return
    with multiprocessing.get_context("forkserver").Pool(cores) as pool:
        yield pool.imap


def _shingles(spool: Spool, each: Callable[..., Iterator[Any]], folder: Path) -> Shingles:
    path, sizes, prompts = folder / "shingles", [], []
    with path.open("wb") as file:
        for codes, size, prompt in each(partial(_coded, spool.path), spool.parts()):
            codes.tofile(file)
            sizes.append(size)
            prompts.append(prompt)
    ends = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    found = Shingles(path, ends, np.concatenate(prompts), folder / "common.npy")
    np.save(found.common, _common(found))
    return found


def _coded(path: Path, part: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All codes of the rows, how many each row has, and how many of them are of its prompt."""
    codes, sizes, prompts = [], [], []
    for _, row in between(path, *part):
        prompt, answer = (similar.shingles(similar.spelt(text)) for text in parts(json.loads(row.json)))
        codes += [minhash.mixed(prompt), minhash.mixed(answer ^ ANSWER)]
        sizes.append(len(prompt) + len(answer))
        prompts.append(len(prompt))
    return np.concatenate(codes), np.array(sizes), np.array(prompts)


def parts(row: dict[str, Any]) -> tuple[str, str]:
    """What the row asks and what is said to it. A system turn is neither: many rows share it."""
    turns = row.get("messages") or row.get("prompt") or ()
    said = {True: [], False: []}
    for turn in turns:
        if turn["role"] != "system":
            said[turn["role"] == "assistant" and "messages" in row].append(turn.get("content") or "")
    for value in (row[name] for name in ANSWERS if name in row):
        said[True] += [value] if isinstance(value, str) else value
    return "\n".join(said[False]), "\n".join(said[True])


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


@cache
def _table(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def _keys(shingles: Shingles, threshold: float, part: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of the part are long enough to be compared, and the keys of those."""
    own = shingles.own(*part)
    long = np.array([len(codes) >= LEAST for codes in own])
    sets = [codes for codes in own if len(codes) >= LEAST]
    if not sets:
        return long, np.zeros((0, minhash.banding(threshold)[0]), dtype=np.uint64)
    starts = np.cumsum([0, *map(len, sets[:-1])])
    return long, minhash.band_keys(np.concatenate(sets), starts, threshold)


def _alike(
    shingles: Shingles, threshold: float, file: BinaryIO, ends: array, numbers: np.ndarray, early: int, late: int
) -> bool:
    first, second = int(numbers[early]), int(numbers[late])
    (a,), (b,) = shingles.own(first, first + 1), shingles.own(second, second + 1)
    if similar.jaccard(a, b) < threshold:
        return False
    texts = []
    for number in (first, second):
        file.seek(ends[number])
        texts.append(parts(json.loads(pickle.load(file)[1].json)))
    return all(overlap(one, other) >= OVERLAP for one, other in zip(*texts, strict=True))


def overlap(a: str, b: str) -> float:
    """Share of common words; 1 where neither has any."""
    first, second = (set(similar.WORD.findall(similar.spelt(text).lower())) for text in (a, b))
    return len(first & second) / len(first | second) if first or second else 1.0
