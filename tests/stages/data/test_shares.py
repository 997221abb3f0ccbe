"""Shares of a mixture from weights, a temperature, floors and caps: they hold, or the reason why not is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, DataError
from stages.data import shares
from stages.data.shares import Mixture

SAFETY, NONE = frozenset({"safety"}), frozenset()
sizes = st.integers(1, 10**6)


def test_weights_alone_are_the_shares_whatever_the_sizes():
    found = shares.of_roles(Mixture(weights={"train": 3, "code": 1}), {"train": 10, "code": 10**6})
    assert found == {"train": 0.75, "code": 0.25}


@given(sizes, sizes)
def test_temperature_1_mixes_by_size_and_a_high_one_equally(first, second):
    by_size = shares.of_roles(Mixture(temperature=1.0), {"a": first, "b": second})
    assert by_size["a"] == pytest.approx(first / (first + second))
    assert shares.of_roles(Mixture(temperature=1e9), {"a": first, "b": second})["a"] == pytest.approx(0.5)


def test_a_temperature_between_follows_its_formula():
    """100 and 10,000 tokens at T = 2: 10 and 100 parts."""
    assert shares.of_roles(Mixture(temperature=2.0), {"a": 100, "b": 10_000})["b"] == pytest.approx(100 / 110)


@given(sizes, sizes, sizes, st.floats(0.0, 0.5), st.floats(0.5, 1.0))
def test_roles_floors_and_caps_hold_together(plain, safe, other, floor, cap):
    asked = Mixture(weights={"train": 2, "more": 1}, floors={"safety": floor}, caps={"safety": cap})
    found = shares.of_cells(asked, {("train", NONE): plain, ("train", SAFETY): safe, ("more", NONE): other})
    assert found["train", NONE] + found["train", SAFETY] == pytest.approx(2 / 3, abs=1e-3)
    assert floor - 1e-3 <= found["train", SAFETY] <= cap + 1e-3


@given(sizes, sizes)
def test_bounds_that_hold_anyway_change_nothing(plain, safe):
    cells = {("train", NONE): plain, ("train", SAFETY): safe}
    loose = Mixture(floors={"safety": 0.0}, caps={"safety": 1.0})
    assert shares.of_cells(loose, cells) == pytest.approx(shares.of_cells(Mixture(), cells))


@pytest.mark.parametrize(
    "asked, message",
    [
        (Mixture(floors={"safety": 0.2}), "no row has the tag"),
        (Mixture(weights={"train": 9, "more": 1}, floors={"edge": 0.2}), "10.0% of the tokens at most: only more"),
        (
            Mixture(caps={"edge": 0.1}, weights={"train": 1, "more": 1}),
            "50.0% of the tokens at least: every row of more",
        ),
    ],
)
def test_bounds_that_cannot_hold_are_refused_with_what_can(asked, message):
    cells = {("train", NONE): 100, ("more", frozenset({"edge"}) if asked.weights else NONE): 100}
    with pytest.raises(DataError, match=message):
        shares.of_cells(asked, cells)


@pytest.mark.parametrize(
    "asked, message",
    [
        (Mixture(weights={"train": 1}), "gives no weight to data.more"),
        (Mixture(weights={"train": 1, "more": -1}), "give a positive number"),
        (Mixture(weights={"train": 1, "more": 1, "web": 1}), "the stage has no data.web"),
        (Mixture(weights={"train": 1, "more": 1}, temperature=0.0), "temperature=0.0"),
        (Mixture(weights={"train": 1, "more": 1}, floors={"edge": 0.5}, caps={"edge": 0.1}), "lies above"),
    ],
)
def test_a_mixture_that_cannot_be_meant_is_refused(asked, message):
    with pytest.raises(ConfigError, match=message):
        shares.check(asked, {"train": "a", "more": "b"})


def test_a_data_set_is_named_once():
    with pytest.raises(ConfigError, match="name it once"):
        shares.check(Mixture(weights={"train": 1, "more": 1}), {"train": "a", "more": "a"})


@pytest.mark.parametrize(
    "asked, at_most, expected",
    [
        (Mixture(), 0, 1000),  # train once
        (Mixture(), 300, 300),
        (Mixture(epochs={"train": 2}), 0, 2000),
        (Mixture(weights={"train": 1, "more": 1}), 0, 2000),  # train once, as much of the other on top
        (Mixture(weights={"train": 1, "more": 1}, epochs={"more": 0.5}), 0, 500),
    ],
)
def test_the_mixture_is_as_large_as_its_epochs_allow(asked, at_most, expected):
    cells = {("train", NONE): 1000} | ({("more", NONE): 500} if asked.weights else {})
    assert shares.total(asked, shares.of_cells(asked, cells), cells, at_most) == expected
