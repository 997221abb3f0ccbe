"""A/A and power of the gates, a short form of scripts/gate_power.py: its models, its designs, the gates of `legal`."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.judging.gates import judge_results
from pipeline.schema import Gate

PATH = Path(__file__).parents[1] / "scripts" / "gate_power.py"
TRIALS = 200


@pytest.fixture(scope="module")
def power():
    spec = importlib.util.spec_from_file_location("gate_power", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_power"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def legal(power, tmp_path, monkeypatch):
    """The blocking gates of `legal` on losses, of one stage."""
    monkeypatch.chdir(tmp_path)
    return {name: gate for name, gate in power.legal_gates().items() if gate.stage == "dpo"}


def refused(gates, results):
    return sum(not one.passed for one in judge_results(gates, results, {"dpo": "base"}))


def test_the_same_results_on_other_items_pass_every_gate_in_every_trial(power, legal):
    """One evaluation compared with itself, on items drawn anew each time."""
    rng = np.random.default_rng(0)
    for _ in range(TRIALS // 4):
        results = power.evaluations(power.LEGAL, {"base": 0.0}, rng)
        assert refused(legal, {"base": results["base"], "dpo": results["base"]}) == 0


def test_a_model_evaluated_twice_passes_every_gate_as_often_as_stated(power, legal):
    """All gates of a stage together, without the margins that would make it easy."""
    assert len(legal) == 4
    bare = {name: replace(gate, margin=0.0) for name, gate in legal.items()}
    rng, failed, alone = np.random.default_rng(1), 0, 0
    for _ in range(TRIALS):
        results = power.evaluations(power.LEGAL, {"base": 0.0, "dpo": 0.0}, rng)
        failed += refused(bare, results) > 0
        alone += refused({name: replace(gate, correction="none") for name, gate in bare.items()}, results) > 0
    assert failed <= 12  # nominal: 2.5 % of 200 = 5; more than 12 by chance: 1 in 300
    assert alone > failed, "four gates without the correction refuse more often"


@pytest.mark.parametrize(
    "name", ["right or wrong, 1,600 items", "right or wrong, 3,200 items in 640 clusters", "perplexity, 28 texts"]
)
def test_a_loss_of_five_points_is_caught_where_the_gate_says_that_it_sees_one(power, name):
    rng, design = np.random.default_rng(2), power.DESIGNS[name]
    gate = Gate("new", "suite", "not_worse", margin=design.margin)
    found = [power.judged(design, gate, power.LOSS, rng) for _ in range(50)]
    assert np.mean([one.seen_from for one in found]) < power.LOSS
    assert sum(not one.passed for one in found) >= 40


def test_the_table_that_is_kept_says_what_was_asked(power):
    """The stored benchmark: nominal rates under A/A, the stated power at what a gate says that it sees."""
    kept = json.loads(power.TARGET.read_text())
    assert kept["single"].keys() == power.DESIGNS.keys()
    for name, one in kept["single"].items():
        noise = 3 * (0.025 * 0.975 / kept["trials"]) ** 0.5
        assert one["unchanged_refused_without_margin"] <= 0.025 + noise, name
        assert one["unchanged_found_better"] <= 0.025 + noise, name
        assert one["loss_seen_from_caught"] >= 0.74, name
    assert all(chain["stages_passed"] >= 0.97 for key, chain in kept["legal"].items() if "holm" in key)
