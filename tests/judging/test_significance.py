"""p-values against statsmodels and scipy, and how often they speak where nothing has changed."""

import numpy as np
import pytest
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar as reference
from statsmodels.stats.multitest import multipletests

from pipeline.judging.significance import EXACT, FLIPS, holm, mcnemar, sign_flip

RNG = np.random.default_rng(7)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (0, 5), (7, 7), *RNG.integers(0, 60, (20, 2)).tolist()])
def test_mcnemar_is_exact_on_few_items(better, worse):
    expected = reference([[30, better], [worse, 10]], exact=True).pvalue if better + worse else 1
    assert mcnemar(better, worse) == pytest.approx(expected)


@pytest.mark.parametrize(("better", "worse"), [(900, 1010), (600, 600), (2000, 1500)])
def test_mcnemar_takes_chi_squared_on_many(better, worse):
    assert better + worse > EXACT
    expected = min(1, reference([[0, better], [worse, 0]], exact=False, correction=True).pvalue)
    assert mcnemar(better, worse) == pytest.approx(expected, abs=0.02 if better == worse else 1e-9)


def test_both_forms_of_mcnemar_agree_where_they_meet():
    exact = mcnemar(460, 540)
    assert exact == pytest.approx(reference([[0, 461], [541, 0]], exact=False).pvalue, abs=2e-3)


@pytest.mark.parametrize("n", [4, 9, 12])
def test_all_signs_are_taken_on_few_clusters(n):
    differences = RNG.normal(0.3, 1, n)
    expected = permutation_test(
        (differences, np.zeros(n)), lambda x, y: np.sum(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(differences) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("shift", [0, 0.2, 0.4])
def test_drawn_signs_come_near_those_of_scipy(shift):
    differences = RNG.normal(shift, 1, 40)
    expected = permutation_test(
        (differences, np.zeros(40)), lambda x, y, axis: np.sum(x - y, axis=axis), permutation_type="samples",
        n_resamples=20000, vectorized=True, rng=RNG,
    )  # fmt: skip
    found = sign_flip(differences)
    assert found == pytest.approx(expected.pvalue, abs=4 * np.sqrt(found * (1 - found) / FLIPS) + 1e-3)


def test_signs_of_single_items_are_mcnemar():
    assert sign_flip(np.array([1.0] * 2 + [-1.0] * 8 + [0.0] * 30)) == pytest.approx(mcnemar(2, 8))


def test_no_difference_is_no_evidence():
    assert sign_flip(np.zeros(20)) == 1 == mcnemar(0, 0)


@pytest.mark.parametrize("clusters", [8, 14, 40])
def test_an_unchanged_model_is_found_changed_as_often_as_said(clusters):
    """Uneven clusters of a few: where percentiles of a bootstrap speak twice as often as they should."""
    rng = np.random.default_rng(clusters)
    weights = rng.integers(1, 9, clusters)
    found = sum(sign_flip(weights * rng.normal(0, 1, clusters)) <= 0.05 for _ in range(600))
    assert 12 <= found <= 48  # nominal: 30; outside of this by chance: 1 in 1,000


@pytest.mark.parametrize("case", range(6))
def test_holm_equals_statsmodels(case):
    p = np.random.default_rng(case).random(case + 1) ** 2 / 5
    assert holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_holm_of_nothing_is_nothing():
    assert holm([]) == []
