"""Shares of few items, and what two of them differ by, against references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from stages.diagnosis.rates import Share, difference, share


def test_items_of_their_own_are_worth_themselves():
    found = share(np.array([1.0, 0, 0, 1, 0]), list("abcde"))
    assert found.value == 0.4 and found.size == pytest.approx(5, abs=1)


def test_copies_are_worth_one_item_each():
    values = np.repeat([1.0, 0, 1, 0, 0, 1, 1, 0], 5)
    found = share(values, [f"c{i // 5}" for i in range(40)])
    assert found.value == 0.5 and found.size == 8


def test_the_design_effect_is_that_of_a_plain_loop():
    rng = np.random.default_rng(3)
    values, clusters = rng.integers(0, 2, 60).astype(float), [f"c{i}" for i in rng.integers(0, 20, 60)]
    sums = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - values.mean()
    count = len(sums)
    robust = count / (count - 1) * sum(each**2 for each in sums.values()) / 60**2
    expected = 60 * values.mean() * (1 - values.mean()) / 60 / robust
    assert share(values, clusters).size == pytest.approx(np.clip(expected, count, 60))


def test_equal_values_count_their_clusters():
    assert share(np.zeros(12), [f"c{i % 4}" for i in range(12)]) == Share(0.0, 4.0)
    assert share(np.array([]), []) == Share(0.0, 0.0)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_a_difference_is_that_of_agresti_and_caffo(n, m, data):
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    found = difference(Share(a / n, n), Share(b / m, m))
    low, high = confint_proportions_2indep(a, n, b, m, method="agresti-caffo")
    assert (found.low, found.high) == pytest.approx((low, high))


def test_p_says_how_sure_it_is_that_the_first_is_larger():
    clear, luck = difference(Share(0.6, 40), Share(0.1, 200)), difference(Share(0.6, 5), Share(0.5, 5))
    assert clear.p < 1e-4 and clear.low > 0 and luck.p > 0.3
    assert difference(Share(0.1, 200), Share(0.6, 40)).p > 0.999
