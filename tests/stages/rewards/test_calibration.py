"""Calibration against values worked out by hand, and what it must not depend on."""

import numpy as np
import pytest

from stages.evaluation.reliability import wilson
from stages.rewards.calibration import calibration


def test_values_by_hand():
    """Two bins. Confidences .6 .7 | .9 .8 (from p = .2); right 1 0 | 1 1."""
    found = calibration([0.6, 0.7, 0.9, 0.2], [1, 0, 1, 0], bins=2)
    low, high = found.bins
    assert (low.low, low.high, low.n, low.confidence, low.accuracy) == (0.5, 0.75, 2, pytest.approx(0.65), 0.5)
    assert (high.low, high.high, high.n, high.confidence, high.accuracy) == (0.75, 1.0, 2, pytest.approx(0.85), 1.0)
    assert found.ece == pytest.approx((2 * 0.15 + 2 * 0.15) / 4)
    assert found.brier == pytest.approx((0.4**2 + 0.7**2 + 0.1**2 + 0.2**2) / 4)


def test_votes_are_outcomes_by_their_share():
    found = calibration([0.8], [0.75])
    assert found.ece == pytest.approx(0.05) and found.brier == pytest.approx(0.75 * 0.04 + 0.25 * 0.64)


def test_nothing_depends_on_which_answer_of_a_pair_comes_first():
    rng = np.random.default_rng(0)
    p, y = rng.random(200), rng.integers(0, 2, 200)
    turned = rng.random(200) < 0.5
    one, other = calibration(p, y), calibration(np.where(turned, 1 - p, p), np.where(turned, 1 - y, y))
    assert one.ece == pytest.approx(other.ece) and one.brier == pytest.approx(other.brier)
    assert [part.n for part in one.bins] == [part.n for part in other.bins]


def test_who_always_says_one_half_is_calibrated_and_knows_nothing():
    found = calibration([0.5] * 10, [1] * 7 + [0] * 3)
    assert found.ece == 0 and found.brier == pytest.approx(0.25)


def test_who_is_sure_and_wrong_could_not_be_worse():
    found = calibration([1.0, 0.0], [0, 1])
    assert found.ece == 1 and found.brier == 1
    assert [part.n for part in found.bins] == [0] * 9 + [2]


def test_probabilities_that_are_true_have_a_small_error():
    rng = np.random.default_rng(1)
    p = rng.random(20_000)
    assert calibration(p, rng.random(20_000) < p).ece < 0.015
    assert calibration(p**3, rng.random(20_000) < p).ece > 0.05


def test_intervals_are_wilsons():
    """Against published values: 8 of 10, 0 of 20; and none of nothing."""
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0.0, 0) == (0.0, 1.0)
    from scipy.stats import binomtest

    exact = binomtest(37, 50).proportion_ci(method="wilson")
    assert wilson(37 / 50, 50) == pytest.approx((exact.low, exact.high), abs=1e-6)
