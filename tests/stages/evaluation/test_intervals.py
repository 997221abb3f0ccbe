"""The cluster bootstrap of any number, against scipy's and the spread that is known."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from stages.evaluation.intervals import clustered, mean_of


def test_singles_have_the_interval_of_scipys_bootstrap():
    values = np.random.default_rng(0).exponential(size=200)
    found = mean_of(values, [str(k) for k in range(200)])
    expected = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert found["value"] == pytest.approx(values.mean()) and found["n"] == 200
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=0.04)


def test_items_of_one_source_count_as_one():
    values = np.repeat(np.random.default_rng(0).random(20), 10)
    alone, together = (mean_of(values, [str(k // size) for k in range(200)]) for size in (1, 10))
    assert together["high"] - together["low"] > 2.5 * (alone["high"] - alone["low"])


def test_draws_without_a_value_are_left_out():
    found = clustered(lambda p: 1.0 if 0 in p else float("nan"), ["a", "b", "c"])
    assert (found["low"], found["high"]) == (1, 1)
