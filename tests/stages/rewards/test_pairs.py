"""Rows as judged pairs: votes on the same answers meet, rankings count as one, the better answer comes first."""

import pytest

from pipeline.errors import DataError
from stages.rewards.pairs import comparisons, judged
from stages.rewards.votes import Votes

ASKED = [{"role": "user", "content": "Hi"}]


def voted(a, b, *votes, **labels):
    cast = [{"by": who, "prefers": side, **({"strength": level[0]} if level else {})} for who, side, *level in votes]
    return {"id": f"{a}{b}", "prompt": ASKED, "a": a, "b": b, "votes": cast, **labels}


def only(rows, **asked):
    (found,) = judged(comparisons(rows), Votes(**asked))
    return found


def test_a_preference_is_certain():
    found = only([{"id": "p", "prompt": ASKED, "chosen": "yes", "rejected": "no"}])
    assert (found.chosen, found.rejected, found.target, found.weight, found.margin) == ("yes", "no", 1.0, 1.0, 0.0)
    assert only([found.row], smoothing=0.1).target == pytest.approx(0.9)


def test_the_answer_with_more_votes_is_the_chosen_one():
    found = only([voted("x", "y", ("ann", "b", 3), ("bob", "b", 1), ("cyd", "a", 2))], margins=[1.0, 2.0, 4.0])
    assert (found.chosen, found.rejected) == ("y", "x")
    assert found.target == pytest.approx(2 / 3) and found.margin == pytest.approx((4 + 1 - 2) / 3)


def test_a_margin_against_the_chosen_answer_is_none():
    found = only([voted("x", "y", ("ann", "b", 1), ("bob", "b", 1), ("cyd", "a", 3))], margins=[0.1, 1.0, 4.0])
    assert found.chosen == "y" and found.margin == 0


def test_of_a_tie_the_answer_with_the_margin_is_the_chosen_one():
    """Whichever stands first."""
    for rows in (
        [voted("x", "y", ("ann", "a", 3), ("bob", "b", 1))],
        [voted("y", "x", ("ann", "b", 3), ("bob", "a", 1))],
    ):
        found = only(rows, margins=[1.0, 2.0, 4.0])
        assert (found.chosen, found.target, found.margin) == ("x", 0.5, 1.5)


def test_rows_about_the_same_two_answers_are_one_pair_whichever_stands_first():
    rows = [voted("x", "y", ("ann", "a"), cluster="c"), voted("y", "x", ("bob", "a")), voted("y", "x", ("cyd", "tie"))]
    found = only(rows)
    assert (found.chosen, found.target, found.row["cluster"]) == ("x", 0.5, "c") and found.tied
    other = {**voted("x", "y", ("ann", "a")), "prompt": [{"role": "user", "content": "Ho"}]}
    assert len(comparisons([rows[0], other])) == 2


def test_a_ranking_stands_for_all_its_pairs_and_weighs_as_one():
    rows = [{"id": "r", "prompt": ASKED, "answers": ["best", "middle", "worst"]},
            {"id": "p", "prompt": ASKED, "chosen": "yes", "rejected": "no"}]  # fmt: skip
    found = judged(comparisons(rows), Votes())
    assert [(each.chosen, each.rejected) for each in found[:3]] == [
        ("best", "middle"), ("best", "worst"), ("middle", "worst"),
    ]  # fmt: skip
    assert [each.weight / found[3].weight for each in found[:3]] == pytest.approx([1 / 3] * 3)
    assert sum(each.weight for each in found) == pytest.approx(4)


def test_weights_by_the_number_of_votes_have_a_mean_of_one():
    rows = [voted("x", "y", ("ann", "a")), voted("z", "w", ("ann", "a"), ("bob", "a"), ("cyd", "b"))]
    assert [each.weight for each in judged(comparisons(rows), Votes(weights="count"))] == pytest.approx([0.5, 1.5])
    assert [each.weight for each in judged(comparisons(rows), Votes(weights="confidence"))] == pytest.approx([1.5, 0.5])


def test_preferences_stay_certain_beside_votes_of_annotators():
    rows = [{"id": "p", "prompt": ASKED, "chosen": "yes", "rejected": "no"}, voted("x", "y", ("ann", "a"))]
    found = judged(comparisons(rows), Votes(targets="dawid_skene"))
    assert found[0].target == 1.0 and 0.5 < found[1].target < 1


def test_a_row_without_a_comparison_is_refused():
    with pytest.raises(DataError, match=r"row t holds text: a reward model compares answers"):
        comparisons([{"id": "t", "text": "A document."}])


def test_no_rows_are_no_pairs():
    assert judged(comparisons([]), Votes(targets="dawid_skene")) == []
