"""From votes of people to what a pair of answers is trained towards: a probability, a margin and a weight.

A vote is {"by": annotator, "prefers": "a" | "b" | "tie", "strength"?: 1 to 3}. A tie is half a vote for either side.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, List

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from stages.data.shares import LATER

Vote = Mapping[str, Any]
Floats = NDArray[np.float64]

FOR_A = {"a": 1.0, "tie": 0.5, "b": 0.0}
TARGETS = ("hard", "share", "dawid_skene")
WEIGHTS = ("none", "count", "confidence")
LEVELS = 3  # of strength: slightly better, better, much better
ROUNDS = 500  # of EM at most
CLOSE = 1e-9  # largest change of a probability at which EM has arrived
PSEUDO = 1.0  # right and wrong votes that each annotator is thought to have given before: nobody is ever sure


@dataclass
class Votes:
    """How votes become targets."""

    # hard: the majority; share: of the votes; dawid_skene: votes by how reliable each annotator is
    targets: str = field(default="share", metadata=LATER)
    smoothing: float = field(default=0.0, metadata=LATER)  # probability that a judgement is wrong whatever votes say
    # none; count: by the number of votes; confidence: by how far the target is from a half
    weights: str = field(default="none", metadata=LATER)
    # log-odds of: slightly better, better, much better
    margins: List[float] = field(default_factory=lambda: [0.0] * LEVELS, metadata=LATER)


def check(asked: Votes) -> None:
    """ConfigError for settings that cannot work."""
    for name, value, known in (("targets", asked.targets, TARGETS), ("weights", asked.weights, WEIGHTS)):
        if value not in known:
            raise ConfigError(f"votes.{name}={value}: use one of {', '.join(known)}")
    if asked.weights == "confidence" and asked.targets == "hard":
        raise ConfigError(
            "votes.weights=confidence: with votes.targets=hard all pairs are equally certain and count alike; use "
            "share or dawid_skene, or votes.weights=none"
        )
    if not 0 <= asked.smoothing < 0.5:
        raise ConfigError(f"votes.smoothing={asked.smoothing}: from 0 to below 0.5, where nothing would be preferred")
    margins = asked.margins
    if len(margins) != LEVELS or any(not 0 <= value < float("inf") for value in margins) or margins != sorted(margins):
        raise ConfigError(
            f"votes.margins={list(margins)}: give {LEVELS} numbers from 0 up, for slightly better, better, much better"
        )


def probabilities(ballots: Sequence[Sequence[Vote]], targets: str) -> Floats:
    """How probable it is that `a` is the better answer, for each pair's votes (at least one each)."""
    if targets == "dawid_skene":
        return dawid_skene(ballots).better
    shares = np.array([sum(FOR_A[vote["prefers"]] for vote in ballot) / len(ballot) for ballot in ballots])
    return (np.sign(shares - 0.5) + 1) / 2 if targets == "hard" else shares


def smoothed(probability: Floats, smoothing: float) -> Floats:
    """The target when every judgement is wrong with probability `smoothing` (Mitchell 2023, conservative DPO)."""
    return probability * (1 - smoothing) + (1 - probability) * smoothing


def margin(ballot: Sequence[Vote], margins: Sequence[float]) -> float:
    """Mean margin of the votes by their strength, positive where `a` is better (Touvron et al. 2023, arXiv 2307.09288).

    A vote without a strength has none, and counts in the mean.
    """
    signs = (2 * FOR_A[vote["prefers"]] - 1 for vote in ballot)
    sizes = (margins[vote["strength"] - 1] if "strength" in vote else 0.0 for vote in ballot)
    return sum(sign * size for sign, size in zip(signs, sizes, strict=True)) / len(ballot)


def weights(targets: Floats, counts: Floats, kind: str) -> Floats:
    """A weight for each pair, not normalised, from its target and its number of votes."""
    return {"none": np.ones_like(targets), "count": counts, "confidence": np.abs(2 * targets - 1)}[kind]


@dataclass(frozen=True)
class Annotators:
    """What votes say about pairs and about those who voted.

    `better[i]`: probability that `a` of pair i is the better answer. `right_a[name]`, `right_b[name]`: how often this
    annotator prefers the better answer where that is `a`, where it is `b`.
    """

    better: Floats
    right_a: dict[str, float]
    right_b: dict[str, float]
    votes: dict[str, int]


def dawid_skene(ballots: Sequence[Sequence[Vote]]) -> Annotators:
    """The annotator model of Dawid & Skene (1979, Applied Statistics 28) for two classes, fitted by EM.

    Its two classes are "a is better" and "b is better". They are taken as equally frequent, because which answer stands
    first says nothing. Votes without a name are one annotator together.
    """
    votes = [(i, str(vote.get("by") or ""), FOR_A[vote["prefers"]]) for i, b in enumerate(ballots) for vote in b]
    names = sorted({name for _, name, _ in votes})
    place = {name: number for number, name in enumerate(names)}
    pair = np.array([i for i, _, _ in votes])
    by = np.array([place[name] for _, name, _ in votes])
    for_a = np.array([value for _, _, value in votes])
    better = probabilities(ballots, "share")
    for _ in range(ROUNDS):
        right_a = _rate(by, for_a, better[pair], len(names))
        right_b = _rate(by, 1 - for_a, 1 - better[pair], len(names))
        odds = for_a * np.log(right_a / (1 - right_b))[by] + (1 - for_a) * np.log((1 - right_a) / right_b)[by]
        before, better = better, 1 / (1 + np.exp(-np.bincount(pair, weights=odds, minlength=len(ballots))))
        if np.abs(better - before).max() < CLOSE:
            break
    rates = [dict(zip(names, map(float, found), strict=True)) for found in (right_a, right_b)]
    return Annotators(better, *rates, dict(Counter(name for _, name, _ in votes)))


def _rate(by: NDArray[np.int64], right: Floats, belief: Floats, count: int) -> Floats:
    """Share of right votes of each annotator, each vote counted by the belief that the pair is of this class."""
    of = np.bincount(by, weights=belief, minlength=count)
    return (np.bincount(by, weights=belief * right, minlength=count) + PSEUDO) / (of + 2 * PSEUDO)
