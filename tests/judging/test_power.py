"""The smallest change that a suite can see, held against how often such a change is seen."""

import math

import numpy as np
import pytest
from scipy.stats import t

from pipeline.judging.power import POWER, detectable, detectable_alone, standard_error, student
from pipeline.judging.statistics import Items, paired, paired_change

TRIALS = 300


def items(scores, clusters=None, weights=None):
    ids = [f"i{k}" for k in range(len(scores))]
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=float)
    return Items(ids, clusters or ids, np.asarray(scores, dtype=float), weights)


def noisy(rng, scores, share):
    """The same model asked again: a share of its answers is drawn anew."""
    return np.where(rng.random(len(scores)) < share, rng.random(len(scores)) < 0.6, scores)


@pytest.mark.parametrize(("n", "share"), [(80, 0.1), (400, 0.0), (400, 0.3), (1000, 0.1)])
def test_a_loss_of_the_stated_size_is_seen_on_right_or_wrong(n, share):
    rng = np.random.default_rng(n)
    seen = 0
    for _ in range(TRIALS):
        old = rng.random(n) < 0.6
        new = noisy(rng, old, share)
        size = detectable(items(new), items(old), "accuracy")
        lost = new & (rng.random(n) < size / 0.6)
        seen += paired_change(items(new & ~lost), items(old), "accuracy").p <= 0.05
    assert 0.76 <= seen / TRIALS <= 0.96  # whole items: a little more than 0.8 on few


@pytest.mark.parametrize("clusters", [12, 28, 60])
def test_a_loss_of_the_stated_size_is_seen_in_perplexity(clusters):
    rng = np.random.default_rng(clusters)
    weights = rng.integers(50, 128, clusters)
    seen, sizes = 0, []
    for _ in range(TRIALS):
        old = rng.normal(3, 0.4, clusters)
        new = old + rng.normal(0, 0.05, clusters)
        sizes.append(detectable(items(new, weights=weights), items(old, weights=weights), "perplexity"))
    for _ in range(TRIALS):
        old = rng.normal(3, 0.4, clusters)
        new = old + rng.normal(np.log1p(np.mean(sizes)), 0.05, clusters)
        seen += paired_change(items(new, None, weights), items(old, None, weights), "perplexity").p <= 0.05
    assert seen / TRIALS == pytest.approx(POWER, abs=0.08)


def test_it_shrinks_with_items_and_grows_with_noise_confidence_and_tests():
    rng = np.random.default_rng(0)
    old = rng.random(400) < 0.6
    new = noisy(rng, old, 0.2)

    def size(n=400, other=new, **more):
        return detectable(items(other[:n]), items(old[:n]), "accuracy", **more)

    assert size() < size(n=100)
    assert size() < size(other=noisy(rng, old, 0.8))
    assert size() < size(confidence=0.99) and size() < size(tests=5)
    assert size(tests=5) == pytest.approx(size(confidence=0.99))


def test_items_of_one_source_see_less():
    scores, other = np.repeat([0, 1, 0, 1, 1, 0, 1, 0], 10), np.repeat([0, 1, 1, 1, 1, 0, 0, 1], 10)
    clusters = [f"c{k // 10}" for k in range(80)]
    alone = detectable(items(scores), items(other), "accuracy")
    assert detectable(items(scores, clusters), items(other, clusters), "accuracy") > 2 * alone


def test_before_there_is_a_second_model_it_is_that_of_independent_answers():
    rng = np.random.default_rng(4)
    a, b = rng.random(2000) < 0.6, rng.random(2000) < 0.6
    assert detectable_alone(items(a), "accuracy") == pytest.approx(detectable(items(a), items(b), "accuracy"), rel=0.1)
    assert detectable(items(a * 0.5), items(a * 0.5), "rate") == detectable_alone(items(a * 0.5), "rate")


def test_what_can_never_be_seen_is_infinite():
    assert detectable(items([1, 0, 1]), items([1, 0, 1]), "accuracy") == math.inf
    assert detectable(items([0.3] * 9, ["c"] * 9), items([0.4] * 9, ["c"] * 9), "rate") == math.inf
    assert detectable_alone(items([0.5] * 30), "rate") == math.inf


def test_the_standard_error_is_that_of_the_mean_difference():
    rng = np.random.default_rng(3)
    a, b = rng.random(50), rng.random(50)
    assert standard_error(paired(items(a), items(b))) == pytest.approx((a - b).std(ddof=1) / 50**0.5)


@pytest.mark.parametrize("degrees", [5, 9, 27, 200])
def test_students_quantile(degrees):
    assert student(0.975, degrees) == pytest.approx(t.ppf(0.975, degrees), abs=3e-3)
