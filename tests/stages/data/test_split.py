"""Splitting: a cluster falls on one side, whatever else is in the data; beginnings stand for the whole."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.split import in_heldout, interleave, unit


@given(st.text(), st.integers())
def test_a_unit_is_in_range_and_always_the_same(name, seed):
    assert 0 <= unit(name, seed) < 1 and unit(name, seed) == unit(name, seed)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_about_the_share_of_clusters_is_held_out(share):
    held = sum(in_heldout(f"cluster {i}", share, seed=1) for i in range(4000))
    assert abs(held / 4000 - share) < 0.03


def test_none_and_all():
    assert not any(in_heldout(str(i), 0.0, 1) for i in range(100)) and all(
        in_heldout(str(i), 1.0, 1) for i in range(100)
    )


def test_a_larger_share_keeps_what_was_held_out():
    small = {i for i in range(500) if in_heldout(str(i), 0.1, 3)}
    assert small <= {i for i in range(500) if in_heldout(str(i), 0.3, 3)}


def test_the_seed_changes_the_choice():
    assert {i for i in range(200) if in_heldout(str(i), 0.2, 1)} != {
        i for i in range(200) if in_heldout(str(i), 0.2, 2)
    }


@given(st.lists(st.lists(st.integers(), min_size=1), max_size=5), st.integers())
def test_interleaving_loses_nothing_and_keeps_the_order_of_each_part(parts, seed):
    tagged = [[(number, place) for place in range(len(part))] for number, part in enumerate(parts)]
    mixed = interleave(tagged, seed)
    assert [[row for row in mixed if row[0] == number] for number in range(len(parts))] == tagged


def test_every_beginning_holds_each_part_in_its_share():
    mixed = interleave([["a"] * 600, ["b"] * 300, ["c"] * 100], seed=5)
    for size in (100, 300, 700):
        seen = Counter(mixed[:size])
        assert abs(seen["a"] - 0.6 * size) <= 2 and abs(seen["c"] - 0.1 * size) <= 2
