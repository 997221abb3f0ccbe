"""Every rule on answers it accepts and answers it must not accept, and checks that are written wrong."""

import pytest

from stages.evaluation.checks import RULES, describe, passes, problem

CASES = [
    ({"type": "exact", "answer": "Paris"}, [" Paris. ", "Paris"], ["paris", "It is Paris", ""]),
    ({"type": "exact", "answer": "Yes.", "ignore_case": True}, ["yes", "YES."], ["yes!"]),
    ({"type": "contains", "all": ["GPL", "source"]}, ["The gpl asks for Source code"], ["The GPL"]),
    ({"type": "contains", "all": ["GPL"], "ignore_case": False}, ["GPL"], ["gpl"]),
    ({"type": "contains_any", "any": ["red", "blue"]}, ["Deep blue."], ["green"]),
    ({"type": "starts_with", "text": "Dear"}, ["  dear Ana,"], ["Hello, dear"]),
    (
        {"type": "numeric", "answer": 1234.5},
        ["1,234.5", "First 3, then 1234.50 in all.", "= 1.2345e3"],
        ["1234.5 or 7", "none", "12345"],
    ),
    ({"type": "numeric", "answer": -3}, ["It is -3."], ["It is 3."]),
    ({"type": "regex", "pattern": r"^\d{4}-\d\d$"}, ["2024-05"], ["In 2024-05"]),
    (
        {"type": "json", "keys": ["name", "year"]},
        ['{"name": "a", "year": 1}', 'Here:\n```json\n{"year": 1, "name": 2, "x": 3}\n```'],
        ['{"name": "a"}', "[1]", "name, year", '{"name": '],
    ),
    (
        {"type": "json", "keys": {"name": "Ana", "age": "52"}},
        ['{"name": "ana", "age": 52}', 'Sure: {"age": "52", "name": "Ana", "city": "Lima"}.'],
        ['{"name": "Bo", "age": 52}', '{"name": "Ana"}', "Ana, 52"],
    ),
    ({"type": "words", "min": 2, "max": 3}, ["one two", "a b c"], ["one", "a b c d", ""]),
    ({"type": "words", "max": 1}, ["one", ""], ["one two"]),
    ({"type": "refusal", "wanted": True}, ["I can't help with that."], ["Sure, here it is."]),
    ({"type": "refusal", "wanted": False}, ["Sure, here it is."], ["I can't help with that."]),
    ({"type": "lines", "count": 2}, ["a\n\nb\n", "a\nb"], ["a", "a\nb\nc", ""]),
]


def test_every_rule_has_a_case():
    assert {check["type"] for check, _, _ in CASES} == set(RULES)


@pytest.mark.parametrize(("check", "good", "bad"), CASES)
def test_rule(check, good, bad):
    assert problem(check) == ""
    assert [answer for answer in good if not passes(check, answer)] == []
    assert [answer for answer in bad if passes(check, answer)] == []


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"type": "exakt"}, "type 'exakt' is unknown"),
        ("exact", "type None is unknown"),
        ({"type": "exact"}, "exact needs answer"),
        ({"type": "lines", "count": 1, "max": 3}, "lines does not know max"),
        ({"type": "refusal", "wanted": "yes"}, "refusal: `wanted` is true or false, not 'yes'"),
        ({"type": "contains", "all": "word"}, "`all` is a list"),
        ({"type": "contains_any", "any": []}, "`any` is a list"),
        ({"type": "regex", "pattern": "("}, "unterminated"),
        ({"type": "numeric", "answer": "many"}, "could not convert"),
        ({"type": "words"}, "words needs min or max"),
    ],
)
def test_a_check_that_cannot_work_is_described(check, message):
    assert message in problem(check)


def test_describe_is_for_people():
    assert describe({"type": "words", "max": 5}) == "words max=5"
