"""The measurement `calibration`: confidences, parts, and details, on a toy and on planted models."""

import json

import numpy as np
import pytest

from pipeline.errors import ConfigError
from stages.evaluation import reliability as rel
from stages.evaluation.calibration import ASK, Calibration, CalibrationParams, asked_again
from stages.evaluation.choice import ChoiceParams, compared
from stages.evaluation.measurement import Scored, read_params
from stages.evaluation.results import SuiteResult, write

CHOICES = ["Yes", "No", "It depends"]


def rows_of(questions, **more):
    return [{**row, "cluster": f"c{k % 3}", **more} for k, row in enumerate(questions)]


def planted(monkeypatch, n=900, scale=3.0, routing=0.0):
    """Details of a model whose log-likelihoods are `scale` times too sure."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, 3)) * 2
    rows = [
        {"id": f"i{k}", "cluster": f"c{k}", "prompt": [{"role": "user", "content": "?"}], "choices": CHOICES,
         "answer": int(rng.choice(3, p=row))}
        for k, row in enumerate(rel.probabilities(values))
    ]  # fmt: skip
    monkeypatch.setattr("stages.evaluation.calibration.compared", lambda *_: (values * scale).tolist())
    params = CalibrationParams(target_error=routing, max_ece=0.1)
    items = Calibration().run(None, rows, params, 0)
    return items, Calibration().details(items, params)


def test_the_score_is_the_brier_score_of_the_picked_choice(policy, questions):
    rows = rows_of(questions, choices=CHOICES, answer=1)
    items = Calibration().run(policy, rows, CalibrationParams(base_params={"suffix": "."}), 0)
    for item, values in zip(items, compared(policy, rows, ChoiceParams(suffix="."), 0), strict=True):
        shares = np.exp(values - np.logaddexp.reduce(values))
        right = float(np.argmax(values) == 1)
        assert item.values["confidence"] == pytest.approx(shares.max()) and item.values["right"] == right
        assert item.score == pytest.approx((shares.max() - right) ** 2)


def test_temperature_scaling_mends_a_model_that_is_too_sure(monkeypatch):
    _, details = planted(monkeypatch)
    metrics = details["metrics"]
    assert metrics["temperature"]["value"] == pytest.approx(3, rel=0.15)
    assert metrics["ece"]["value"] > 0.1 > 0.06 > metrics["ece_scaled"]["value"]
    assert all(m["low"] <= m["value"] <= m["high"] or name.startswith("ece") for name, m in metrics.items())


def test_everything_shown_is_of_items_that_the_temperature_was_not_fitted_on(monkeypatch):
    items, details = planted(monkeypatch)
    held = [i for i in items if i.slices["part"] != "fit"]
    assert len(held) == 600 == sum(part["n"] for part in details["reliability"]["bins"])
    confidence, right = ([i.values[name] for i in held] for name in ("confidence", "right"))
    assert details["reliability"]["ece"] == rel.calibration_error(rel.equal_mass(confidence, right))
    assert details["reliability"]["brier"] == pytest.approx(np.mean([i.score for i in held]))
    assert details["risk"][-1]["coverage"] == 1 and details["risk"][-1]["risk"] == pytest.approx(1 - np.mean(right))


def test_a_threshold_is_written_to_routing_json(monkeypatch, tmp_path):
    items, details = planted(monkeypatch, routing=0.2)
    assert details["routing"]["routed"] and "may go out" in details["remarks"][0]
    write([SuiteResult("sure", "calibration", "brier", False, items, details)], tmp_path)
    written = json.loads((tmp_path / "results" / "routing.json").read_text())
    assert written["sure"] == details["routing"] and written["sure"]["temperature"] == pytest.approx(3, rel=0.15)


def test_without_a_target_no_threshold_is_named(monkeypatch, tmp_path):
    items, details = planted(monkeypatch, n=60)
    write([SuiteResult("sure", "calibration", "brier", False, items, details)], tmp_path)
    assert "routing" not in details and not (tmp_path / "results" / "routing.json").exists()


def test_a_threshold_that_cannot_be_supported_is_refused_in_words(monkeypatch):
    _, details = planted(monkeypatch, n=30, routing=0.1)
    assert not details["routing"]["routed"] and details["remarks"][0].startswith("No routing threshold: too few items")


def test_the_models_own_word_on_its_answer(policy, questions):
    rows = rows_of(questions, check={"type": "words", "max": 1})
    params = CalibrationParams(base="generate", base_params={"max_new_tokens": 3})
    items = Calibration().run(policy, rows, params, 0)
    again = asked_again(rows, items)
    assert [turn["role"] for turn in again[0]["prompt"]] == ["user", "assistant", "user"] and again[0]["prompt"][-1][
        "content"
    ] == ASK
    for item, (yes, no) in zip(items, compared(policy, again, ChoiceParams(end_of_turn=False), 0), strict=True):
        assert item.values["confidence"] == pytest.approx(1 / (1 + np.exp(no - yes)))
        assert item.values["right"] == float(len(item.answer.split()) <= 1)


def test_one_source_cannot_be_divided(policy, questions):
    rows = [{**row, "cluster": "c", "choices": CHOICES, "answer": 0} for row in questions]
    details = Calibration().details(Calibration().run(policy, rows, CalibrationParams(), 0), CalibrationParams())
    assert "of one source" in details["remarks"][0]


@pytest.mark.parametrize(
    ("given", "said"),
    [({"target_error": 1.0}, "below 1"), ({"target_error": -0.1}, "at least 0"), ({"bins": 1}, "at least 2"),
     ({"base": "generate", "base_params": {"temperature": 0.5}}, "judges greedy answers")],
)  # fmt: skip
def test_wrong_params_are_told(given, said):
    with pytest.raises(ConfigError, match=said):
        read_params(CalibrationParams, given, "s.params")


def test_items_keep_what_the_details_are_computed_from(monkeypatch):
    items, details = planted(monkeypatch, n=90)
    copies = [
        Scored(i.item, i.cluster, i.score, slices=i.slices, values=json.loads(json.dumps(i.values))) for i in items
    ]
    assert Calibration().details(copies, CalibrationParams()) == details
