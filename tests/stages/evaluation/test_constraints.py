"""Every type of constraint on answers that keep to it and answers that do not; strict and loose; the measurement."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from stages.evaluation import forward
from stages.evaluation.constraints import TYPES, loose, problem, read, readings, strict
from stages.evaluation.constraints.measure import Constraints, ConstraintsParams, result
from stages.evaluation.constraints.parts import paragraphs, sentences, words

CASES = [
    ({"type": "words", "min": 3, "max": 4}, ["Don't be late.", "one two three-fold four"], ["two words", "a b c d e"]),
    ({"type": "characters", "max": 5}, ["  five! ", "a"], ["sixsix"]),
    ({"type": "lines", "min": 2, "max": 2}, ["a\n\nb\n", "a\nb"], ["a", "a\nb\nc"]),
    (
        {"type": "sentences", "min": 2, "max": 2},
        [
            "Dr. Li came. She paid 3.50 euros!",
            "1. Buy bread\n2. Sell it",
            'He said "Go." They went',
            "One\n\nTwo",
            "Here it is:\n- bread",
            "好。坏。",
        ],
        ["One only", "One. Two. Three.", "Mr. J. Smith left", "See e.g. the list"],
    ),
    ({"type": "questions", "min": 1, "max": 1}, ["Why? Because.", 'He asked "Why?"'], ["Why? How?", "Why not."]),
    ({"type": "paragraphs", "min": 2, "max": 2}, ["a\n\nb", "a\n \n\n\nb\n"], ["a\nb", "a\n\nb\n\nc"]),
    ({"type": "paragraphs", "min": 2, "max": 2, "divider": "***"}, ["a\n***\nb", "a***b***"], ["a\n\nb", "a"]),
    (
        {"type": "bullets", "min": 2, "max": 2},
        ["- a\n- b", "Yes:\n * a\n + b", "• a\n• b"],
        ["- a", "-5\n-6", "a - b\n- c"],
    ),
    ({"type": "numbered_items", "min": 2}, ["1. a\n2) b"], ["1. a\nb", "1 a\n2 b", "In 1. and 2. place"]),
    ({"type": "headings", "min": 1}, ["# A\nb", "a\n### B"], ["#A", "a # b"]),
    (
        {"type": "highlights", "min": 2, "max": 2},
        ["*a* and **b c**", "*a*\n*b*"],
        ["**a**", "* a\n* b", "2 * 3 * 4 * 5"],
    ),
    (
        {"type": "sections", "marker": "Section", "min": 2},
        ["Section 1\na\n\n**SECTION 2**: b", "## Section 1\n## Section 2"],
        ["Section 1\nas in Section 2", "Section one\nSection two"],
    ),
    ({"type": "placeholders", "min": 2}, ["Dear [name], in [your town]"], ["[name]", "[a](http://x) [ ] [b]"]),
    ({"type": "capital_words", "min": 2, "max": 3}, ["I like GPL-2", "USA NATO EU"], ["USA", "A B C D", "Usa Nato"]),
    ({"type": "keywords", "all": ["cat", "very old"]}, ["A very\nold CAT."], ["a cat", "concatenate very old"]),
    ({"type": "forbidden", "words": ["cat"]}, ["concatenate", "dog"], ["The Cat!"]),
    ({"type": "keyword_order", "all": ["one", "two"]}, ["two one two"], ["two, one", "one"]),
    ({"type": "keyword_frequency", "keyword": "so", "min": 2, "max": 2}, ["So, so. Also"], ["so", "so so so"]),
    ({"type": "letter_frequency", "letter": "e", "max": 2}, ["Eve", "no"], ["Eve even"]),
    (
        {"type": "first_word_of_paragraph", "paragraph": 2, "word": "still", "paragraphs": 2},
        ["One.\n\n'Still', two"],
        ["Still\n\none", "one\n\nstill\n\nthree", "Still"],
    ),
    ({"type": "keyword_in_sentence", "sentence": 2, "keyword": "sun"}, ["Rain. The sun. End."], ["Sun. Rain.", "Sun."]),
    ({"type": "keyword_in_sentence", "sentence": -1, "keyword": "sun"}, ["Rain. The sun."], ["Sun. Rain."]),
    ({"type": "lowercase"}, ["all small, 3 of them"], ["One", "123"]),
    ({"type": "uppercase"}, ["ALL BIG 3"], ["ALL bIG", "123"]),
    ({"type": "no_commas"}, ["No stop. None; none"], ["a, b", "好，坏", "a، b"]),
    ({"type": "without_characters", "characters": "!?"}, ["Yes."], ["Yes!", "What?"]),
    (
        {"type": "language", "code": "de"},
        ["Das ist ein Satz über das Wetter von gestern."],
        ["This is a sentence about the weather of yesterday."],
    ),
    ({"type": "starts_with", "text": "Dear Ana"}, ['"Dear  Ana, hello', "**DEAR ANA**"], ["Hello, dear Ana"]),
    (
        {"type": "ends_with", "text": "The end."},
        ["So it was. the end.*", 'x "The end."'],
        ["The end. Or not", "the end"],
    ),
    ({"type": "quotation"}, ['"Yes, it is."', " “Yes.” \n"], ['"Yes', 'Yes "it" is', '"', '""']),
    ({"type": "json"}, ['{"a": 1}', '```json\n[1, "b"]\n```', "3"], ["{a: 1}", 'Here: {"a": 1}', "NaN", "yes"]),
    ({"type": "title"}, ["<<A walk>>\nIt rained."], ["<A walk>", "<< >>", "<<A\nwalk>>"]),
    ({"type": "postscript"}, ["Bye.\n\nP.S. Call me.", "Bye\n**P. S.:** call"], ["Bye. P.S.", "Say P.S. a", "PS call"]),
    ({"type": "postscript", "marker": "P.P.S"}, ["Bye\nP.P.S. Call"], ["Bye\nP.S. Call"]),
    (
        {"type": "two_responses"},
        ["a\n******\nb", "******a******b"],
        ["a", "a******a", "a******b******c", "a************b"],
    ),
    ({"type": "repeat_prompt", "text": "Why is it so?"}, ["why is  it so?\nBecause."], ["Why is it so?", "Because."]),
    ({"type": "one_of", "options": ["sure", "not sure", "no"]}, ["I am not sure.", "Sure!"], ["sure or no", "nothing"]),
    ({"type": "table"}, ["| a | b |\n|---|---|\n| 1 | 2 |", "a | b\n--|:-:\n1 | 2"], ["a | b\n1 | 2", "a\n---\nb"]),
    ({"type": "table", "columns": 2}, ["x\n| a | b |\n|---|---|\n| 1 | 2 |"], ["| a |\n|---|\n| 1 |"]),
    ({"type": "code_block"}, ["So:\n```\nx\n```", "```py\nx\n```"], ["`x`", "```\nx"]),
    ({"type": "code_block", "language": "python"}, ["```Python\nx\n```"], ["```\nx\n```"]),
]


def test_every_type_has_a_case_and_says_what_it_is():
    assert {case["type"] for case, _, _ in CASES} == set(TYPES) and len(TYPES) >= 20
    assert all(inspect.cleandoc(kind.__doc__) != inspect.cleandoc(kind.__base__.__doc__) for kind in TYPES.values())
    assert len({kind.__doc__ for kind in TYPES.values()}) == len(TYPES)


@pytest.mark.parametrize(("case", "kept", "broken"), CASES)
def test_type(case, kept, broken):
    assert problem([case]) == ""
    constraint = read(case)
    assert [answer for answer in kept if not strict(constraint, answer)] == []
    assert [answer for answer in broken if strict(constraint, answer)] == []


@pytest.mark.parametrize("case", [case for case, _, _ in CASES])
def test_an_empty_answer_keeps_to_nothing(case):
    assert not any(strict(read(case), answer) or loose(read(case), answer) for answer in ("", " \n", "\n\n"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("words", "`constraints` is a list of at least one constraint"),
        ([], "`constraints` is a list of at least one constraint"),
        (["words"], "constraints[0]: a constraint is an object with a `type`, a text, not 'words'"),
        ([{"type": ["words"]}], "a constraint is an object with a `type`"),
        ([{"type": "starts_with", "text": "**"}], "starts_with: `text` is empty"),
        ([{"type": "first_word_of_paragraph", "paragraph": 1, "word": "!"}], "word='!': a word"),
        ([{"type": "title"}, {"type": "wrds"}], "constraints[1]: type 'wrds' is unknown; did you mean words?"),
        ([{"type": "words", "mni": 3}], "constraints[0].mni: no such parameter; did you mean min?"),
        ([{"type": "words", "min": "3"}], "constraints[0].min='3': expected int, got str"),
        ([{"type": "words"}], "constraints[0]: words: give `min`, `max` or both"),
        ([{"type": "words", "min": 3, "max": 2}], "0 <= min <= max is needed"),
        ([{"type": "title", "text": "a"}], "constraints[0].text: no such parameter; known: none"),
        ([{"type": "keywords"}], "constraints[0]: keywords needs all"),
        ([{"type": "keywords", "all": []}], "`all` is a list of at least 1 texts"),
        ([{"type": "keyword_order", "all": ["a"]}], "`all` is a list of at least 2 texts"),
        ([{"type": "keyword_frequency", "keyword": " ", "min": 1}], "`keyword` is empty"),
        ([{"type": "letter_frequency", "letter": "ab", "min": 1}], "letter='ab': one character"),
        ([{"type": "first_word_of_paragraph", "paragraph": 3, "word": "a", "paragraphs": 2}], "they count from 1"),
        ([{"type": "keyword_in_sentence", "sentence": 0, "keyword": "a"}], "sentence=0"),
        ([{"type": "without_characters", "characters": ""}], "`characters` is empty"),
        ([{"type": "language", "code": "english"}], "code='english': py3langid tells"),
        ([{"type": "paragraphs", "min": 1, "divider": "---"}], "choose one of empty_line, ***"),
        ([{"type": "sections", "min": 1, "marker": " "}], "`marker` is empty"),
        ([{"type": "table", "columns": 0}], "columns=0: at least 1"),
        *[([{"type": kind, "text": ""}], "`text` is empty") for kind in ("starts_with", "ends_with", "repeat_prompt")],
        ([{"type": "postscript", "marker": ""}], "`marker` is empty"),
        ([{"type": "two_responses", "divider": ""}], "`divider` is empty"),
    ],
)
def test_a_constraint_that_cannot_work_is_described(given, message):
    assert message in problem(given)


# -- properties -----------------------------------------------------------------------------------------------------
NAMES = st.text("abcdefgh", min_size=1, max_size=6)
SAID = st.lists(NAMES, min_size=1, max_size=12)


@given(SAID)
def test_words_are_counted_whatever_stands_between_them(said):
    for between in (" ", "\n", ", ", " – ", "... "):
        assert words(between.join(said)) == said


@given(
    st.lists(SAID.map(" ".join), min_size=1, max_size=6), st.sampled_from([". ", "! ", "? ", ".\n", "...\n\n", ".” "])
)
def test_sentences_are_counted_whatever_ends_them(said, stop):
    # One letter before a stop may be an initial only if it is a capital, so that these texts have none.
    assert len(sentences(stop.join(said) + stop.strip())) == len(said)


@given(st.lists(NAMES, min_size=1, max_size=6), st.integers(1, 3))
def test_paragraphs_are_counted_however_many_lines_are_empty(said, empty):
    assert paragraphs(("\n" * (empty + 1)).join(said)) == said


@given(st.text(max_size=80), st.sampled_from([case for case, _, _ in CASES]))
def test_what_holds_strictly_holds_loosely_and_nothing_raises(answer, case):
    constraint = read(case)
    assert loose(constraint, answer) >= strict(constraint, answer)


@given(st.text(" *\nab", max_size=40))
def test_readings_are_the_answer_without_its_ends_and_without_its_stars(answer):
    rows = answer.split("\n")
    found = readings(answer)
    assert len(found) == 8 and found[0] == answer
    assert found[1:4] == ["\n".join(rows[1:]).strip(), "\n".join(rows[:-1]).strip(), "\n".join(rows[1:-1]).strip()]
    assert found[4:] == [text.replace("*", "") for text in found[:4]]


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ({"type": "json"}, 'Sure:\n{"a": 1}'),
        ({"type": "json"}, '{"a": 1}\nHope it helps!'),
        ({"type": "json"}, 'Sure:\n{"a": 1}\nHope it helps!'),
        ({"type": "lowercase"}, "Sure!\nall small"),
        ({"type": "two_responses"}, "Two answers:\na\n******\na\nb"),
        ({"type": "repeat_prompt", "text": "Why?"}, "Of course.\nWhy? So."),
    ],
)
def test_loose_forgives_a_chatty_opening_or_closing(case, answer):
    assert loose(read(case), answer)


# -- the measurement ------------------------------------------------------------------------------------------------
ROW = {"id": "r", "prompt": [{"role": "user", "content": "Say."}]}
TWO = [{"type": "lowercase"}, {"type": "no_commas"}]


@pytest.mark.parametrize(
    ("answer", "score", "values"),
    [
        ("yes", 1, (1, 1, 1)),
        ("Yes", 0, (0.5, 0, 0.5)),
        ("Yes,", 0, (0, 0, 0)),
        ("Sure:\nyes", 0, (0.5, 1, 1)),
        ("a, B\nyes", 0, (0, 1, 1)),
    ],
)
def test_an_item_counts_when_every_constraint_is_kept(answer, score, values):
    found = result({**ROW, "constraints": TWO}, answer)
    assert found.score == score
    assert tuple(found.values[n] for n in ("instruction_strict", "prompt_loose", "instruction_loose")) == values


def test_the_four_accuracies_of_the_paper(policy, monkeypatch):
    answers = ["yes", "Yes", "a, b"]
    monkeypatch.setattr(forward, "greedy", lambda *args: answers)
    rows = [{**ROW, "id": f"r{k}", "constraints": part} for k, part in enumerate([TWO, TWO, TWO[1:]])]
    items = Constraints().run(policy, rows, ConstraintsParams(), 0)
    details = Constraints().details(items, ConstraintsParams())
    kept = [[True, True], [False, True], [False]]  # by hand
    assert [item.score for item in items] == [all(part) for part in kept]
    single = details["metrics"]["instruction_strict"]
    assert single["value"] == pytest.approx(np.mean([met for part in kept for met in part])) and single["n"] == 5
    assert single["low"] <= single["value"] <= single["high"]
    assert details["metrics"]["prompt_loose"]["value"] == pytest.approx(1 / 3)
    assert details["remarks"] == ["Constraints kept least, strictly: lowercase (1 of 2), no_commas (2 of 3)."]


def test_max_new_tokens_is_read(policy, questions):
    rows = [{**row, "constraints": [{"type": "words", "max": 9}]} for row in questions]
    found = Constraints().run(policy, rows, ConstraintsParams(max_new_tokens=3), 0)
    assert all(len(policy.tokenizer.encode(item.answer)) <= 6 for item in found)


def test_a_broken_constraint_names_its_item():
    with pytest.raises(DataError, match=r"item r: constraints\[0\]: type 'wrds' is unknown"):
        Constraints().check({**ROW, "constraints": [{"type": "wrds"}]}, ConstraintsParams())


@pytest.mark.parametrize("answer", ["", "  \n", "\u200b", "\ufeff\n", "\u00a0"])
@pytest.mark.parametrize("case", [{"type": "words", "max": 5}, {"type": "no_commas"}, {"type": "lines", "max": 2}])
def test_an_answer_that_nobody_can_see_keeps_to_nothing(case, answer):
    assert not strict(read(case), answer) and not loose(read(case), answer)


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ({"type": "keywords", "all": ["caf\u00e9"]}, "A cafe\u0301 here"),
        ({"type": "keywords", "all": ["don't"]}, "I don\u2019t"),
        ({"type": "letter_frequency", "letter": "\u00e9", "min": 1, "max": 1}, "cafe\u0301"),
        ({"type": "json"}, '```JSON\r\n{"a": 1}\r\n```'),
        ({"type": "words", "min": 2, "max": 2}, "\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e"),
        ({"type": "words", "min": 3, "max": 3}, "3.14 for 1,000"),
    ],
)
def test_one_text_in_two_spellings_is_one_text(case, answer):
    assert strict(read(case), answer)


def test_a_forbidden_word_is_found_with_either_apostrophe():
    assert not strict(read({"type": "forbidden", "words": ["don't"]}), "I don\u2019t")
