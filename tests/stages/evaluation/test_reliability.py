"""Calibration numbers against independent references, on random cases."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as reference_log_loss

from stages.evaluation import reliability as rel


def random_case(seed, n=300):
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    return confidence, (rng.random(n) < confidence**1.5).astype(float)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bins", [5, 15])
def test_the_error_over_equal_widths_is_that_of_torchmetrics(seed, bins):
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(seed)
    logits, label = rng.normal(size=(400, 4)) * 2, rng.integers(0, 4, 400)
    shares = rel.probabilities(logits)
    expected = multiclass_calibration_error(
        torch.tensor(shares), torch.tensor(label), num_classes=4, n_bins=bins, norm="l1"
    )
    table = rel.equal_width(shares.max(axis=1), (shares.argmax(axis=1) == label).astype(float), bins)
    assert rel.calibration_error(table) == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_brier_score_and_the_log_loss_are_those_of_sklearn(seed):
    confidence, right = random_case(seed)
    assert rel.brier(confidence, right) == pytest.approx(brier_score_loss(right, confidence))
    values, label = np.random.default_rng(seed).normal(size=(200, 3)), np.random.default_rng(seed).integers(0, 3, 200)
    expected = reference_log_loss(label, rel.probabilities(values, 1.7), labels=[0, 1, 2])
    assert rel.log_loss(values, label, 1.7) == pytest.approx(expected)


def test_adaptive_bins_hold_equally_many_and_keep_equal_confidences_together():
    confidence, right = random_case(0, 200)
    assert [part.n for part in rel.equal_mass(confidence, right, 10)] == [20] * 10
    tied = np.repeat([0.2, 0.9], [150, 50])
    assert [(part.n, part.confidence) for part in rel.equal_mass(tied, right, 10)] == [
        (150, pytest.approx(0.2)), (50, pytest.approx(0.9)),
    ]  # fmt: skip


def test_the_adaptive_error_is_that_of_a_plain_loop():
    confidence, right = random_case(3, 300)
    parts = np.array_split(np.argsort(confidence), 10)
    expected = sum(len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts) / 300
    assert rel.calibration_error(rel.equal_mass(confidence, right, 10)) == pytest.approx(expected)


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_the_labels_is_found(true):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6000, 4)) * 3
    shares = rel.probabilities(values, true)
    label = np.array([rng.choice(4, p=row) for row in shares])
    assert rel.fit_temperature(values, label) == pytest.approx(true, rel=0.08)


def test_rows_with_fewer_choices_are_filled_up_with_nothing():
    values = rel.padded([[0.0, 0.0], [1.0, 2.0, 3.0]])
    assert rel.probabilities(values, 2.0)[0].tolist() == [0.5, 0.5, 0.0]
    assert np.isfinite(rel.fit_temperature(values, np.array([0, 2])))


def test_the_risk_curve_by_hand():
    points = rel.risk_curve([0.9, 0.8, 0.8, 0.1], [1, 0, 1, 0])
    assert [(p.coverage, p.risk, p.threshold) for p in points] == [
        (0.25, 0, 0.9),
        (0.75, pytest.approx(1 / 3), 0.8),
        (1, 0.5, 0.1),
    ]
    assert rel.area_under_risk([0.9, 0.8, 0.8, 0.1], [1, 0, 1, 0]) == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)


def test_the_area_does_not_depend_on_the_order_of_the_items_and_a_good_order_has_less():
    confidence, right = np.round(random_case(1)[0], 1), random_case(1)[1]
    order = np.random.default_rng(2).permutation(len(right))
    area = rel.area_under_risk(confidence, right)
    assert rel.area_under_risk(confidence[order], right[order]) == pytest.approx(area)
    assert rel.area_under_risk(right, right) < area < rel.area_under_risk(-right, right)
