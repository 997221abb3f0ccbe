"""Leaks: training rows that a model is measured on as well. docs/leaks.md says what is compared and why."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from stages.data import thresholds
from stages.data.contract.view import share
from stages.data.findings import Finding, Located, seen
from stages.data.ngrams import Known, Shared, Stream
from stages.data.said import Said, Text, said, texts

CODE = "evaluation_leak"
KINDS = ("exact", "near", "overlap", "cluster")  # a row that shows several is told of by the first
SHINGLE = 5  # words of the n-grams by which near-duplicates are told, as in `similar`
ROWS = 1000  # training rows that are compared at a time
NOTHING = 0  # instead of the key of a cluster, where a row has none
SHOWN = 50  # letters of each of the two texts of an example
CALLED = {
    "exact": "the same text",
    "near": "a near-duplicate",
    "overlap": "overlapping text",
    "cluster": "the same source cluster",
}
REMEDY = (
    "Take these rows out of the training data or out of what is measured, or set contract.leaks=drop: then the "
    "training rows are left out and counted. Until then the measurement says nothing about unseen text."
)

Hit = tuple[str, int, float]  # kind, number of the item, value
Judged = tuple[str, np.ndarray, np.ndarray]  # kind; of each pair its value and whether it is a leak of this kind
Rule = Callable[[Shared], Judged]


@dataclass
class LeakConfig:
    """When a training row counts as measured; docs/leaks.md has the reasons for the defaults."""

    ngram: int = 13  # words of the n-grams that tell an overlap; shorter texts are only compared as a whole
    overlap: float = 0.5  # share of an item's n-grams, found in one training row, from which they overlap
    inside: float = 0.9  # share of a training row's n-grams, found in one item, from which it is a piece of that item
    passage: int = 40  # words of an item, found in one training row, from which they overlap whatever the share
    clause: int = 10  # training rows of a set above which such words are a standard clause and tell nothing
    near: float = 0.8  # Jaccard similarity of 5-word shingles from which two texts are near-duplicates
    reworded: float = 0.6  # share of an item's 5-word shingles, found in one training row, from which they overlap
    common: float = 0.01  # share of a set's clusters (or prompts) above which an n-gram is a template and tells nothing
    fewest_groups: int = 5  # clusters or prompts in which an n-gram may be without being common, in any small set
    fewest_shared: int = 4  # n-grams, none of them common, that two texts must share
    prompt_words: int = 6  # words of a prompt from which it is a leak although the answers differ


def check(config: LeakConfig) -> None:
    """ConfigError for thresholds that cannot be meant."""
    thresholds.check("contract.leak", config, above=("overlap", "inside", "near", "reworded"))
    if config.ngram < SHINGLE:
        raise ConfigError(
            f"contract.leak.ngram={config.ngram}: give at least {SHINGLE} words; fewer are in any two texts"
        )
    if config.passage < config.ngram:
        raise ConfigError(
            f"contract.leak.passage={config.passage}: give at least ngram={config.ngram} words, the fewest looked for"
        )


@dataclass(frozen=True)
class Leak:
    """A training row and the measured item that it gives away. `training`, `measured`: names of their data sets.

    `value`: the Jaccard similarity of kind near, the share of kind overlap, else 1.
    """

    kind: str  # of KINDS
    training: str
    row: Located
    measured: str
    item: Located
    value: float


def leaks(
    training: Mapping[str, Sequence[Located]], measured: Mapping[str, Sequence[Located]], config: LeakConfig
) -> list[Leak]:
    """Every training row that gives an item away, once, with the item that it is most like."""
    if not any(map(len, measured.values())):
        return []
    items = Measured(measured, config)
    return [leak for name, rows in training.items() for leak in items.given_away(name, rows)]


class Measured:
    """Everything that is measured, indexed: training rows stream by, in memory that grows with what they share."""

    def __init__(self, measured: Mapping[str, Sequence[Located]], config: LeakConfig) -> None:
        self.config = config
        self.items = [(name, item) for name, items in measured.items() for item in items]
        self.said = [said(item.row) for _, item in self.items]
        self.rows: dict[str, int] = {}  # all that an item says -> the item
        self.texts: dict[str, int] = {}  # a text that may be part of a training row -> the item measured by it
        self.views = [(i, text.codes) for i, each in enumerate(self.said) for text in self._compared(each)]
        self.near, self.overlap = (Known([codes for _, codes in self.views], n) for n in (SHINGLE, config.ngram))
        self.sources: dict[tuple[str, str], int] = {}
        start = 0
        for items in measured.values():
            self._index(range(start, start + len(items)))
            start += len(items)

    def _compared(self, row: Said) -> list[Text]:
        """The texts that are compared by n-grams."""
        return [text for text in row.views if len(text.codes) >= self.config.ngram]

    def _most(self, groups: int) -> float:
        """Of so many groups, those that may hold an n-gram which is not common."""
        return max(self.config.fewest_groups, self.config.common * groups)

    def _index(self, places: range) -> None:
        """The items of one data set: their keys, their sources and which of their n-grams are common."""
        asked = Counter(self.said[i].asked.key for i in places)
        for i in places:
            item, each = self.items[i][1], self.said[i]
            if each.answers or "text" in item.row:
                _first(self.rows, [text.key for text in each.wholes], i)
            template = each.answers and asked[each.asked.key] > self._most(len(places))  # one prompt, many answers
            parts = each.wholes if template else (*each.wholes, each.asked)
            _first(self.texts, [text.key for text in parts if len(text.codes) >= self.config.prompt_words], i)
            _first(self.sources, [source] if (source := _source(item)) else [], i)
        groups = self._groups(
            [_key(_source(self.items[i][1])) for i in places], [_key(self.said[i].asked.key) for i in places]
        )
        numbers = np.array([groups[i - places.start] if i in places else -1 for i, _ in self.views], dtype=np.int64)
        for known in (self.near, self.overlap):
            known.discount(numbers, self._most(len(np.unique(groups))))

    def _groups(self, sources: Sequence[int], asked: Sequence[int]) -> np.ndarray:
        """Numbers for rows: equal for those about one thing, which are of one cluster or have the same prompt.

        What several such rows have in common is no template. Fewer clusters than can tell are topics or files.
        """
        prompts = np.array(asked, dtype=np.int64)
        clusters = np.array(sources, dtype=np.int64)
        clusters = np.where(clusters == NOTHING, prompts, clusters)
        few = len(np.unique(clusters)) < 2 * self.config.fewest_groups
        return np.unique(prompts if few else clusters, return_inverse=True)[1]

    def given_away(self, name: str, rows: Sequence[Located]) -> list[Leak]:
        """The leaks of one training set, in the order of its rows."""
        streams = Stream(self.near), Stream(self.overlap)
        best: dict[int, Hit] = {}
        asked, sources = array("q"), array("q")
        clustered: list[tuple[int, Hit]] = []
        for start in range(0, len(rows), ROWS):
            places = rows[start : start + ROWS]
            part = [(start + i, said(located.row)) for i, located in enumerate(places)]
            clustered += self._clustered(places, start)
            sources.extend(_key(_source(located)) for located in places)
            best.update((i, ("exact", item, 1.0)) for i, each in part if (item := self._same(each)) is not None)
            asked.extend(_key(each.asked.key) for _, each in part)
            compared = [(i, text.codes) for i, each in part for text in self._compared(each)]
            for stream in streams:
                stream.add([i for i, _ in compared], [codes for _, codes in compared])
        groups = self._groups(sources, asked)
        near, overlap = (stream.shared(groups, self._most(len(np.unique(groups)))) for stream in streams)
        passages = streams[1].shared(np.arange(len(rows)), self.config.clause)
        found = chain(
            self._best(near, self._near, self._reworded),
            self._best(overlap, self._overlap),
            self._best(passages, self._passage),
            clustered,
        )
        for i, hit in sorted(found, key=lambda each: KINDS.index(each[1][0])):
            best.setdefault(i, hit)
        return [Leak(kind, name, rows[i], *self.items[item], value) for i, (kind, item, value) in sorted(best.items())]

    def _same(self, row: Said) -> int | None:
        """The item that says the same as the row, or as a part of it that is long enough."""
        exchanges = [text for text in row.exchanges if len(text.codes) >= self.config.prompt_words]
        whole = (self.rows.get(text.key) for text in (*row.wholes, *exchanges))
        parts = (self.texts.get(text.key) for text in (*row.views, *row.answers, *exchanges))
        return next((found for found in chain(whole, parts) if found is not None), None)

    def _best(self, shared: Iterator[Shared], *rules: Rule) -> list[tuple[int, Hit]]:
        """Each row with the items that one of the rules holds for, rule by rule, the one most like it first."""
        found = []
        for part, rule in ((part, rule) for part in shared for rule in rules):
            kind, value, holds = rule(part)
            enough = np.flatnonzero(holds & (part.common >= self.config.fewest_shared))
            for i in enough[np.lexsort((part.known[enough], -value[enough], part.row[enough]))]:
                found.append((int(part.row[i]), (kind, self.views[part.known[i]][0], float(value[i]))))
        return found

    def _near(self, shared: Shared) -> Judged:
        value = shared.jaccard()
        return "near", value, value >= self.config.near

    def _reworded(self, shared: Shared) -> Judged:
        """Most of the item's shingles in a row that says more, or with words changed here and there."""
        of_item, _ = shared.held()
        least = self.config.ngram - SHINGLE + 1  # shingles of the shortest text that is compared
        return "overlap", of_item, (of_item >= self.config.reworded) & (shared.common >= least)

    def _overlap(self, shared: Shared) -> Judged:
        """The share of the item in the row; of the row in the item where it is a piece of it."""
        of_item, of_row = shared.held()
        value = np.maximum(of_item, np.where(of_row >= self.config.inside, of_row, 0.0))
        return "overlap", value, value >= self.config.overlap

    def _passage(self, shared: Shared) -> Judged:
        """A passage of an item of any length."""
        of_item, _ = shared.held()
        return "overlap", of_item, shared.common >= self.config.passage - self.config.ngram + 1

    def _clustered(self, rows: Sequence[Located], start: int) -> Iterator[tuple[int, Hit]]:
        """Rows of a cluster of which an item is measured. `start`: the place of the first."""
        for i, located in enumerate(rows, start):
            if (source := _source(located)) in self.sources:
                yield i, ("cluster", self.sources[source], 1.0)


def _source(located: Located) -> tuple[str, str] | None:
    """The row's cluster, if that is more than its own name. A bare number names something in its own file only."""
    cluster = located.row.get("cluster")
    if cluster in (None, located.row.get("id")):
        return None
    return cluster, located.file if cluster.isdigit() else ""


def _key(value: Hashable) -> int:
    """A number that stands for it, NOTHING for None."""
    return NOTHING if value is None else hash(value)


def _first(known: dict[Any, int], keys: Iterable[Hashable], item: int) -> None:
    """Each key stands for the first item that has it."""
    for key in keys:
        known.setdefault(key, item)


def finding(found: Sequence[Leak], of: int, dropped: bool) -> Finding | None:
    """What there is to say of the leaks among `of` training rows; None where there are none."""
    if not found:
        return None
    count = len({(leak.training, leak.row.row["id"]) for leak in found})
    kinds = Counter(leak.kind for leak in found)
    named = ", ".join(f"{CALLED[kind]} ({kinds[kind]})" for kind in KINDS if kinds[kind])
    done = " They are left out of the training." if dropped else ""
    return Finding(
        "warning" if dropped else "error",
        CODE,
        count,
        of,
        f"{share(count, of)} training rows give away what is measured, by {named}.{done}",
        "Nothing needs to be done; set contract.leaks=refuse to be stopped by them." if dropped else REMEDY,
        seen((leak.row, _both(leak)) for leak in sorted(found, key=lambda leak: KINDS.index(leak.kind))),
        {"kinds": dict(kinds), "sets": _sets(found)},
    )


def _sets(found: Sequence[Leak]) -> dict[str, dict[str, int]]:
    """Training set -> measured set -> rows."""
    counts: dict[str, dict[str, int]] = {}
    for leak in found:
        of = counts.setdefault(leak.training, {})
        of[leak.measured] = of.get(leak.measured, 0) + 1
    return counts


def _both(leak: Leak) -> str:
    """The training row's text, and that of the item with its place."""
    row, item = (_line(located)[:SHOWN] for located in (leak.row, leak.item))
    return f"{row} [{leak.kind}] measured: {leak.item.file}, line {leak.item.line}: {item}"


def _line(located: Located) -> str:
    turns, answers = texts(located.row)
    return " ".join(" ".join((*turns, *answers)).split())


def dropped(found: Sequence[Leak]) -> dict[str, list[str]]:
    """Training set -> sorted ids of the rows to leave out."""
    ids: dict[str, set[str]] = defaultdict(set)
    for leak in found:
        ids[leak.training].add(leak.row.row["id"])
    return {name: sorted(rows) for name, rows in ids.items()}
