"""Votes as targets: majorities, shares, Dawid & Skene's model against a planted truth, margins, smoothing, weights."""

import math
import random

import numpy as np
import pytest

from pipeline.errors import ConfigError
from stages.rewards.votes import Votes, check, dawid_skene, margin, probabilities, smoothed, weights


def ballot(text):
    """'ab-' -> votes of annotators 0, 1, 2 for a, for b and for a tie."""
    return [{"by": str(i), "prefers": {"-": "tie"}.get(letter, letter)} for i, letter in enumerate(text)]


BALLOTS = [ballot(text) for text in ("aaa", "aab", "ab", "a-", "--", "bbb", "b-a-b")]


def test_share_counts_a_tie_as_half_a_vote_for_either():
    assert probabilities(BALLOTS, "share") == pytest.approx([1, 2 / 3, 0.5, 0.75, 0.5, 0, 0.4])


def test_hard_is_the_majority_and_a_half_without_one():
    assert probabilities(BALLOTS, "hard").tolist() == [1, 1, 0.5, 1, 0.5, 0, 0]


# -- the annotator model ------------------------------------------------------------------------------------------
ACCURACY = {"ann": 0.95, "bob": 0.9, "cyd": 0.75, "dan": 0.6, "eve": 0.3}  # eve tends to say the contrary


def planted(pairs=800, seed=3, accuracy=ACCURACY):
    """(truth, ballots): whether `a` is better, and what annotators of known accuracy say."""
    rng = random.Random(seed)
    truth = [rng.random() < 0.5 for _ in range(pairs)]
    return truth, [
        [{"by": who, "prefers": "ab"[(rng.random() < right) != a_is_better]} for who, right in accuracy.items()]
        for a_is_better in truth
    ]


def test_annotators_of_known_accuracy_are_found():
    _, ballots = planted()
    found = dawid_skene(ballots)
    for who, right in ACCURACY.items():
        assert found.right_a[who] == pytest.approx(right, abs=0.06) and found.right_b[who] == pytest.approx(
            right, abs=0.06
        )
        assert found.votes[who] == 800


def test_its_probabilities_say_more_than_the_share_of_votes():
    truth, ballots = planted()
    model, share = probabilities(ballots, "dawid_skene"), probabilities(ballots, "share")

    def right(p):
        return np.mean((p > 0.5) == truth)

    def log_loss(p):
        p = np.clip(p, 1e-6, 1 - 1e-6)
        return -np.mean(np.where(truth, np.log(p), np.log(1 - p)))

    assert right(model) > right(share) + 0.05 and log_loss(model) < log_loss(share) - 0.1


def test_its_probabilities_are_calibrated():
    """Of the pairs that it is p sure about, p are right."""
    truth, ballots = planted(pairs=4000, seed=5, accuracy={"ann": 0.8, "bob": 0.7, "cyd": 0.6})
    p = probabilities(ballots, "dawid_skene")
    for low in (0.5, 0.6, 0.7, 0.8, 0.9):
        inside = (np.maximum(p, 1 - p) >= low) & (np.maximum(p, 1 - p) < low + 0.1)
        if inside.sum() > 200:
            right = np.mean(((p > 0.5) == truth)[inside])
            assert right == pytest.approx(np.maximum(p, 1 - p)[inside].mean(), abs=0.06)


def plain_em(ballots, rounds):
    """The same model as one writes it down: a loop for every sum."""
    value = {"a": 1.0, "tie": 0.5, "b": 0.0}
    better = [sum(value[v["prefers"]] for v in votes) / len(votes) for votes in ballots]
    names = {v["by"] for votes in ballots for v in votes}
    for _ in range(rounds):
        right = {}
        for who in names:
            a, of_a, b, of_b = 1.0, 2.0, 1.0, 2.0  # one right and one wrong vote given before
            for votes, p in zip(ballots, better, strict=True):
                for vote in votes:
                    if vote["by"] == who:
                        a, of_a = a + p * value[vote["prefers"]], of_a + p
                        b, of_b = b + (1 - p) * (1 - value[vote["prefers"]]), of_b + 1 - p
            right[who] = (a / of_a, b / of_b)
        better = []
        for votes in ballots:
            for_a = for_b = 1.0
            for vote in votes:
                (ra, rb), x = right[vote["by"]], value[vote["prefers"]]
                for_a *= ra**x * (1 - ra) ** (1 - x)
                for_b *= (1 - rb) ** x * rb ** (1 - x)
            better.append(for_a / (for_a + for_b))
    return better


@pytest.mark.parametrize("ballots", [BALLOTS, planted(60)[1]])
def test_it_is_the_model_as_one_writes_it_down(ballots):
    assert dawid_skene(ballots).better == pytest.approx(plain_em(ballots, 400), abs=1e-6)


def test_an_annotator_who_always_prefers_the_first_answer_says_nothing():
    rng = random.Random(0)
    truth = [rng.random() < 0.5 for _ in range(300)]
    good = [[{"by": who, "prefers": "ab"[(rng.random() < 0.85) != a]} for who in "xyz"] for a in truth]
    biased = [[*votes, {"by": "first", "prefers": "a"}] for votes in good]
    found = dawid_skene(biased)
    assert found.right_a["first"] > 0.98 and found.right_b["first"] < 0.02
    assert found.better == pytest.approx(dawid_skene(good).better, abs=0.05)


def test_votes_without_a_name_are_one_annotator():
    votes = [[{"prefers": "a"}, {"by": "", "prefers": "a"}, {"by": None, "prefers": "b"}]]
    assert dawid_skene(votes).votes == {"": 3}


# -- margins, smoothing, weights ----------------------------------------------------------------------------------
def test_margin_is_the_mean_over_votes_by_their_strength_and_side():
    graded = [("a", 3), ("a", 1), ("b", 2), ("tie", None), ("a", None)]
    votes = [{"prefers": side, **({"strength": level} if level else {})} for side, level in graded]
    assert margin(votes, [0.5, 1.0, 2.0]) == pytest.approx((2.0 + 0.5 - 1.0) / 5)
    turned = [{**vote, "prefers": {"a": "b", "b": "a", "tie": "tie"}[vote["prefers"]]} for vote in votes]
    assert margin(turned, [0.5, 1.0, 2.0]) == pytest.approx(-margin(votes, [0.5, 1.0, 2.0]))


def test_smoothing_turns_each_judgement_round_with_its_probability():
    assert smoothed(np.array([1.0, 0.5, 0.0, 0.8]), 0.1) == pytest.approx([0.9, 0.5, 0.1, 0.74])


def test_weights():
    targets, counts = np.array([1.0, 0.75, 0.5]), np.array([3.0, 4.0, 2.0])
    assert weights(targets, counts, "none").tolist() == [1, 1, 1]
    assert weights(targets, counts, "count").tolist() == [3, 4, 2]
    assert weights(targets, counts, "confidence").tolist() == [1, 0.5, 0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"targets": "soft"}, r"votes\.targets=soft: use one of hard, share, dawid_skene"),
     ({"weights": "confidence", "targets": "hard"}, r"votes\.weights=confidence: with votes\.targets=hard all pairs"),
     ({"weights": "all"}, r"votes\.weights=all: use one of none, count, confidence"),
     ({"smoothing": 0.5}, r"votes\.smoothing=0\.5"), ({"smoothing": -0.1}, r"votes\.smoothing"),
     ({"margins": [1.0]}, r"votes\.margins=\[1\.0\]: give 3 numbers"),
     ({"margins": [3.0, 2.0, 1.0]}, r"votes\.margins"), ({"margins": [0.0, 0.0, math.inf]}, r"votes\.margins")],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings, said):
    check(Votes())
    with pytest.raises(ConfigError, match=said):
        check(Votes(**settings))
