"""Splitting: a cluster falls on one side, whatever else is in the data; beginnings stand for the whole."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, DataError
from stages.data.split import Split, check, first, folds, held, in_heldout, interleave, unit


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


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 9), min_size=5, max_size=40), st.integers())
def test_each_group_is_held_out_in_exactly_one_fold_and_folds_are_balanced(sizes, seed):
    out = [held(sizes, Split(method="kfold", k=5, fold=fold), seed) for fold in range(5)]
    assert sorted(name for fold in out for name in fold) == sorted(sizes)
    rows = [sum(sizes[name] for name in fold) for fold in out]
    assert all(rows) and max(rows) - min(rows) <= max(sizes.values())


def test_more_folds_than_groups_are_refused():
    with pytest.raises(DataError, match=r"split.k=3: there are 2 groups"):
        folds({"a": 1, "b": 1}, 3, seed=1)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(method="kfold"), "split.fold: one artifact holds out one fold; give its number, from 0 to 4"),
        (Split(method="kfold", k=3, fold=3), "split.fold=3 of k=3"),
        (Split(method="kfold", k=1), "k must be 2 or more"),
        (Split(fold=1), "split.fold=1: only kfold has folds"),
        (Split(method="folds"), "split.method=folds is unknown"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(split, message):
    with pytest.raises(ConfigError, match=message):
        check(split)


def test_a_fold_of_five_and_a_share_are_fine():
    check(Split(method="kfold", fold=4))
    check(Split(share=0.5))


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 9), max_size=40), st.integers())
def test_a_smaller_fraction_is_part_of_a_larger_one_and_its_rows_are_the_nearest_there_are(sizes, seed):
    quarter, half, whole = (first(sizes, fraction, seed) for fraction in (0.25, 0.5, 1.0))
    assert quarter <= half <= whole == set(sizes)
    if sizes:
        rows = sum(sizes[name] for name in half)
        assert quarter and abs(rows - sum(sizes.values()) / 2) <= max(sizes.values())


def test_a_fraction_is_another_one_under_another_seed_and_is_no_beginning_of_the_held_out_groups():
    sizes = {str(i): 1 for i in range(200)}
    half = first(sizes, 0.5, 1)
    assert len(half) == 100 and half != first(sizes, 0.5, 2)
    assert half != {name for name in sizes if in_heldout(name, 0.5, 1)}
