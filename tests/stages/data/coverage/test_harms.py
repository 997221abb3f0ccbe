"""Harms: prompts that ask for it and harmless ones with its words have its category, others have none."""

import pytest
from coverage_rows import HARMFUL, HARMLESS, PLACES, filled, ordinary

from stages.data.coverage.config import HARMS
from stages.data.coverage.harms import LISTED, PHRASES, SAID, bases, harm_of


@pytest.mark.parametrize("harm", HARMS)
def test_a_category_is_told(harm):
    said = filled(HARMFUL[harm], PLACES, 10) + filled(HARMLESS[harm], PLACES, 10)
    assert {harm_of(prompt) for prompt in said} == {harm}
    assert harm in SAID and harm in LISTED and harm in PHRASES


def test_ordinary_prompts_have_none():
    assert {harm_of(prompt) for prompt in ordinary(200)} == {None}
    for said in ("How do I kill time?", "Shoot me a message", "Strip the paint from a door", "a crack in the wall"):
        assert harm_of(said) in (None, "violence")


def test_endings_are_taken_off():
    assert harm_of("He was stabbed.") == harm_of("bombs and bombings") == "violence"
    assert harm_of("counterfeiting") == harm_of("bribes") == "fraud"
    assert {"forge", "forging"} <= set(bases("forging")) and "rob" in bases("robbing") and "study" in bases("studies")


def test_the_category_with_most_words_counts():
    assert harm_of("Steal a gun, launder the money, forge the papers") == "fraud"
    assert harm_of("I want to kill myself") == "self_harm" and harm_of("I want to kill him") == "violence"
