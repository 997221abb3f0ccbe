"""Every rule on answers it accepts and answers it must not accept, and checks that are written wrong."""

import sys

import pytest

from stages.evaluation import structured
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
    ({"type": "numeric", "answer": -3}, ["It is -3.", "\u22123 degrees"], ["It is 3.", "2024-03", "1-3"]),
    ({"type": "numeric", "answer": 12}, ["+12", "12 %", "12%.", "10-12", "1,2,12"], ["0.12", "twelve", "", "-12"]),
    (
        {"type": "numeric", "answer": 1234567},
        ["1,234,567", "1'234'567", "1\u202f234\u202f567", "1\u00a0234\u00a0567 euros"],
        ["1,234,5678", "12,34,567", "1 234 567"],
    ),
    ({"type": "exact", "answer": "caf\u00e9"}, ["cafe\u0301"], ["cafe"]),
    (
        {"type": "licence_expression", "answer": "GPL-2.0-only WITH Classpath-exception-2.0 OR MIT"},
        [
            "mit or gpl-2.0-only with classpath-exception-2.0",
            "```text\nMIT OR GPL-2.0-only WITH Classpath-exception-2.0\n```",
        ],
        [
            "MIT OR GPL-2.0-only",
            "MIT AND GPL-2.0-only WITH Classpath-exception-2.0",
            "()",
            "( )",
            "OR",
            "MIT WITH",
            "(((",
        ],
    ),
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
    (
        {"type": "json_schema", "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 2}},
        ["[1, 2]", "Two numbers: [1, 2]. And more: [3]", "```json\n[4,\n5]\n```"],
        ["[1]", '["a", "b"]', "1, 2", "", '{"a": [1, 2]}', "[1, NaN]", "[1, 2"],
    ),
    ({"type": "json_schema", "schema": {"enum": ["yes", 3]}}, ['"yes"', "```\n3\n```"], ["yes", "4", "NaN"]),
    (
        {"type": "json_schema", "schema": {"$defs": {"n": {"type": "number"}}, "$ref": "#/$defs/n"}},
        ["3", "-1.5"],
        ["three"],
    ),
    (
        {"type": "licence_expression", "answer": "MIT AND (Apache-2.0 OR BSD-3-Clause)"},
        [
            "`MIT AND (BSD-3-Clause OR Apache-2.0)`",
            "(mit and apache-2.0) OR (MIT AND BSD-3-Clause).",
            "SPDX-License-Identifier: (Apache-2.0 OR BSD-3-Clause) AND MIT AND MIT",
        ],
        ["MIT", "MIT OR Apache-2.0 OR BSD-3-Clause", "It is MIT.", "", "MIT AND"],
    ),
    ({"type": "licence_expression", "answer": "GPL-2.0-or-later"}, ["GPL-2.0+"], ["GPL-2.0-only"]),
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
        ("exact", "a check is an object with a `type`, a text, not 'exact'"),
        ({"type": "exact"}, "exact needs answer"),
        ({"type": "lines", "count": 1, "max": 3}, "lines does not know max"),
        ({"type": "refusal", "wanted": "yes"}, "refusal: `wanted` is true or false, not 'yes'"),
        ({"type": "contains", "all": "word"}, "`all` is a list"),
        ({"type": "contains_any", "any": []}, "`any` is a list"),
        ({"type": "regex", "pattern": "("}, "unterminated"),
        ({"type": "numeric", "answer": "1,000"}, "numeric: `answer` is a number, such as 1000.5, not '1,000'"),
        ({"type": "numeric", "answer": float("nan")}, "is a number"),
        ({"type": "numeric", "answer": True}, "is a number"),
        ({"type": "words", "min": "2"}, "words: `min` is a whole number, not '2'"),
        ({"type": "words", "min": 5, "max": 2}, "min=5 is above max=2; no answer passes"),
        ({"type": "lines", "count": True}, "lines: `count` is a whole number"),
        ({"type": "starts_with", "text": 5}, "starts_with: `text` is a text, not 5"),
        ({"type": "exact", "answer": "a", "ignore_case": "no"}, "`ignore_case` is true or false, not 'no'"),
        ({"type": "contains", "all": [""]}, "`all` is a list of texts, none of them empty"),
        ({"type": ["exact"]}, "a check is an object with a `type`"),
        ({"type": "words"}, "words needs min or max"),
        ({"type": "json_schema", "schema": []}, "`schema` is a JSON Schema, an object, not []"),
        (
            {"type": "json_schema", "schema": {"properties": {"a": {"type": "int"}}}},
            "`schema.properties.a.type`: 'int'",
        ),
        ({"type": "json_schema", "schema": {"$ref": "https://example.org/s"}}, "$ref 'https://example.org/s' leads"),
        ({"type": "json_schema", "schema": {"items": {"$ref": "#/$defs/x"}}}, "$ref '#/$defs/x' leads nowhere"),
        ({"type": "licence_expression", "answer": "MIT OR Nonsense-7"}, "is no SPDX expression: Unknown license key"),
    ],
)
def test_a_check_that_cannot_work_is_described(check, message):
    assert message in problem(check)


def test_describe_is_for_people():
    assert describe({"type": "words", "max": 5}) == "words max=5"


def test_without_its_library_a_licence_expression_says_what_to_install(monkeypatch):
    structured.licensing.cache_clear()
    monkeypatch.setitem(sys.modules, "license_expression", None)
    assert "pip install 'journeyman[legal]'" in problem({"type": "licence_expression", "answer": "MIT"})


def test_nothing_is_fetched_for_a_schema(monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: pytest.fail("asked the network"))
    far = {"$ref": "https://example.org/s"}
    assert "leads nowhere" in problem({"type": "json_schema", "schema": {"items": {"$dynamicRef": far["$ref"]}}})
    with pytest.raises(Exception, match="Unresolvable"):
        structured.fits_schema("[1]", far)
