import random

import pytest
from contract_scopes import asked, label, lines, pair, scope_of, votes

from stages.data.contract.preferences import (
    chosen_is_rejected,
    contradicting_preferences,
    label_imbalance,
    length_bias,
)


def ranking(prompt, *answers):
    return {"prompt": asked(prompt), "answers": list(answers)}


def pairs(longer, of):
    """`longer` of `of` pairs prefer the longer answer."""
    return [pair(f"q{i}", *("long answer here", "short")[:: 1 if i < longer else -1]) for i in range(of)]


def test_an_answer_preferred_to_itself():
    rows = [pair("Why?", "So it is.", " So  it is."), pair("Why?", "So.", "No.")]
    assert lines(chosen_is_rejected(scope_of("dpo", rows))) == [1]
    voted = [
        votes("Why?", "So", "So ", al="a"),
        votes("Why?", "So", "So ", al="tie"),
        votes("Why?", "So", "No", al="a"),
    ]
    assert lines(chosen_is_rejected(scope_of("reward", voted))) == [1]
    assert lines(chosen_is_rejected(scope_of("reward", [ranking("Why?", "A", "B", "A ")]))) == [1]


def test_case_counts_since_a_prompt_may_be_about_it():
    rows = [pair("Put this in capitals: soft snow", "SOFT SNOW", text) for text in ("soft snow", "SOFT  SNOW")]
    assert lines(chosen_is_rejected(scope_of("dpo", rows))) == [2]


def test_a_prompt_stage_is_not_asked_about_answers():
    assert not chosen_is_rejected(scope_of("ppo", [pair("Why?", "So.", "so")]))


def test_two_pairs_that_contradict_each_other():
    rows = [pair("Q", "A", "B"), pair("q ", " B", "A "), pair("Other", "B", "A"), pair("Q", "A", "C")]
    assert lines(contradicting_preferences(scope_of("dpo", rows))) == [1, 2]


def test_a_circle_of_several_answers():
    rows = [pair("Q", "A", "B"), pair("Q", "B", "C"), pair("Q", "C", "A"), pair("Q", "A", "D")]
    assert lines(contradicting_preferences(scope_of("dpo", rows))) == [1, 2, 3]


def test_rankings_give_pairs():
    rows = [ranking("Q", "A", "B", "C"), ranking("Q", "C", "A"), ranking("Q", "A", "D")]
    assert lines(contradicting_preferences(scope_of("reward", rows))) == [1, 2]


def test_annotators_may_differ_but_not_from_themselves():
    rows = [votes("Q", "A", "B", anna="a", bo="b"), votes("Q", "B", "A", cy="a"), votes("P", "A", "B", anna="b")]
    assert not contradicting_preferences(scope_of("reward", rows))
    again = [*rows, votes("Q", "B", "A", anna="a")]
    found = contradicting_preferences(scope_of("reward", again))
    assert lines(found) == [1, 4]
    assert found.marks[0].text.startswith("anna: A | over: B")


def test_majorities_that_go_in_a_circle():
    rows = [votes("Q", a, b, x="a", y="a", z="b") for a, b in ("AB", "BC")]
    rows += [votes("Q", "A", "C", x="a", v="b", w="b")]
    assert lines(contradicting_preferences(scope_of("reward", rows))) == [1, 2, 3]


def test_a_tied_pair_closes_no_circle():
    rows = [votes("Q", "A", "B", x="a"), votes("Q", "B", "C", x="a"), votes("Q", "C", "A", y="a", z="b")]
    assert not contradicting_preferences(scope_of("reward", rows))


def test_one_answer_with_both_labels():
    rows = [label("Q", "A", True), label("Q", "A ", False), label("Q", "B", False), label("P", "A", False)]
    assert lines(contradicting_preferences(scope_of("kto", rows))) == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_preferences_that_follow_one_order_never_contradict(seed):
    order = random.Random(seed).sample("ABCDEFGH", 8)
    drawn = [sorted(random.Random(seed + i).sample(range(8), 2)) for i in range(60)]
    assert not contradicting_preferences(scope_of("dpo", [pair("Q", order[i], order[j]) for i, j in drawn]))


def test_length_bias_of_either_direction():
    found = length_bias(scope_of("dpo", pairs(80, 100)))
    assert "longer answer is preferred in 80 of 100" in found.message
    assert found.detail["letters_preferred"] == pytest.approx(0.8 * len("long answer here") + 0.2 * len("short"))
    assert len(found.marks) == 80
    assert "shorter answer is preferred in 80 of 100" in length_bias(scope_of("dpo", pairs(20, 100))).message


@pytest.mark.parametrize("longer, of", [(50, 100), (58, 100), (7, 10)])
def test_no_length_bias_where_chance_explains_it(longer, of):
    assert not length_bias(scope_of("dpo", pairs(longer, of)))


def test_length_bias_of_votes_goes_by_the_majority():
    rows = [votes(f"q{i}", "long answer here", "short", x="a", y="a", z="b") for i in range(30)]
    assert len(length_bias(scope_of("reward", rows)).marks) == 30


def test_labels_out_of_balance():
    rows = [label(f"q{i}", f"answer {i}", i >= 2) for i in range(40)]
    found = label_imbalance(scope_of("kto", rows))
    assert found.detail == {"good": 38, "bad": 2}
    assert not label_imbalance(scope_of("kto", rows[:19]))
    assert not label_imbalance(scope_of("kto", [label(f"q{i}", "x", i % 3 > 0) for i in range(40)]))


def test_votes_that_are_mostly_ties():
    rows = [votes(f"q{i}", "A", "B", x="tie" if i < 30 else "ab"[i % 2]) for i in range(40)]
    found = label_imbalance(scope_of("reward", rows))
    assert "30 of 40 (75.0 %) votes are ties" in found.message
    assert lines(found) == list(range(1, 31))


@pytest.mark.parametrize("first, heavy", [(45, "first"), (8, "second"), (30, None)])
def test_votes_for_one_place(first, heavy):
    rows = [votes(f"q{i}", "A", "B", x="a" if i < first else "b") for i in range(60)]
    found = label_imbalance(scope_of("reward", rows))
    assert (f"prefer the {heavy} answer" in found.message) if heavy else found is None
