"""A set in which nothing is missing."""

import pytest
from coverage_rows import EDGES, chat, ordinary, safety

from stages.data.findings import Located


@pytest.fixture
def balanced() -> list[Located]:
    """Ten task types, refusals and look-alikes of every harm, every kind of edge case."""
    said = [(prompt, "Here is what is known.") for prompt in ordinary(400) + EDGES] + safety()
    return [chat(number, *each) for number, each in enumerate(said)]
