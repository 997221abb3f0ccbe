"""What is known of a slice, counted by hand on twelve items and a handful of rows."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from stages.diagnosis.evidence import gather
from stages.diagnosis.neighbours import Around
from stages.diagnosis.slices import ALL, DECLARED, Slice

HALF = np.arange(12) < 6  # the slice that most tests look at


def around(counts, disagreement=None, contradiction=None):
    """So many rows near each item, never the same row twice; nan where nothing is said."""
    rows, at = [], 0
    for count in counts:
        rows.append(np.arange(at, at + count))
        at += count
    unknown = np.full(len(counts), np.nan)
    told = [unknown if values is None else np.asarray(values, dtype=float) for values in (disagreement, contradiction)]
    return Around(rows, np.zeros(len(counts), dtype=np.int64), *told)


@pytest.fixture
def quiz(made):
    """Twelve items: 1 to 6 of topic tea, of which four fail, 7 to 12 of topic rail, of which one does."""
    return made.suite(
        [f"question {i}" for i in range(12)],
        failed=[1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0],
        columns=[{"topic": "tea"}] * 6 + [{"topic": "rail"}] * 6,
    )


TEA = Slice("topic=tea", DECLARED, HALF, "topic", "tea")
EVERYTHING = Slice("all of quiz", ALL, np.ones(12, dtype=bool))


def test_the_rate_is_of_the_slice_and_its_excess_is_over_the_rest(quiz):
    found = gather(quiz, TEA, around([1] * 12), {}, [])
    assert found.rate.value == pytest.approx(4 / 6) and found.rate.n == 6
    # Agresti and Caffo add a success and a failure to both: 5/8 - 2/8
    assert found.excess.value == pytest.approx(3 / 8) and found.excess.p < 0.1


def test_all_items_have_no_rest_to_be_compared_with(quiz):
    found = gather(quiz, EVERYTHING, around([1] * 12, disagreement=[0.5] * 12), {}, [])
    assert found.rate.value == pytest.approx(5 / 12)
    assert (found.excess, found.density, found.dispute) == (None, None, None)


def test_covered_items_and_different_rows_are_counted(quiz):
    shared = around([0, 0, 2, 2, 2, 0, 3, 3, 3, 3, 3, 3])
    shared.rows[3] = shared.rows[2]  # two items have the same rows near them
    found = gather(quiz, TEA, shared, {}, [])
    assert found.covered == 0.5 and found.rows == 4


def test_density_is_rows_near_an_item_over_those_near_one_of_the_rest(quiz):
    counts = [1, 0, 1, 0, 1, 0, 4, 6, 4, 6, 4, 6]
    found = gather(quiz, TEA, around(counts), {}, []).density
    assert found.ratio == pytest.approx(0.5 / 5)
    assert found.p == pytest.approx(mannwhitneyu(counts[:6], counts[6:], alternative="less").pvalue)


def test_items_of_one_source_are_one_observation_of_density(made):
    clusters = ["a"] * 6 + [f"r{i}" for i in range(6)]
    quiz = made.suite([f"q{i}" for i in range(12)], clusters=clusters)
    found = gather(quiz, TEA, around([0] * 6 + [5] * 6), {}, [])
    assert found.density.p == pytest.approx(mannwhitneyu([0], [5] * 6, alternative="less").pvalue) and found.size == 1


def test_where_nothing_is_near_anything_the_slice_is_like_the_rest(quiz):
    assert gather(quiz, TEA, around([0] * 12), {}, []).density.ratio == 1.0


def test_rows_with_the_slice_s_value_are_counted_for_each_item_against_the_other_values(made, quiz):
    rows = [made.lesson("a", topic="tea")] * 3 + [made.lesson("b", topic="rail")] * 30 + [made.lesson("c", topic="x")]
    found = gather(quiz, TEA, around([1] * 12), {}, rows)
    assert found.same_value == 3 and found.value_ratio == pytest.approx((3 / 6) / (30 / 6))


def test_one_rich_value_does_not_make_all_others_look_missing(made):
    """Five values with an item each; the slice's has ten rows, the others 8, 10, 12 and 1000: it is as rich as most."""
    counts = {"tea": 10, "a": 8, "b": 10, "c": 12, "d": 1000}
    quiz = made.suite(["q"] * 5, columns=[{"topic": value} for value in counts])
    rows = [made.lesson("x", topic=value) for value, count in counts.items() for _ in range(count)]
    first = Slice("topic=tea", DECLARED, np.arange(5) < 1, "topic", "tea")
    assert gather(quiz, first, around([1] * 5), {}, rows).value_ratio == pytest.approx(10 / 11)


def test_rows_without_the_column_say_nothing_of_values(made, quiz):
    found = gather(quiz, TEA, around([1] * 12), {}, [made.lesson("a"), made.lesson("b", level="1")])
    assert found.same_value is None and found.value_ratio is None


def test_a_value_that_only_the_slice_has_is_counted_without_a_ratio(made, quiz):
    found = gather(quiz, TEA, around([1] * 12), {}, [made.lesson("a", topic="tea")])
    assert found.same_value == 1 and found.value_ratio is None


def test_a_whole_suite_has_a_value_only_if_all_its_items_share_it(made, quiz):
    rows = [made.lesson("a", topic="tea", part="x")] * 2
    assert gather(quiz, EVERYTHING, around([1] * 12), {}, rows).same_value is None
    alike = made.suite(["q"] * 12, columns=[{"part": "x"}] * 12)
    assert gather(alike, EVERYTHING, around([1] * 12), {}, rows).same_value == 2


def test_disagreement_is_of_items_of_which_it_is_known(quiz):
    known = [0.6, 0.6, np.nan, np.nan, np.nan, np.nan, 0.0, 0.0, np.nan, np.nan, np.nan, np.nan]
    found = gather(quiz, TEA, around([2] * 12, disagreement=known), {}, [])
    assert found.disagreement.value == pytest.approx(0.6) and found.disagreement.size == 2
    # 2.2 of 4 against 1 of 4, the added success and failure among them
    assert found.dispute.value == pytest.approx(2.2 / 4 - 1 / 4)
    assert gather(quiz, TEA, around([2] * 12), {}, []).dispute is None


def test_contradiction_has_the_lower_end_of_an_interval_and_needs_five_items(quiz):
    values = [0.2, 0.4, 0.2, 0.4, 0.3, np.nan] + [0.0] * 6
    mean, low = gather(quiz, TEA, around([2] * 12, contradiction=values), {}, []).contradiction
    known = np.array(values[:5])
    assert mean == pytest.approx(0.3)
    assert low == pytest.approx(0.3 - 1.96 * known.std(ddof=1) / np.sqrt(5))
    few = [0.2, 0.4, 0.2, 0.4] + [np.nan] * 8
    assert gather(quiz, TEA, around([2] * 12, contradiction=few), {}, []).contradiction is None


def test_the_curve_is_of_the_slice_s_own_items_in_the_order_of_the_shares(quiz):
    points = {1.0: quiz.failed, 0.25: np.ones(12), 0.5: np.where(HALF, 1.0, 0.0)}
    found = gather(quiz, TEA, around([1] * 12), points, []).curve
    assert found.shares == (0.25, 0.5, 1.0)
    assert [rate.value for rate in found.rates] == pytest.approx([1.0, 1.0, 4 / 6])
    assert gather(quiz, TEA, around([1] * 12), {1.0: quiz.failed}, []).curve is None
