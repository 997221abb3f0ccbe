"""Leaks: training rows that a model is measured on as well. docs/leaks.md says what is compared and why."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from stages.data.contract.view import plain, share
from stages.data.findings import Finding, Located, seen
from stages.data.ngrams import Known, Shared, Stream, words

KINDS = ("exact", "near", "overlap", "cluster")  # a row that shows several is told of by the first
SHINGLE = 5  # words of the n-grams by which near-duplicates are told, as in `similar`
ROWS = 1000  # training rows that are compared at a time
ANSWERS = ("chosen", "rejected", "completion", "a", "b")
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


@dataclass
class LeakConfig:
    """When a training row counts as measured; docs/leaks.md has the reasons for the defaults."""

    ngram: int = 13  # words of the n-grams that tell an overlap; shorter texts are only compared as a whole
    overlap: float = 0.5  # share of an item's n-grams, found in one training row, from which they overlap
    inside: float = 0.9  # share of a training row's n-grams, found in one item, from which it is a piece of that item
    near: float = 0.8  # Jaccard similarity of 5-word shingles from which two texts are near-duplicates
    common: float = 0.01  # share of a set's rows above which an n-gram is a template or boilerplate and tells nothing
    fewest_rows: int = 5  # rows up to which an n-gram is not common, however small the set
    fewest_shared: int = 4  # n-grams, none of them common, that two texts must share
    prompt_words: int = 6  # words of a prompt from which it is a leak although the answers differ


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


@dataclass(frozen=True)
class Said:
    """What a row says, but for its system turn."""

    turns: tuple[str, ...]  # before the answers; of a document its text
    answers: tuple[str, ...] = ()
    exchanges: tuple[str, ...] = ()  # of a longer conversation: every turn with the next one

    @property
    def asked(self) -> str:
        return "\n".join(self.turns)

    @property
    def wholes(self) -> list[str]:
        """The prompt with each of the answers, or all there is."""
        return [f"{self.asked}\n{answer}" for answer in self.answers] or [self.asked]


def said(row: Mapping[str, Any]) -> Said:
    """The texts of a prepared row of any form, also of those that are only measured."""
    if "text" in row:
        return Said((row["text"],))
    turns = [turn for turn in row.get("messages") or row["prompt"] if turn["role"] != "system"]
    told = tuple(turn.get("content") or "" for turn in turns)
    if "messages" in row:
        pairs = pairwise(told) if len(told) > 2 else ()
        return Said(told[:-1], told[-1:], tuple("\n".join(pair) for pair in pairs))
    answers = [row[name] for name in ANSWERS if isinstance(row.get(name), str)] + list(row.get("answers", ()))
    return Said(told, tuple(answers or _expected(row)))


def _expected(row: Mapping[str, Any]) -> list[str]:
    """The right answer of what is only measured, where it has one."""
    if "choices" in row:
        return [row["choices"][row["answer"]]]
    return [str(row["check"]["answer"])] if "answer" in row.get("check", ()) else []


def leaks(
    training: Mapping[str, Sequence[Located]], measured: Mapping[str, Sequence[Located]], config: LeakConfig
) -> list[Leak]:
    """Every training row that gives an item away, once, with the item that it is most like."""
    items = Measured(measured, config)
    return [leak for name, rows in training.items() for leak in items.given_away(name, rows)]


class Measured:
    """Everything that is measured, indexed: training rows stream by, in memory that grows with what they share."""

    def __init__(self, measured: Mapping[str, Sequence[Located]], config: LeakConfig) -> None:
        self.config = config
        self.items = [(name, item) for name, items in measured.items() for item in items]
        self.said = [said(item.row) for _, item in self.items]
        self.most = {name: self._most(len(items)) for name, items in measured.items()}
        self.views = [(i, text) for i, each in enumerate(self.said) for text in _distinct(*each.wholes, each.asked)]
        self.rows, self.texts = self._exact()
        self.near, self.overlap = self._known(SHINGLE), self._known(config.ngram)
        self.sources = {source: i for i, (_, item) in enumerate(self.items) if (source := _source(item))}

    def _most(self, rows: int) -> float:
        """Rows of a set of so many that may hold an n-gram which is not common."""
        return max(self.config.fewest_rows, self.config.common * rows)

    def _exact(self) -> tuple[dict[str, int], dict[str, int]]:
        """The first item of each text: of all that a row says, and of a text that may be part of a row."""
        asked = Counter((name, each.asked) for (name, _), each in zip(self.items, self.said, strict=True))
        rows: dict[str, int] = {}
        texts: dict[str, int] = {}
        for i, ((name, item), each) in enumerate(zip(self.items, self.said, strict=True)):
            if each.answers or "text" in item.row:
                for text in each.wholes:
                    rows.setdefault(plain(text), i)
            template = each.answers and asked[name, each.asked] > self.most[name]  # one prompt for many answers
            for text in each.wholes if template else (*each.wholes, each.asked):
                if len(words(text)) >= self.config.prompt_words:
                    texts.setdefault(plain(text), i)
        return rows, texts

    def _known(self, size: int) -> Known:
        """The n-grams of all views; those that are common in any measured set are marked."""
        known = Known([self._words(text) for _, text in self.views], size)
        for name, most in self.most.items():
            prompts: dict[str, int] = {}
            groups = [
                prompts.setdefault(self.said[i].asked, len(prompts)) if self.items[i][0] == name else -1
                for i, _ in self.views
            ]
            known.discount(np.array(groups, dtype=np.int64), most)
        return known

    def _words(self, text: str) -> list[str]:
        """The words of the text; none where it is too short to be compared by parts."""
        found = words(text)
        return found if len(found) >= self.config.ngram else []

    def given_away(self, name: str, rows: Sequence[Located]) -> list[Leak]:
        """The leaks of one training set, in the order of its rows."""
        near, overlap = Stream(self.near), Stream(self.overlap)
        best: dict[int, Hit] = {}
        prompts: dict[int, int] = {}
        for start in range(0, len(rows), ROWS):
            part = [(start + i, said(located.row)) for i, located in enumerate(rows[start : start + ROWS])]
            best.update((i, ("exact", item, 1.0)) for i, each in part if (item := self._same(each)) is not None)
            group = {i: prompts.setdefault(hash(each.asked), len(prompts)) for i, each in part}
            texts = [(i, group[i], [self._words(text) for text in _pieces(each)]) for i, each in part]
            near.add([(i, number, text) for i, number, found in texts for text in found])
            overlap.add([(i, number, text) for i, number, found in texts for text in found])
        most = self._most(len(prompts))
        parts = (
            self._best("near", near.shared(most), Shared.jaccard, self.config.near),
            self._best("overlap", overlap.shared(most), self._overlap, self.config.overlap),
            self._clustered(rows),
        )
        for i, hit in (each for part in parts for each in part):
            best.setdefault(i, hit)
        return [Leak(kind, name, rows[i], *self.items[item], value) for i, (kind, item, value) in sorted(best.items())]

    def _same(self, row: Said) -> int | None:
        """The item that says the same as the row, or as a part of it that is long enough."""
        for text in (*row.wholes, *row.exchanges):
            if (found := self.rows.get(plain(text))) is not None:
                return found
        texts = (*row.wholes, row.asked, *row.turns, *row.answers, *row.exchanges)
        return next((self.texts[key] for key in map(plain, texts) if key in self.texts), None)

    def _best(
        self, kind: str, shared: Iterator[Shared], measure: Callable[[Shared], np.ndarray], least: float
    ) -> list[tuple[int, Hit]]:
        """Each row with the item that it shares most with, if that is enough."""
        found = []
        for part in shared:
            value = measure(part)
            enough = np.flatnonzero((value >= least) & (part.common >= self.config.fewest_shared))
            for i in enough[np.lexsort((part.known[enough], -value[enough], part.row[enough]))]:
                found.append((int(part.row[i]), (kind, self.views[part.known[i]][0], float(value[i]))))
        return found

    def _overlap(self, shared: Shared) -> np.ndarray:
        """The share of the item in the row; of the row in the item where it is a piece of it."""
        of_item, of_row = shared.held()
        return np.maximum(of_item, np.where(of_row >= self.config.inside, of_row, 0.0))

    def _clustered(self, rows: Sequence[Located]) -> Iterator[tuple[int, Hit]]:
        """Rows of a cluster of which an item is measured."""
        for i, located in enumerate(rows):
            if (source := _source(located)) in self.sources:
                yield i, ("cluster", self.sources[source], 1.0)


def _source(located: Located) -> tuple[str, str] | None:
    """The row's cluster, if that is more than its own name. A bare number names something in its own file only."""
    cluster = located.row.get("cluster")
    if cluster in (None, located.row.get("id")):
        return None
    return cluster, located.file if cluster.isdigit() else ""


def _pieces(row: Said) -> Iterable[str]:
    """The texts of a training row that are compared by parts."""
    return _distinct(*row.wholes, row.asked, *row.turns)


def _distinct(*texts: str) -> list[str]:
    return list(dict.fromkeys(texts))


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
        "evaluation_leak",
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
    return " ".join(said(located.row).wholes[0].split())


def dropped(found: Sequence[Leak]) -> dict[str, list[str]]:
    """Training set -> sorted ids of the rows to leave out."""
    ids: dict[str, set[str]] = defaultdict(set)
    for leak in found:
        ids[leak.training].add(leak.row.row["id"])
    return {name: sorted(rows) for name, rows in ids.items()}
