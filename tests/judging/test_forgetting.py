"""The matrix stage x suite, and the stage that a loss is put down to."""

import json
import math

import numpy as np
import pytest

from pipeline.judging.forgetting import SCHEMA, cached_matrix, matrix
from pipeline.judging.power import detectable, detectable_alone
from pipeline.judging.statistics import Items, paired_change

CHAIN = {"sft": "base", "domain": "sft", "dpo": "domain"}
N = 400


class Measured:
    """Results in memory: suite -> scores; `text` is a perplexity."""

    def __init__(self, **scores):
        self.scores = {suite: np.asarray(values, dtype=float) for suite, values in scores.items()}
        self.summary = {
            suite: {"metric": "perplexity" if suite == "text" else "accuracy", "higher_is_better": suite != "text",
                    "value": float(values.mean()), "low": 0.0, "high": 1.0}
            for suite, values in self.scores.items()
        }  # fmt: skip

    def items(self, suite):
        ids = [f"i{k:03}" for k in range(len(self.scores[suite]))]
        return Items(ids, ids, self.scores[suite], np.ones(len(ids)))


@pytest.fixture
def measured():
    """`domain` loses facts and gains text, `dpo` loses text; refusals only move with the noise of sampling."""
    rng = np.random.default_rng(0)
    facts, text = rng.random(N) < 0.7, rng.normal(3, 0.3, N)
    lost = facts & (rng.random(N) > 0.3)
    gone = text - 0.2 + rng.normal(0, 0.05, N)
    right = {"base": facts, "sft": facts, "domain": lost, "dpo": lost}
    nll = {"base": text, "sft": text, "domain": gone, "dpo": gone + 0.1 + rng.normal(0, 0.05, N)}
    return {
        stage: Measured(facts=right[stage], text=nll[stage], refusal=rng.random(N) < 0.6) for stage in ("base", *CHAIN)
    }


def entry(found, stage, suite):
    (one,) = [e for e in found["entries"] if (e["stage"], e["suite"]) == (stage, suite)]
    return one


def test_a_loss_is_put_down_to_the_stage_that_caused_it(measured):
    assert matrix(measured, CHAIN)["caused_by"] == {"facts": "domain", "text": "dpo", "refusal": None}


def test_a_gain_is_nobody_s_fault(measured):
    up_to_domain = {stage: measured[stage] for stage in ("base", "sft", "domain")}
    found = matrix(up_to_domain, CHAIN)
    assert entry(found, "domain", "text")["against_input"]["p"] < 0.01 and found["caused_by"]["text"] is None


def test_every_cell_has_its_value_and_both_changes(measured):
    found = matrix(measured, CHAIN)
    assert [(e["stage"], e["suite"]) for e in found["entries"][:4]] == [
        ("base", "facts"), ("base", "text"), ("base", "refusal"), ("sft", "facts"),
    ]  # fmt: skip
    one = entry(found, "dpo", "text")
    for key, other in (("against_input", "domain"), ("against_base", "base")):
        expected = paired_change(measured["dpo"].items("text"), measured[other].items("text"), "perplexity")
        assert one[key] == {
            "stage": other, "change": expected.change, "low": expected.low, "high": expected.high, "p": expected.p,
        }  # fmt: skip
    assert one["value"] == measured["dpo"].summary["text"]["value"] and one["metric"] == "perplexity"
    assert one["against_base"]["change"] < 0 < one["against_input"]["change"], "gained in all, lost in this stage"


def test_the_start_has_nothing_to_be_compared_with_and_a_first_stage_has_it_twice(measured):
    found = matrix(measured, CHAIN)
    assert entry(found, "base", "facts")["against_input"] is entry(found, "base", "facts")["against_base"] is None
    first = entry(found, "sft", "refusal")
    assert first["against_input"] == first["against_base"] and first["against_base"]["stage"] == "base"


def test_steps_add_up_to_the_whole(measured):
    found = matrix(measured, CHAIN)
    steps = [entry(found, stage, "text")["against_input"]["change"] for stage in CHAIN]
    whole = entry(found, "dpo", "text")["against_base"]["change"]
    assert sum(map(math.log1p, steps)) == pytest.approx(math.log1p(whole))


def test_models_on_other_items_and_suites_are_not_compared(measured):
    measured["sft"] = Measured(facts=np.ones(7))
    found = matrix(measured, CHAIN)
    assert "same items" in entry(found, "sft", "facts")["against_base"]["reason"]
    assert entry(found, "domain", "text")["against_input"] is None
    assert found["caused_by"]["facts"] is None, "against sft nothing is known, and dpo changed nothing"


def test_what_each_suite_can_see(measured):
    found = matrix(measured, CHAIN)["detectable"]
    expected = detectable(measured["dpo"].items("refusal"), measured["base"].items("refusal"), "accuracy")
    assert found["refusal"] == expected
    alone = matrix({"base": measured["base"]}, {})["detectable"]
    assert alone["refusal"] == detectable_alone(measured["base"].items("refusal"), "accuracy")
    assert matrix({"base": Measured(flat=np.full(9, 0.5))}, {})["detectable"] == {"flat": None}


def test_it_is_computed_once_for_the_same_results(measured, tmp_path, monkeypatch):
    calls = []

    def computed(read, inputs):
        calls.append(inputs)
        return {"entries": [], "caused_by": {}, "detectable": {}, "schema": SCHEMA}

    monkeypatch.setattr("pipeline.judging.forgetting.matrix", computed)
    results = {"base": tmp_path / "aaaa" / "1", "sft": tmp_path / "bbbb" / "1"}
    first = cached_matrix(results, {"sft": "base"}, tmp_path / "cache")
    assert cached_matrix(results, {"sft": "base"}, tmp_path / "cache") == first and len(calls) == 1
    cached_matrix({**results, "sft": tmp_path / "bbbb" / "2"}, {"sft": "base"}, tmp_path / "cache")
    cached_matrix(results, {}, tmp_path / "cache")
    assert len(calls) == 3, "another attempt, another input"


def test_a_run_leaves_it_beside_its_record(chain, execute, project, capfd):
    run = execute(chain())
    folder = run.store.runs("chain") / run.record["run_id"]
    found = json.loads((folder / "matrix.json").read_text())
    assert [(e["stage"], e["value"]) for e in found["entries"]] == [("base", 0), ("first", 4), ("second", 8)]
    assert found["caused_by"] == {"quiz": None}
    assert "a change of quiz nothing" in capfd.readouterr().out


def test_a_run_leaves_its_gates_for_machines(chain, execute, project):
    from pipeline.schema import Gate

    gates = {"low": Gate("first", "quiz", "at_least", value=1.0), "high": Gate("first", "quiz", "at_least", value=9.0)}
    run = execute(chain(gates={**gates, "late": Gate("second", "quiz", "at_least", value=1.0)}))
    folder = run.store.runs("chain") / run.record["run_id"]
    found = json.loads((folder / "gates.json").read_text())
    assert {gate["name"]: gate["verdict"] for gate in found["gates"]} == {
        "low": "passed", "high": "refused", "late": "not judged",
    }  # fmt: skip
    assert run.code == found["exit"] == 3 and (folder / "gates.xml").is_file()
