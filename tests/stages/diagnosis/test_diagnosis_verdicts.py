"""One verdict for a slice: which evidence says what, and what is said first."""

from dataclasses import replace

import pytest

from pipeline.judging.statistics import Estimate as Rate
from stages.diagnosis.curve import Curve, Estimate
from stages.diagnosis.evidence import Density, Evidence
from stages.diagnosis.rates import Difference, Share
from stages.diagnosis.verdicts import FEW, LABELS, MISSING, MORE, NONE, judge, rising

WORSE = Difference(0.3, 0.2, 0.4, 0.001)
SURE, UNSURE = 0.001, 0.4  # corrected p of failing no more than the rest


def falling(gain=0.06, low=0.02):
    rates = tuple(Estimate(rate, rate - 0.05, rate + 0.05) for rate in (0.6, 0.5, 0.4))
    return Curve((0.25, 0.5, 1.0), rates, Estimate(0.4 - gain, 0.3, 0.38), Estimate(gain, low, gain + 0.04))


@pytest.fixture
def slice_():
    """A slice of 40 items of which half fail, clearly more than the rest; its training data is like the rest's."""
    return Evidence(
        rate=Rate(0.5, 0.4, 0.6, 40, 40), size=40.0, excess=WORSE, covered=0.9, density=Density(1.0, 0.5), rows=100,
        same_value=None, value_ratio=None, disagreement=Share(0.1, 40.0), dispute=Difference(0.0, -0.1, 0.1, 0.5),
        contradiction=(0.0, -0.1), curve=None,
    )  # fmt: skip


@pytest.fixture
def whole(slice_):
    """All items of a suite, which have no rest to be compared with."""
    return replace(slice_, excess=None, density=None, dispute=None)


def word(found, p=SURE, pooled=None):
    return judge(found, p, pooled, "there are no points").word


def test_a_failing_slice_without_a_cause_gets_no_verdict_and_the_sentence_says_what_was_looked_at(slice_):
    found = judge(slice_, SURE, None, "no model was trained on less data")
    assert found.word == NONE
    assert found.sentence == (
        "it fails, and neither fewer training rows near it nor their answers explain that; no learning curve (no model "
        "was trained on less data)."
    )


@pytest.mark.parametrize(("size", "said"), [(7.9, FEW), (8.0, MISSING)])
def test_below_eight_independent_items_nothing_is_told_whatever_the_evidence(slice_, size, said):
    assert word(replace(slice_, size=size, density=Density(0.0, 1e-6))) == said


def test_items_that_hang_together_are_counted_as_what_they_are_worth(slice_):
    few = replace(slice_, rate=Rate(0.5, 0.1, 0.9, 40, 4), size=4.0)
    assert judge(few, SURE, None, "").sentence == "40 items, worth 4 independent ones say little."


@pytest.mark.parametrize(
    ("density", "said"),
    [
        (Density(0.1, 1e-4), MISSING),
        (Density(0.2, 1e-4), MISSING),
        (Density(0.21, 1e-4), NONE),  # as many as that are not missing
        (Density(0.1, 0.01), NONE),  # may as well be chance
    ],
)
def test_rows_are_missing_where_far_fewer_are_near_than_near_the_rest_and_not_by_chance(slice_, density, said):
    assert word(replace(slice_, density=density)) == said


def test_the_column_that_says_what_a_row_is_goes_before_nearness(slice_):
    bare = Density(0.0, 1e-9)
    assert word(replace(slice_, density=bare, same_value=90, value_ratio=0.9)) == NONE
    found = judge(replace(slice_, same_value=5, value_ratio=0.1), SURE, None, "")
    assert found.word == MISSING and found.sentence.startswith("5 training rows have its value: for each item 0.1 ")


def test_a_value_of_which_only_this_slice_has_rows_is_missing_below_eight_of_them(slice_):
    assert [word(replace(slice_, same_value=rows)) for rows in (7, 8)] == [MISSING, NONE]


@pytest.mark.parametrize(("covered", "said"), [(0.2, MISSING), (0.25, NONE)])
def test_a_whole_suite_is_missing_where_hardly_an_item_has_a_row_near(whole, covered, said):
    assert word(replace(whole, covered=covered)) == said


@pytest.mark.parametrize(
    ("dispute", "said"),
    [
        (Difference(0.2, 0.05, 0.3, 0.01), LABELS),
        (Difference(0.2, -0.01, 0.4, 0.06), NONE),  # may as well be chance
        (Difference(0.09, 0.05, 0.12, 0.01), NONE),  # too little to matter
    ],
)
def test_labels_disagree_where_rows_near_an_item_differ_more_than_elsewhere(slice_, dispute, said):
    assert word(replace(slice_, dispute=dispute)) == said


@pytest.mark.parametrize(("mean", "low", "said"), [(0.2, 0.1, LABELS), (0.2, -0.1, NONE), (0.1, 0.05, NONE)])
def test_labels_disagree_where_the_rows_answer_otherwise_than_the_suite(whole, mean, low, said):
    assert word(replace(whole, contradiction=(mean, low))) == said


def test_missing_rows_are_said_before_labels_and_labels_before_more_data(slice_):
    all_three = replace(
        slice_, density=Density(0.0, 1e-9), dispute=Difference(0.3, 0.2, 0.4, 0.001), curve=falling(),
    )  # fmt: skip
    assert word(all_three) == MISSING
    assert word(replace(all_three, density=Density(1.0, 0.5))) == LABELS
    assert word(replace(all_three, density=Density(1.0, 0.5), dispute=None)) == MORE


def test_what_fails_no_more_than_the_rest_has_no_rows_missing(slice_):
    assert word(replace(slice_, density=Density(0.0, 1e-9)), p=UNSURE) == NONE


def test_what_hardly_fails_needs_nothing(slice_):
    fine = replace(slice_, rate=Rate(0.04, 0.0, 0.1, 40, 40), excess=Difference(-0.2, -0.3, -0.1, 1.0), curve=falling())
    found = judge(fine, 1.0, falling(), "")
    assert found.word == NONE and found.sentence == "it hardly fails: 4 % of 40 items."


def test_more_data_helps_where_failures_still_fall_and_the_sentence_looks_ahead(slice_):
    found = judge(replace(slice_, curve=falling()), SURE, None, "")
    assert found.word == MORE
    assert found.sentence == (
        "its failures fell from 60 % at 25 % of the data to 40 % at all of it; twice the data would make them 34 % "
        "(30 % to 38 %)."
    )


def test_a_fall_that_chance_explains_or_that_is_tiny_promises_nothing(slice_):
    assert not rising(falling(low=0.0)) and not rising(falling(gain=0.009, low=0.001)) and rising(falling())
    assert word(replace(slice_, curve=falling(low=-0.01))) == NONE


def test_a_noisy_slice_that_is_like_the_rest_has_the_curve_of_the_suite(slice_):
    noisy = replace(slice_, curve=falling(low=-0.1))
    assert word(noisy, p=UNSURE, pooled=falling()) == MORE
    assert "failures of the whole suite" in judge(noisy, UNSURE, falling(), "").sentence
    assert word(noisy, p=SURE, pooled=falling()) == NONE  # it is not like the rest
    assert word(replace(slice_, curve=falling(gain=0.0, low=-0.1)), p=UNSURE, pooled=falling()) == NONE


def test_an_interval_too_wide_to_see_anything_is_too_few_items(slice_):
    wide = replace(slice_, excess=Difference(0.1, -0.06, 0.26, 0.2))
    assert word(wide, p=UNSURE) == FEW
    assert word(replace(wide, excess=Difference(0.1, -0.04, 0.24, 0.2)), p=UNSURE) == NONE


def test_a_slice_that_clearly_fails_less_than_the_rest_has_items_enough(slice_):
    better = replace(slice_, rate=Rate(0.1, 0.03, 0.2, 40, 40), excess=Difference(-0.6, -0.76, -0.44, 1.0))
    found = judge(better, 1.0, None, "")
    assert found.word == NONE and found.sentence.startswith("it fails no more than the rest; no learning curve")


def test_a_whole_suite_with_a_few_failures_among_few_items_is_not_said_to_hardly_fail(whole):
    found = judge(replace(whole, rate=Rate(0.2, 0.0, 0.45, 10, 10), size=10.0), 1.0, None, "")
    assert found.word == FEW and found.sentence == "20 % of 10 items fail, which may be luck."
