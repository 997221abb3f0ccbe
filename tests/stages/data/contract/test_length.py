import numpy as np
import pytest
from contract_scopes import chat, lines, scope_of
from hypothesis import given
from hypothesis import strategies as st

from stages.data.contract.length import length_outliers, robust_z


def chats(lengths, task=""):
    return [chat(f"Question {i}?", "x" * length, task=task) for i, length in enumerate(lengths)]


USUAL = [180 + 7 * (i % 17) for i in range(60)]


@pytest.mark.parametrize("length, kind", [(9000, "long"), (2, "short")])
def test_both_sides(length, kind):
    found = length_outliers(scope_of("sft", chats([*USUAL, length])))
    assert lines(found) == [61] and found.detail[kind] == 1 and found.marks[0].text.startswith(kind)


def test_a_fifth_of_the_rows_may_be_outliers():
    found = length_outliers(scope_of("sft", chats([*USUAL, *[9000] * 15])))
    assert lines(found) == list(range(61, 76))


@pytest.mark.parametrize("lengths", [[20] * 40 + [60], [1, 2, 3, 900, 1200, 2000, 900, 1100] * 20, [5, 5, 5, 5000]])
def test_what_is_nothing_unusual(lengths):
    """Three times the same length; short and long answers in equal parts; too few rows to say."""
    assert length_outliers(scope_of("sft", chats(lengths))) is None


def test_each_task_has_its_own_usual_length():
    rows = [*chats(USUAL, "explain"), *chats([3] * 60, "label"), *chats([3], "explain")]
    assert lines(length_outliers(scope_of("sft", rows))) == [121]


def test_documents_count_as_wholes_and_the_limit_is_the_configs():
    rows = [{"text": "x" * length} for length in [*USUAL, 1500]]
    assert lines(length_outliers(scope_of("domain", rows))) == [61]
    assert length_outliers(scope_of("domain", rows, outlier=6.0)) is None


def test_lognormal_lengths_have_their_normal_z():
    draw = np.random.default_rng(0)
    lengths = np.exp(draw.normal(6, 1, 20_000))
    assert np.allclose(robust_z(lengths), np.log(lengths) - 6, atol=0.15)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_scores_follow_the_order_of_lengths(lengths):
    scores = robust_z(np.array(lengths, dtype=float))
    assert np.isfinite(scores).all()
    assert (np.diff(scores[np.argsort(lengths, kind="stable")]) >= 0).all()
