"""Divergences equal independent implementations, and chance is not taken for a shift."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.coverage.divergence import chance, jensen_shannon, psi

counts = st.lists(st.integers(1, 500), min_size=2, max_size=9)


@given(st.data(), counts)
def test_equal_to_scipy(data, first):
    distance = pytest.importorskip("scipy.spatial.distance").jensenshannon
    entropy = pytest.importorskip("scipy.stats").entropy
    second = data.draw(st.lists(st.integers(1, 500), min_size=len(first), max_size=len(first)))
    p, q = np.array(first, dtype=float), np.array(second, dtype=float)
    assert jensen_shannon(p, q) == pytest.approx(distance(p, q, base=2) ** 2, abs=1e-9)
    assert psi(p, q) == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-9)


def test_the_ends_of_the_scale():
    same, other = np.array([3.0, 7.0, 0.0]), np.array([0.0, 0.0, 5.0])
    assert jensen_shannon(same, same * 2) == pytest.approx(0) and jensen_shannon(same, other) == pytest.approx(1)
    assert psi(same, same * 20) == pytest.approx(0) and 2 < psi(same, other) < float("inf")


def test_a_side_without_rows_has_no_divergence():
    none, some = np.zeros(3), np.array([1.0, 2.0, 3.0])
    assert jensen_shannon(none, some) == psi(some, none) == 0 and chance(none, some) == float("inf")


def test_two_samples_of_one_distribution_stay_below_what_chance_explains():
    random, shares = np.random.default_rng(1), [0.4, 0.3, 0.15, 0.1, 0.05]
    pairs = [(random.multinomial(300, shares), random.multinomial(200, shares)) for _ in range(400)]
    assert sum(psi(a, b) > chance(a, b) for a, b in pairs) <= 4
    assert psi(random.multinomial(300, shares), random.multinomial(200, shares[::-1])) > chance(*pairs[0])
