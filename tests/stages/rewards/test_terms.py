"""The rules of a reward: what each scores by hand, what its config refuses, and which rows it cannot score."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from stages.rewards.terms import TERMS, f1, make, spoken


def scores(config, answers, rows=None, ended=None, lengths=None):
    rows = rows or [{}] * len(answers)
    ended = ended or [True] * len(answers)
    return make("t", config).score(rows, answers, ended, lengths or [len(a.split()) + 1 for a in answers])


def test_checker_asks_each_row_s_own_check():
    rows = [{"check": {"type": "exact", "answer": "MIT"}}, {"check": {"type": "numeric", "answer": 4}}]
    assert scores({"kind": "checker"}, ["MIT.", "It is 5"], rows) == [1, 0]
    assert scores({"kind": "checker"}, ["GPL", "so 4"], rows) == [0, 1]


def test_checker_refuses_a_row_without_check_unless_told():
    strict, mild = make("t", {"kind": "checker"}), make("t", {"kind": "checker", "missing": "zero"})
    assert "no `check`" in strict.row_problem({"id": "a"}) and not mild.row_problem({"id": "a"})
    assert "unknown" in mild.row_problem({"check": {"type": "exactly"}})
    assert mild.score([{}], ["anything"], [True], [2]) == [0]


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ({"type": "regex", "pattern": "^Answer: "}, "Answer: 4", "4"),
        ({"type": "json", "keys": ["name"]}, '{"name": 1}', '{"names": 1}'),
        ({"type": "lines", "count": 2}, "a\n\nb", "a"),
        ({"type": "words", "max": 2}, "two words", "now three words"),
    ],
)
def test_format_asks_the_same_of_every_answer(check, good, bad):
    assert scores({"kind": "format", "check": check}, [good, bad]) == [1, 0]


@pytest.mark.parametrize("kind", ["checker", "format"])
def test_an_answer_cut_off_fails_where_it_must_be_finished(kind):
    check = {"type": "contains", "all": ["yes"]}
    own = {"kind": kind, **({"check": check} if kind == "format" else {})}
    rows, answers, ended = [{"check": check}] * 2, ["yes", "yes"], [True, False]
    assert scores(own, answers, rows, ended) == [1, 1]
    assert scores({**own, "finished": True}, answers, rows, ended) == [1, 0]


def test_length_near_a_target():
    """Target 10, tolerance 2: 8 to 12 words are right, 22 and more (or none) are worth nothing."""
    said = [" ".join(["w"] * n) for n in (8, 10, 12, 13, 17, 22, 40)]
    found = scores({"kind": "length", "target": 10, "tolerance": 2}, said)
    assert found == pytest.approx([1, 1, 1, 0.9, 0.5, 0, 0])
    assert scores({"kind": "length", "target": 10}, [""]) == [0]


def test_length_above_what_is_free():
    assert scores({"kind": "length", "free": 3}, ["a b c", "a b c d e"]) == [0, -2]
    assert scores({"kind": "length", "free": 3, "unit": "characters"}, ["abc", "a b c"]) == [0, -2]
    assert scores({"kind": "length", "free": 3, "unit": "tokens"}, ["abc", "abc"], lengths=[3, 9]) == [0, -6]


def test_ban_counts_whole_words_and_phrases_up_to_its_cap():
    config = {"kind": "ban", "words": ["stupid", "as an AI", "don't"], "cap": 2}
    said = ["STUPID!", "stupidity", "As  an\nai I say", "Don\u2019t", "stupid, stupid, stupid", "fine"]
    assert scores(config, said) == [-1, 0, -1, -1, -2, 0]


def test_a_banned_phrase_counts_once_and_not_again_for_its_words():
    assert scores({"kind": "ban", "words": ["bad", "idea", "bad idea"], "cap": 9}, ["bad idea, bad"]) == [-2]


def test_ban_takes_its_words_as_text_not_as_patterns():
    assert scores({"kind": "ban", "words": ["c++", "a.b"]}, ["I like C++.", "axb"]) == [-1, 0]


def test_reference_f1_by_hand():
    """2 of 3 words of the reference, 2 of 4 of the answer: 2 * 2 / 7."""
    assert f1(spoken("the MIT licence"), spoken("It is: MIT Licence!")) == pytest.approx(4 / 7)
    rows = [{"reference": ["Apache 2.0", "the Apache licence"]}]
    assert scores({"kind": "reference"}, ["The Apache licence."], rows) == [1]
    assert scores({"kind": "reference"}, [""], rows) == [0]


def test_reference_exact_and_of_another_field():
    config = {"kind": "reference", "field": "chosen", "measure": "exact"}
    assert scores(config, ["YES.", "yes it is"], [{"chosen": "Yes"}] * 2) == [1, 0]


@pytest.mark.parametrize(
    "row", [{}, {"reference": 3}, {"reference": []}, {"reference": "..."}, {"reference": ["a", ""]}]
)
def test_reference_names_a_row_without_a_text(row):
    assert "reference" in make("t", {"kind": "reference"}).row_problem(row)


@given(st.text(), st.text(min_size=1))
def test_scores_stay_in_their_range(answer, reference):
    rows = [{"check": {"type": "words", "min": 2}, "reference": reference}]
    if spoken(reference):
        assert 0 <= scores({"kind": "reference"}, [answer], rows)[0] <= 1
    assert 0 <= scores({"kind": "length", "target": 5}, [answer], rows)[0] <= 1
    assert -3 <= scores({"kind": "ban", "words": [reference if reference.strip() else "x"]}, [answer], rows)[0] <= 0


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"kind": "lenght", "target": 3}, "did you mean length?"),
        ({"target": 3}, "kind=None"),
        ({"kind": "length", "targets": 3}, "did you mean target?"),
        ({"kind": "length"}, "either `target` or `free`"),
        ({"kind": "length", "target": 3, "free": 3}, "either `target` or `free`"),
        ({"kind": "length", "target": 0}, "1 or more"),
        ({"kind": "length", "target": "3"}, "expected int"),
        ({"kind": "length", "free": 3, "tolerance": 1}, "belongs to a `target`"),
        ({"kind": "length", "free": -1}, "negative"),
        ({"kind": "length", "target": 3, "unit": "word"}, "did you mean words?"),
        ({"kind": "format"}, "check: a check is an object with a `type`"),
        ({"kind": "format", "check": {"type": "regex", "pattern": "("}}, "check: "),
        ({"kind": "ban"}, "at least one word"),
        ({"kind": "ban", "words": [" "]}, "none of them empty"),
        ({"kind": "ban", "words": ["x"], "cap": 0}, "1 or more"),
        ({"kind": "checker", "missing": "skip"}, "choose one of error, zero"),
        ({"kind": "reference", "measure": "rouge"}, "choose one of f1, exact"),
    ],
)
def test_a_wrong_config_is_named_with_its_key(config, says):
    with pytest.raises(ConfigError) as caught:
        make("reward.terms.mine", config)
    assert str(caught.value).startswith("reward.terms.mine") and says in str(caught.value)


def test_every_term_is_tried_here():
    assert set(TERMS) == {"checker", "length", "format", "ban", "reference"}
