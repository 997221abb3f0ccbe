"""Patterns with the letters that their matches have: what is found is what the pattern itself finds."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.coverage.task_rules import RULES
from stages.data.literals import Sought, needed

PATTERNS = [pattern for _, *patterns in RULES for pattern in patterns]


@pytest.mark.parametrize(
    ("pattern", "letters"),
    [
        ("json", ("json",)),
        (r"\bcategori[sz]e(?:d|s)?\b", ("categori",)),
        (r"(?:the|a) (?:cat|mouse)", ("cat", "mouse")),
        (r"colou?r", ("colo",)),
        (r"(?:xx)+|y*z", ("z", "xx")),
        (r"a*b?", ()),
        (r"\d+|one", ()),
        (r"(?=ahead)[a-z]+", ()),
    ],
)
def test_letters_that_every_match_has(pattern, letters):
    assert needed(pattern) == letters


@given(st.lists(st.sampled_from(["translate", "what is", "the", "in", "json", "\n", "?", "7", "x", "é", "good"])))
def test_what_is_found_is_what_the_patterns_find(parts):
    text = " ".join(parts)
    for pattern in PATTERNS:
        assert Sought([pattern], re.MULTILINE).found(text) == bool(re.search(pattern, text, re.MULTILINE))
