"""Rows of a data set as pairs of answers with what they are trained towards.

`preference` rows say which answer is better; `votes` rows what each annotator said, all rows about the same two answers
together; a `ranking` of K answers stands for its K (K - 1) / 2 pairs, which count as one (Ouyang et al. 2022, arXiv
2203.02155, equation 1).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.errors import DataError
from stages.data.contract.view import form_of
from stages.rewards import votes as voting
from stages.rewards.votes import Vote, Votes

Row = dict[str, Any]
SIDES = {"a": "b", "b": "a", "tie": "tie"}


@dataclass
class Comparison:
    """Two answers to one prompt. `votes` empty: the data set itself says that `a` is better."""

    row: Row  # the first that asks about them: id, cluster, slices, task
    a: str
    b: str
    votes: list[Vote] = field(default_factory=list)
    weight: float = 1.0


@dataclass
class Judged:
    """A comparison with its answers in order. `target`: how probable it is that `chosen` is better, at least a half."""

    row: Row
    chosen: str
    rejected: str
    target: float
    weight: float
    margin: float  # log-odds by which `chosen` is to lead

    @property
    def tied(self) -> bool:
        return self.target == 0.5


def comparisons(rows: Iterable[Row]) -> list[Comparison]:
    """What the rows compare, in their order; DataError for a row that compares nothing."""
    found: list[Comparison] = []
    asked: dict[str, Comparison] = {}  # votes on the same two answers belong together
    for row in rows:
        form = form_of(row)
        if form == "preference":
            found.append(Comparison(row, row["chosen"], row["rejected"]))
        elif form == "ranking":
            found += _ranked(row)
        elif form == "votes":
            key = json.dumps([row["prompt"], *sorted((row["a"], row["b"]))], sort_keys=True)
            if key not in asked:
                found.append(asked.setdefault(key, Comparison(row, row["a"], row["b"])))
            asked[key].votes += _as_seen(row, asked[key])
        else:
            raise DataError(
                f"row {row.get('id', '?')} holds {form or 'nothing known'}: a reward model compares answers; use a "
                "data set of format preference, votes or ranking"
            )
    return found


def _ranked(row: Row) -> Iterator[Comparison]:
    pairs = list(combinations(row["answers"], 2))
    for better, worse in pairs:
        yield Comparison(row, better, worse, weight=1 / len(pairs))


def _as_seen(row: Row, first: Comparison) -> list[Vote]:
    """The votes of a row, its sides named as those of the first row about the same answers."""
    if row["a"] == first.a:
        return list(row["votes"])
    return [{**vote, "prefers": SIDES[vote["prefers"]]} for vote in row["votes"]]


def judged(found: Sequence[Comparison], asked: Votes) -> list[Judged]:
    """Every comparison with its target, weight and margin, in order. Weights have a mean of 1."""
    if not found:
        return []
    better = np.ones(len(found))
    voted = [i for i, each in enumerate(found) if each.votes]
    if voted:
        better[voted] = voting.probabilities([found[i].votes for i in voted], asked.targets)
    target = voting.smoothed(better, asked.smoothing)
    counts = np.array([max(1, len(each.votes)) for each in found], dtype=float)
    weight = voting.weights(target, counts, asked.weights) * np.array([each.weight for each in found])
    weight *= len(found) / weight.sum() if weight.any() else 1.0
    return [_ordered(*each, asked) for each in zip(found, target.tolist(), weight.tolist(), strict=True)]


def _ordered(each: Comparison, target: float, weight: float, asked: Votes) -> Judged:
    """The better answer as the chosen one, of a tie that with the margin. A margin of the other answer is none."""
    lead = voting.margin(each.votes, asked.margins) if each.votes else 0.0
    if (target, lead) >= (0.5, 0.0):
        return Judged(each.row, each.a, each.b, target, weight, max(0.0, lead))
    return Judged(each.row, each.b, each.a, 1 - target, weight, max(0.0, -lead))
