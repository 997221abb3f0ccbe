"""The gap between items like those in training and others."""

import numpy as np
import pytest

from pipeline.errors import DataError
from stages.evaluation.gap import check_outside, gap, is_outside
from stages.evaluation.measurement import Scored


def items_of(inside, outside, **more):
    return [
        Scored(f"{side}{k}", f"{side}{k}", float(score), slices={"seen": seen}, **more)
        for side, seen, scores in (("in", "yes", inside), ("out", "no", outside))
        for k, score in enumerate(scores)
    ]


def test_the_gap_is_the_value_outside_less_the_value_inside():
    found = gap(items_of([1, 1, 1, 0] * 10, [1, 0, 0, 0] * 5), ["seen=no"], "accuracy")
    assert found["inside"]["value"] == 0.75 and found["outside"]["value"] == 0.25 and found["gap"]["value"] == -0.5
    assert (found["inside"]["n"], found["outside"]["n"]) == (40, 20)


def test_the_interval_of_independent_sides_is_about_the_normal_one():
    rng = np.random.default_rng(0)
    inside, outside = (rng.random(400) < 0.6).astype(float), (rng.random(200) < 0.5).astype(float)
    found = gap(items_of(inside, outside), ["seen=no"], "accuracy")["gap"]
    half = 1.96 * np.sqrt(inside.var() / 400 + outside.var() / 200)
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.12)


def test_the_gap_of_perplexity_is_relative():
    found = gap(items_of(np.log([10.0, 10.0]), np.log([12.0, 12.0])), ["seen=no"], "perplexity")
    assert found["gap"]["value"] == pytest.approx(0.2) and "inside" not in found


def test_any_of_several_slices_is_outside_and_booleans_are_words():
    assert is_outside({"unseen": "2"}, ["unseen=1", "unseen=2"]) and is_outside({"seen": False}, ["seen=false"])
    assert not is_outside({"unseen": "0"}, ["unseen=1"])


def test_a_slice_that_no_item_has_is_told_with_those_there_are():
    rows = [{"slices": {"seen": "yes"}}, {"slices": {"seen": "no"}}]
    check_outside("s", rows, ["seen=no"])
    check_outside("s", rows, [])
    with pytest.raises(
        DataError, match="suite s: outside: no item is of sen=no; slices of its items: seen=no, seen=yes"
    ):
        check_outside("s", rows, ["sen=no"])
    with pytest.raises(DataError, match="every item"):
        check_outside("s", rows[1:], ["seen=no"])


def test_sides_without_any_spread_still_have_an_interval():
    found = gap(items_of([0] * 40, [0] * 40), ["seen=no"], "refusal_rate")
    assert found["gap"]["value"] == 0 and found["gap"]["low"] < -0.05 and found["gap"]["high"] > 0.05
