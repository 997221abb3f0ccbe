"""The training rows around the items of a suite: is there one near each item, and do those near it agree?

"Near" sets itself by the suite. An item's ball reaches as far as its fifth nearest source among the other items, so
that boilerplate which all prompts share brings nobody nearer; an item is covered if a training row lies in its ball
(coverage of Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models").
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.diagnosis.failures import Floats, Suite
from stages.diagnosis.lessons import Lesson

RADIUS = 5  # which of the other sources an item's ball reaches to
NEAREST = 50  # training rows in a ball that are looked at, the nearest ones
VOTERS = 10  # of these, whose answers are compared
BLOCK = 128  # items whose similarities are held at once
ONE = "word"  # so that there is one to count where all texts are empty
WORD = r"(?u)\b\w+\b"  # an answer may be one letter


@dataclass(frozen=True)
class Around:
    """Training rows in the ball of every item (places, the nearest first), and the nearest of all; n items.

    `disagreement`: how unlike two answers in the ball are on average, 0 to 1; nan with fewer than two. `contradiction`:
    how much less than all rows near the suite those in the ball answer as the item's reference does; nan where either
    is unknown.
    """

    rows: list[NDArray[np.int64]]
    nearest: NDArray[np.int64]
    disagreement: Floats = field(repr=False)
    contradiction: Floats = field(repr=False)

    @property
    def counts(self) -> Floats:
        """Training rows in each ball: of rows that are like the items, `RADIUS` times as many as there are for one."""
        return np.array([float(len(rows)) for rows in self.rows])


class Space:
    """Prompts of suites and of training rows in one tf-idf space, answers in another."""

    def __init__(self, suites: Sequence[Suite], lessons: Sequence[Lesson]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        asked = [lesson.prompt for lesson in lessons]
        said = [lesson.answer for lesson in lessons]
        self.prompts = TfidfVectorizer(token_pattern=WORD, sublinear_tf=True, dtype=np.float32)
        self.answers = TfidfVectorizer(token_pattern=WORD, dtype=np.float32)
        self.prompts.fit([*asked, *(prompt for suite in suites for prompt in suite.prompts), ONE])
        self.answers.fit([*said, *(text for suite in suites for text in suite.references), ONE])
        self.asked, self.said = self.prompts.transform(asked), self.answers.transform(said)
        self.answered = np.asarray(self.said.sum(axis=1)).ravel() > 0

    def around(self, suite: Suite) -> Around:
        items = self.prompts.transform(suite.prompts)
        reach = _reach(items, suite.clusters)
        rows, nearest = [], []
        for start in range(0, len(suite.ids), BLOCK):
            for place, near in enumerate((items[start : start + BLOCK] @ self.asked.T).toarray(), start):
                order = np.argsort(-near, kind="stable")[:NEAREST]
                rows.append(order[(near[order] >= reach[place] - 1e-6) & (near[order] > 0)])
                nearest.append(order[0])
        return Around(rows, np.array(nearest), self._disagreement(rows), self._contradiction(suite, rows))

    def _disagreement(self, rows: Sequence[NDArray[np.int64]]) -> Floats:
        return np.array([self._unlike(each[self.answered[each]][:VOTERS]) for each in rows])

    def _unlike(self, rows: NDArray[np.int64]) -> float:
        """1 - the mean cosine of two of these rows' answers: for a few fixed answers the chance that two differ."""
        n = len(rows)
        if n < 2:
            return float("nan")
        total = np.asarray(self.said[rows].sum(axis=0)).ravel()
        return float(np.clip(1 - (total @ total - n) / (n * (n - 1)), 0.0, 1.0))

    def _contradiction(self, suite: Suite, rows: Sequence[NDArray[np.int64]]) -> Floats:
        around = [each[self.answered[each]][:VOTERS] for each in rows]
        everywhere = np.unique(np.concatenate([*around, np.array([], dtype=np.int64)]))
        right = self.answers.transform(suite.references)
        if not len(everywhere):
            return np.full(len(rows), np.nan)
        alike = (right @ self.said[everywhere].T).toarray()
        usual, place = alike.mean(axis=1), {row: i for i, row in enumerate(everywhere.tolist())}
        known = np.asarray(right.sum(axis=1)).ravel() > 0
        return np.array([
            usual[i] - alike[i, [place[row] for row in each.tolist()]].mean() if len(each) > 1 and known[i] else np.nan
            for i, each in enumerate(around)
        ])  # fmt: skip


def _reach(items: Any, clusters: Sequence[str]) -> Floats:
    """How near the `RADIUS`-th nearest other source is to every item, by the nearest of its items; n cosines."""
    _, of = np.unique(clusters, return_inverse=True)
    order = np.argsort(of, kind="stable")
    starts = np.flatnonzero(np.diff(of[order], prepend=-1))
    last = min(RADIUS, len(starts) - 1)
    found = []
    for start in range(0, len(of), BLOCK):
        alike = (items[start : start + BLOCK] @ items[order].T).toarray()
        sources = np.maximum.reduceat(alike, starts, axis=1)
        sources[np.arange(len(alike)), of[start : start + BLOCK]] = 0.0  # its own
        found.append(np.sort(sources, axis=1)[:, -last] if last else np.zeros(len(alike)))
    return np.concatenate(found)
