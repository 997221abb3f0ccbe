"""Estimates and paired changes against plain loops, and what makes them refuse."""

import numpy as np
import pytest

from pipeline.judging import statistics
from pipeline.judging.significance import mcnemar, sign_flip
from pipeline.judging.statistics import Items, estimate, paired_change, sampling_share


def items(scores, clusters=None, weights=None, ids=None):
    n = len(scores)
    ids = ids or [f"i{k:03}" for k in range(n)]
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    return Items(ids, clusters or ids, np.asarray(scores, dtype=float), weights)


def slow_bootstrap(clusters, statistic, confidence=0.95):
    """The same resamples one by one: draw clusters, collect their items, compute from the items."""
    names = sorted(set(clusters))
    members = {name: [k for k, c in enumerate(clusters) if c == name] for name in names}
    found = []
    for draw in statistics._draws(len(names)):
        found.append(statistic([k for index in draw for k in members[names[index]]]))
    return np.percentile(found, [50 * (1 - confidence), 50 * (1 + confidence)])


@pytest.fixture
def measured():
    rng = np.random.default_rng(3)
    clusters = [f"c{k}" for k in rng.integers(0, 12, 40)]
    weights = rng.integers(1, 9, 40).astype(float)
    return clusters, weights, rng.random(40) * 3, rng.random(40) * 3


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_estimate_equals_a_plain_loop(measured, confidence):
    clusters, weights, scores, _ = measured
    found = estimate(items(scores, clusters, weights), "accuracy", confidence)
    low, high = slow_bootstrap(clusters, lambda at: np.average(scores[at], weights=weights[at]), confidence)
    assert found.value == pytest.approx(np.average(scores, weights=weights))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.n, found.clusters) == (40, len(set(clusters)))


def test_perplexity_is_exp_of_the_token_mean(measured):
    clusters, weights, scores, _ = measured
    found = estimate(items(scores, clusters, weights), "perplexity")
    low, high = slow_bootstrap(clusters, lambda at: np.exp(np.average(scores[at], weights=weights[at])))
    assert found.value == pytest.approx(np.exp(np.average(scores, weights=weights)))
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize("metric", ["accuracy", "perplexity"])
def test_paired_change_equals_a_plain_loop(measured, metric):
    clusters, weights, a, b = measured

    def change(at):
        one, two = np.average(a[at], weights=weights[at]), np.average(b[at], weights=weights[at])
        return np.exp(one) / np.exp(two) - 1 if metric == "perplexity" else one - two

    found = paired_change(items(a, clusters, weights), items(b, clusters, weights), metric)
    assert found.change == pytest.approx(change(list(range(40))))
    assert (found.low, found.high) == pytest.approx(tuple(slow_bootstrap(clusters, change)))


def test_pairs_are_matched_by_id_not_by_place():
    a = items([1, 0, 0, 1], ids=["a", "b", "c", "d"])
    b = items([1, 0, 0, 1], ids=["d", "c", "b", "a"])
    found = paired_change(a, b, "accuracy")
    assert (found.change, found.low, found.high) == (0, 0, 0)


def test_items_of_one_cluster_count_as_one_draw():
    scores = np.repeat([0, 1, 0, 1, 1, 0, 1, 0], 10)
    alone = estimate(items(scores), "accuracy")
    together = estimate(items(scores, [f"c{k // 10}" for k in range(80)]), "accuracy")
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


@pytest.mark.parametrize(("score", "expected"), [(0, (0, 0.1684)), (1, (0.8316, 1))])
def test_results_without_spread_get_the_exact_binomial_interval(score, expected):
    found = estimate(items([score] * 20), "refusal_rate")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-4)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        found = estimate(items(rng.random(100) < 0.3), "accuracy")
        hits += found.low <= 0.3 <= found.high
    assert 0.90 <= hits / 200 <= 0.99


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (items([1, 0], ids=["a", "x"]), "same items; 2 differ, such as b, x"),
        (items([1, 0], ids=["a", "b"], weights=[1, 2]), "weigh or cluster"),
        (items([1, 0], clusters=["k", "k"], ids=["a", "b"]), "weigh or cluster"),
    ],
)
def test_what_cannot_be_paired_is_refused(b, message):
    with pytest.raises(ValueError, match=message):
        paired_change(items([1, 0], ids=["a", "b"]), b, "accuracy")


def test_no_items_is_an_error():
    with pytest.raises(ValueError, match="no items"):
        estimate(items([]), "accuracy")


@pytest.mark.parametrize("case", range(5))
def test_the_paired_interval_equals_that_of_scipy(case):
    """Both draw at random: their ends differ by the noise of the draws, here under a tenth of the interval."""
    from scipy.stats import bootstrap

    rng = np.random.default_rng(case)
    a, b = rng.random(60), rng.random(60) * rng.uniform(0.5, 1.2)
    found = paired_change(items(a), items(b), "accuracy")
    reference = bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), paired=True, method="percentile", n_resamples=20000,
        rng=rng,
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx(tuple(reference), abs=0.1 * (found.high - found.low))


def test_right_or_wrong_alone_is_judged_by_mcnemar_everything_else_by_signs():
    rng = np.random.default_rng(1)
    a, b = (rng.random(50) < 0.6).astype(float), (rng.random(50) < 0.5).astype(float)
    better, worse = int((a > b).sum()), int((a < b).sum())
    assert paired_change(items(a), items(b), "accuracy").p == mcnemar(better, worse)
    pairs = [f"c{k // 2:02}" for k in range(50)]
    clustered = paired_change(items(a, pairs), items(b, pairs), "accuracy")
    assert clustered.p == sign_flip((a - b).reshape(25, 2).sum(axis=1))
    weighed = paired_change(items(a, weights=[1, 2] * 25), items(b, weights=[1, 2] * 25), "accuracy")
    assert weighed.p == sign_flip((a - b) * np.tile([1, 2], 25))
    graded = paired_change(items(a / 2), items(b / 2), "pass_rate")
    assert graded.p == sign_flip((a - b) / 2)


@pytest.mark.parametrize(("within", "between"), [(1.0, 3.0), (2.0, 0.0), (0.5, 0.5)])
def test_variance_within_and_between_prompts_is_told_apart(within, between):
    rng = np.random.default_rng(2)
    scores = rng.normal(0, between**0.5, (4000, 1)) + rng.normal(0, within**0.5, (4000, 4))
    assert sampling_share(scores) == pytest.approx(within / (within + between), abs=0.03)


def test_variance_of_answers_has_its_ends():
    assert sampling_share(np.array([[1.0, 1, 1], [0, 0, 0]])) == 0
    assert sampling_share(np.array([[1.0, 0], [0, 1]])) == 1
    assert np.isnan(sampling_share(np.ones((3, 2))))
