"""Routing: from which confidence on may an answer go out by itself, and which go to a person?

A threshold that is read off the data it was chosen on promises too much. So the items are in three parts, by source:
`fit` (the temperature, and where the search starts), `choose` (the search), `test` (what is reported).

The search is fixed-sequence testing, as in Learn then Test (Angelopoulos et al. 2021). It goes down from the start
through a fixed grid of thresholds. At each, the hypothesis "of the answers at or above it more than the target are
wrong" is tested with the exact binomial test at level 1 - assurance, and the search ends before the first one that
cannot be rejected. With probability `assurance` over the choice of items, the error rate of what goes out is then at
most the target. The test needs independent items, so one of each source is taken. Where the promise cannot be made,
the result says why.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.data.split import unit
from stages.evaluation.reliability import Floats, calibration_error, equal_mass

GRID = np.round(np.arange(0.99, -0.001, -0.01), 2)  # thresholds, the strictest first
PARTS = ("fit", "choose", "test")
DRAWS, SEED = 1000, 20261125
SURE = 0.95  # of the test for poor calibration, and of the intervals


@dataclass(frozen=True)
class Asked:
    """What is to be promised."""

    target_error: float  # of the answers that go out
    assurance: float  # probability that the promise holds
    max_ece: float  # a calibration error that is shown to be above this is too poor


@dataclass(frozen=True)
class Answers:
    """N answers: confidence and outcome (N,), and their sources."""

    confidence: Floats
    right: Floats
    clusters: Sequence[str]

    def take(self, places: Any) -> "Answers":
        chosen = np.asarray(places)
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(int)
        return Answers(self.confidence[index], self.right[index], [self.clusters[i] for i in index])


def parts(clusters: Sequence[str]) -> NDArray[np.str_]:
    """The part of every item: whole sources dealt in turn, in the order of a hash of their names."""
    order = sorted(set(clusters), key=lambda name: unit("routing", name))
    of = {name: PARTS[k % len(PARTS)] for k, name in enumerate(order)}
    return np.array([of[name] for name in clusters])


def route(fit: Answers, choose: Answers, test: Answers, asked: Asked) -> dict[str, Any]:
    """The threshold with what it costs and keeps on the test part, or `routed: false` with the reason."""
    given = {"target_error": asked.target_error, "assurance": asked.assurance}
    unseen = Answers(
        np.concatenate([choose.confidence, test.confidence]),
        np.concatenate([choose.right, test.right]),
        [*choose.clusters, *test.clusters],
    )
    choose, test = one_each(choose), one_each(test)
    reason = _too_few(len(choose.right), asked) or _too_poor(one_each(unseen), asked)
    threshold = None if reason else chosen(fit, choose, asked)
    if threshold is None:
        return {**given, "routed": False, "threshold": None, "reason": reason or _not_kept(choose, asked)}
    return {**given, "routed": True, "threshold": threshold, **_measured(test, threshold, asked)}


def one_each(answers: Answers) -> Answers:
    """One answer of each source, the one that a hash of its place names."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(answers.clusters):
        places.setdefault(name, []).append(place)
    return answers.take([own[int(unit("one of", name) * len(own))] for name, own in sorted(places.items())])


def chosen(fit: Answers, choose: Answers, asked: Asked) -> float | None:
    """The lowest threshold that the search reaches, or None when its first test fails."""
    found = None
    at = [rejects(fit, threshold, asked.target_error) for threshold in GRID]
    for threshold in GRID[int(np.argmin(at)) :]:
        if rejects(choose, threshold, asked.target_error) > 1 - asked.assurance:
            break
        found = float(threshold)
    return found


def rejects(answers: Answers, threshold: float, target: float) -> float:
    """p-value of "more than the target are wrong" among the answers at or above it: P(Bin(n, target) <= k)."""
    from scipy.stats import binom

    right = answers.right[answers.confidence >= threshold]
    return float(binom.cdf(np.sum(right < 1), len(right), target)) if len(right) else 1.0


def least_items(asked: Asked) -> int:
    """Items without a single error that the promise takes."""
    return math.ceil(math.log(1 - asked.assurance) / math.log(1 - asked.target_error))


def _too_few(n: int, asked: Asked) -> str:
    needed = least_items(asked)
    if n >= needed:
        return ""
    return (
        f"too few items: {n} independent ones (one of each source) are there to choose a threshold with; to promise "
        f"at most {_share(asked.target_error)} errors with {_share(asked.assurance)} assurance takes {needed} without "
        f"an error"
    )


def _too_poor(answers: Answers, asked: Asked) -> str:
    """Poor: an error above `max_ece`, and above what a calibrated model of these confidences shows by chance."""
    found = calibration_error(equal_mass(answers.confidence, answers.right))
    if found <= asked.max_ece or found <= chance_error(answers.confidence):
        return ""
    return (
        f"the calibration is too poor: after temperature scaling confidence and accuracy still differ by {found:.3f} "
        f"(ECE), at most {asked.max_ece:g} is allowed, and chance does not explain it"
    )


def chance_error(confidence: Floats) -> float:
    """The ECE that a calibrated model stays under in 95 of 100 draws of outcomes (Broecker & Smith 2007)."""
    rng = np.random.default_rng(SEED)
    drawn = rng.random((DRAWS, len(confidence))) < confidence
    return float(np.quantile([calibration_error(equal_mass(confidence, row)) for row in drawn.astype(float)], SURE))


def _not_kept(answers: Answers, asked: Asked) -> str:
    return (
        f"confidence does not tell right from wrong well enough: no threshold keeps the errors at "
        f"{_share(asked.target_error)} (all {len(answers.right)} answers together have "
        f"{_share(1 - float(answers.right.mean()))})"
    )


def _measured(test: Answers, threshold: float, asked: Asked) -> dict[str, Any]:
    out = test.confidence >= threshold
    wrong, sent = int(np.sum(test.right[out] < 1)), int(out.sum())
    error, alone = exact(wrong, sent), exact(sent, len(out))
    sentence = (
        f"answers of confidence {threshold:g} or more may go out: at most {_share(asked.target_error)} of them are "
        f"wrong, with {_share(asked.assurance)} assurance. On the test part {wrong} of {sent} are wrong (95 % interval "
        f"{_share(error['low'])} to {_share(error['high'])}), and {len(out) - sent} of {len(out)} go to a person"
    )
    return {"error": error, "coverage": alone, "reason": "", "sentence": sentence}


def exact(count: int, n: int) -> dict[str, Any]:
    """A share with its exact interval (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    if not n:
        return {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}
    found = binomtest(count, n).proportion_ci(SURE, method="exact")
    return {"value": count / n, "low": float(found.low), "high": float(found.high), "n": n}


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"
