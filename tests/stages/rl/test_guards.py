"""The guards on histories with one planted fault each, and on healthy noisy ones, over many seeds."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from stages.rl.guards import Alarm, Guards, alarms, ends, over_optimised, repetition, smooth, trend

UPDATES = 40


def noise(draw, count, size, memory=0.3):
    """Noise that remembers its last value, as scores of successive policies do."""
    found = draw.normal(0, size, count)
    for i in range(1, count):
        found[i] += memory * found[i - 1]
    return found


def healthy(seed, updates=UPDATES):
    """Reward and gold rise and level off, KL grows to its target, answers change a little."""
    draw, at = np.random.default_rng(seed), np.arange(updates) / updates
    rise = 1 - np.exp(-4 * at)
    columns = {
        "reward": 0.2 + 1.5 * rise + noise(draw, updates, 0.15),
        "gold": 0.4 + 0.3 * rise + noise(draw, updates, 0.05),
        "kl": 6 * rise + noise(draw, updates, 0.3),
        "entropy": 1.2 - 0.5 * rise + noise(draw, updates, 0.05),
        "response_length": 48 + 20 * rise + noise(draw, updates, 5),
        "eos_share": np.clip(0.9 + noise(draw, updates, 0.04), 0, 1),
        "repetition": np.clip(0.06 + noise(draw, updates, 0.02), 0, 1),
        "reward_spread": 0.8 - 0.3 * rise + noise(draw, updates, 0.05),
        "engine_gap": np.abs(0.04 + noise(draw, updates, 0.01)),
    }
    return [{name: float(values[i]) for name, values in columns.items()} for i in range(updates)]


def changed(rows, key, values):
    return [{**row, key: float(value)} for row, value in zip(rows, values, strict=True)]


def scaled(rows, key, factors):
    return changed(rows, key, [row[key] * factor for row, factor in zip(rows, factors, strict=True)])


def names(rows, **thresholds):
    return [alarm.name for alarm in alarms(rows, Guards(**thresholds))]


def over(seed, updates=UPDATES, peak=0.4):
    """Gold as Gao et al. found it, d (a - b log d) in d = sqrt(KL), while the proxy goes on rising."""
    draw, at = np.random.default_rng(seed), np.arange(1, updates + 1) / updates
    turned = np.where(at < peak, at / peak, 1 - (at - peak) / (1 - peak))
    rows = changed(healthy(seed, updates), "gold", 0.4 + 0.3 * turned + noise(draw, updates, 0.04))
    rows = changed(rows, "reward", 0.2 + 2 * at + noise(draw, updates, 0.15))
    return changed(rows, "kl", 10 * at + noise(draw, updates, 0.3))


ramp = np.linspace(0, 1, UPDATES)
PLANTED = {
    "over_optimised": over,
    "negative_kl": lambda seed: changed(
        healthy(seed), "kl", np.where(ramp < 0.6, 0.5, -0.3) + noise(np.random.default_rng(seed), UPDATES, 0.05)
    ),
    "length_explosion": lambda seed: scaled(healthy(seed), "response_length", 1 + 5 * ramp),
    "length_collapse": lambda seed: scaled(healthy(seed), "response_length", 1 - 0.9 * ramp),
    "eos_collapse": lambda seed: scaled(healthy(seed), "eos_share", 1 - 0.7 * ramp),
    "repetition": lambda seed: changed(healthy(seed), "repetition", 0.05 + 0.6 * ramp),
    "entropy_collapse": lambda seed: scaled(healthy(seed), "entropy", 1 - 0.95 * ramp),
    "reward_spread": lambda seed: scaled(healthy(seed), "reward_spread", 1 - 0.98 * ramp),
    "engine_gap": lambda seed: changed(healthy(seed), "engine_gap", 0.04 + 0.2 * ramp),
}


@pytest.mark.parametrize("fault", PLANTED)
@pytest.mark.parametrize("seed", range(10))
def test_a_planted_fault_raises_its_alarm_and_no_other(fault, seed):
    assert names(PLANTED[fault](seed)) == [fault]


@settings(max_examples=300, derandomize=True, deadline=None)
@given(seed=st.integers(0, 10**6), updates=st.sampled_from([1, 4, 9, 10, 12, 25, 60, 150]))
def test_a_healthy_noisy_run_raises_none(seed, updates):
    assert names(healthy(seed, updates)) == []


@settings(max_examples=200, derandomize=True, deadline=None)
@given(seed=st.integers(0, 10**6), updates=st.sampled_from([10, 30, 80]))
def test_a_run_that_learns_nothing_raises_none(seed, updates):
    """Flat in everything, with KL around zero."""
    draw = np.random.default_rng(seed)
    levels = {"reward": 0.5, "gold": 0.5, "kl": 0.02, "entropy": 1, "response_length": 40, "eos_share": 0.9,
              "repetition": 0.1, "reward_spread": 1}  # fmt: skip
    rows = [{key: level + float(draw.normal(0, 0.02)) for key, level in levels.items()} for _ in range(updates)]
    assert names(rows) == []


def test_gold_and_spread_may_be_absent_and_gold_may_be_there_now_and_then():
    rows = over(3, 120)
    kept = ("reward", "kl", "entropy", "response_length", "eos_share", "repetition")
    assert names([{key: row[key] for key in kept} for row in rows]) == []
    sparse = [row if i % 4 == 0 else {**row, "gold": None} for i, row in enumerate(rows)]
    assert names(sparse) == ["over_optimised"]


@pytest.mark.parametrize("seed", range(10))
def test_the_turning_point_is_found_with_its_kl(seed):
    """Planted at update 40 of 100, where the KL is 4."""
    alarm = over_optimised(over(seed, 100), Guards())
    assert abs(alarm.update - 40) <= 8 and alarm.kl == pytest.approx(4, abs=1)
    assert f"at a KL of {alarm.kl:.3g} nats" in alarm.detail and "keep the KL below" in alarm.detail


def test_gold_that_falls_with_the_reward_is_no_over_optimisation():
    rows = over(1)
    assert names(changed(rows, "reward", [-row["reward"] for row in rows])) == []


def test_a_kl_that_is_now_and_then_positive_is_noise():
    rows = PLANTED["negative_kl"](0)
    rows[-4] = {**rows[-4], "kl": 0.01}
    assert names(rows) == []


def test_answers_that_always_repeated_themselves_are_no_collapse():
    assert names(changed(healthy(2), "repetition", 0.3 + 0.1 * ramp)) == []


def test_a_single_bad_update_is_no_alarm():
    rows = healthy(5)
    for key, value in {"kl": -30, "entropy": 0, "response_length": 200, "eos_share": 0, "repetition": 1}.items():
        rows[20] = {**rows[20], key: value}
    assert names(rows) == []


def test_every_threshold_moves_its_alarm():
    """A history just past each default limit is let through by a laxer one."""
    lax = {
        "over_optimised": {"trend": 50.0},
        "negative_kl": {"negative_kl": 1.0},
        "length_explosion": {"length_factor": 20.0},
        "length_collapse": {"length_factor": 20.0},
        "eos_collapse": {"eos_share": 0.01},
        "repetition": {"repetition": 0.9},
        "entropy_collapse": {"entropy": 0.01},
        "reward_spread": {"spread": 0.001},
        "engine_gap": {"engine_gap": 0.3},
    }
    for fault, changes in lax.items():
        assert names(PLANTED[fault](0), **changes) == [], fault
        assert names(PLANTED[fault](0), window=21) == [], fault  # too short for two such windows


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window": 1}, "guards.window=1"),
        ({"trend": 0.0}, "guards.trend=0.0"),
        ({"negative_kl": -1.0}, "guards.negative_kl=-1.0"),
        ({"length_factor": 1.0}, "guards.length_factor=1.0"),
        ({"eos_share": 1.5}, "it is a share"),
        ({"entropy": float("nan")}, "guards.entropy=nan"),
        ({"engine_gap": 0.0}, "guards.engine_gap=0.0"),
    ],
)
def test_a_threshold_that_cannot_work_is_refused(changes, says):
    Guards().check()
    with pytest.raises(ConfigError) as caught:
        Guards(**changes).check()
    assert says in str(caught.value)


def test_an_alarm_is_an_entry_of_the_manifest():
    assert asdict(Alarm("a", "b")) == {"name": "a", "detail": "b", "update": None, "kl": None}


def test_repetition_by_hand():
    """a b c a b c: the 3-grams abc, bca, cab, abc; one of four was there before."""
    assert repetition([1, 2, 3, 1, 2, 3]) == 0.25
    assert repetition([1, 2, 3, 4, 5]) == 0 and repetition([7] * 10) == 1 - 1 / 8
    assert repetition([1, 2]) == 0 and repetition([]) == 0 and repetition([1, 1, 1], n=1) == pytest.approx(2 / 3)


def test_trend_by_hand_and_against_its_null():
    """1..5: S = 10, variance 5 * 4 * 15 / 18; on independent noise z is standard normal."""
    assert trend([1, 2, 3, 4, 5]) == pytest.approx(9 / np.sqrt(50 / 3)) and trend([1, 2, 3]) == 0
    assert trend([2.0] * 9) == 0 and trend([5, 4, 3, 2, 1]) == -trend([1, 2, 3, 4, 5])
    draw = np.random.default_rng(0)
    found = [trend(draw.normal(size=30)) for _ in range(800)]
    assert abs(np.mean(found)) < 0.1 and 0.8 < np.std(found) < 1.05
    remembers = [trend(noise(draw, 60, 1, memory=0.5)) for _ in range(800)]
    assert np.mean(np.abs(remembers) > 3) < 0.02


def test_smooth_and_ends_by_hand():
    assert smooth([0, 3, 6, 9], 3).tolist() == [1.5, 3, 6, 7.5]
    assert ends([{"a": v} for v in (1, 3, 5, 9)], "a", 2) == (2, 7)
