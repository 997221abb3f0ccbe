"""Learning curves: exact on power laws, honest about noise."""

import numpy as np
import pytest

from stages.diagnosis.curve import curve, next_drop

SHARES = (0.25, 0.5, 1.0)


@pytest.mark.parametrize(("floor", "scale", "power"), [(0.0, 0.1, 0.5), (0.1, 0.2, 1.0), (0.3, 0.05, 2.0)])
def test_the_next_drop_of_a_power_law_with_an_irreducible_error_is_exact(floor, scale, power):
    def rate(share):
        return floor + scale * share**-power

    found = next_drop(np.array([[rate(share) for share in SHARES]]), SHARES)
    assert found[0] == pytest.approx(rate(1.0) - rate(2.0))


def test_a_curve_that_has_flattened_promises_next_to_nothing():
    assert next_drop(np.array([[0.4, 0.2, 0.199]]), SHARES)[0] < 1e-4


def test_a_curve_that_falls_faster_and_faster_never_promises_less_than_no_failure():
    """As by the power law without an irreducible error through its last two points."""
    assert next_drop(np.array([[0.56, 0.4, 0.1]]), SHARES)[0] == pytest.approx(0.1 - 0.1 * 0.1 / 0.4)


def test_two_points_have_a_power_law_and_a_curve_that_rises_again_promises_a_loss():
    assert next_drop(np.array([[0.8 * 4**-0.5 / 4**-1.0, 0.8]]), (0.25, 1.0))[0] == pytest.approx(0.8 - 0.8 * 2**-0.5)
    assert next_drop(np.array([[0.3, 0.2, 0.25]]), SHARES)[0] == pytest.approx(-0.05)


def test_no_failures_fall_no_further():
    assert next_drop(np.array([[0.2, 0.1, 0.0], [0.0, 0.0, 0.0]]), SHARES).tolist() == [0.0, 0.0]


def failing(rates, items=400):
    """Items that fail one after another as there is less data."""
    return np.array([[float(i < rate * items) for i in range(items)] for rate in rates])


def test_a_clear_fall_is_told_with_its_interval():
    found = curve(failing([0.5, 0.4, 0.3]), SHARES, [str(i) for i in range(400)])
    assert [rate.value for rate in found.rates] == pytest.approx([0.5, 0.4, 0.3])
    assert found.gain.value == pytest.approx(0.075) and 0 < found.gain.low < 0.075 < found.gain.high
    assert found.next.value == pytest.approx(0.225) and found.next.low < 0.225 < found.next.high


def test_few_sources_of_many_items_leave_the_fall_uncertain():
    alone = curve(failing([0.5, 0.45, 0.4]), SHARES, [str(i) for i in range(400)])
    together = curve(failing([0.5, 0.45, 0.4]), SHARES, [str(i // 20) for i in range(400)])
    assert alone.gain.low > 0 >= together.gain.low


def test_intervals_hold_the_truth_as_often_as_they_say():
    """60 draws of items from one curve; the true drop lies outside of its 95 % interval in few of them."""
    rng, rates = np.random.default_rng(1), np.array([0.5, 0.35, 0.25])
    truth, outside = next_drop(rates[None], SHARES)[0], 0
    for _ in range(60):
        hard = rng.random(300)
        found = curve((hard[None] < rates[:, None]).astype(float), SHARES, [str(i) for i in range(300)])
        outside += not found.gain.low <= truth <= found.gain.high
    assert outside <= 7
