"""Spread of prompts: near-duplicates count as one prompt, heavy prompts are told."""

from coverage_rows import ordinary, pair

from stages.data.coverage import spread
from stages.data.coverage.asked import asked
from stages.data.coverage.config import CoverageConfig

LONG = "Please explain to me in plain words how the locks of a canal lift a boat from one level to the next one, {}."


def rows(prompts):
    return asked([pair(i, prompt, f"Answer {i}.") for i, prompt in enumerate(prompts)], "dpo")


def test_near_duplicates_are_one_prompt():
    made = rows([LONG.format("please"), LONG.format("thanks"), LONG.format("please").upper(), "Why is it cold?"])
    assert len(set(spread.groups(made))) == 2


def test_a_heavy_prompt_is_told_with_its_rows():
    made = rows(["Why is the sea salty?"] * 30 + ordinary(200))
    found = spread.prompt_spread(made, spread.groups(made), CoverageConfig())
    assert found.count == 30 and {text for _, text in found.examples} == {"Why is the sea salty?"}
    assert "30 of 230 (13.0 %)" in found.message
    assert spread.prompt_spread(made, spread.groups(made), CoverageConfig(largest_prompt=0.2)) is None


def test_two_pairs_for_each_prompt_are_no_fault():
    made = rows(ordinary(200) * 2)
    assert spread.prompt_spread(made, spread.groups(made), CoverageConfig()) is None
