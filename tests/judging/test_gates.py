"""Gates judged on result folders like those that an evaluation writes."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from pipeline.errors import ConfigError, DataError
from pipeline.judging.gates import check, judge
from pipeline.judging.significance import holm, mcnemar
from pipeline.schema import Gate

METRICS = {"facts": ("accuracy", True), "texts": ("perplexity", False), "harmless": ("over_refusal_rate", False)}


@pytest.fixture
def write(tmp_path):
    """write(stage, suite=scores ...) -> the folder of its evaluation."""

    def folder(stage, ids=None, **suites):
        columns = {"suite": [], "item": [], "cluster": [], "score": [], "weight": []}
        for suite, scores in suites.items():
            names = ids or [f"{suite}{k}" for k in range(len(scores))]
            columns["suite"] += [suite] * len(scores)
            columns["item"] += names
            columns["cluster"] += names
            columns["score"] += [float(score) for score in scores]
            columns["weight"] += [10.0] * len(scores)
        results = tmp_path / stage / "results"
        results.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table(columns), results / "items.parquet")
        summary = {suite: {"metric": METRICS[suite][0], "higher_is_better": METRICS[suite][1]} for suite in suites}
        (results / "summary.json").write_text(json.dumps(summary))
        return tmp_path / stage

    return folder


def one(gate, results, inputs=None):
    (found,) = judge({"g": gate}, results, inputs or {})
    return found


def shares(wins, losses, both, neither):
    """Scores of two models with so many items that only the first, only the second, both or neither got right."""
    a = [1] * wins + [0] * losses + [1] * both + [0] * neither
    b = [0] * wins + [1] * losses + [1] * both + [0] * neither
    return a, b


def test_improves_needs_the_whole_interval_beyond_the_margin(write):
    a, b = shares(30, 5, 40, 25)
    results = {"sft": write("sft", facts=a), "base": write("base", facts=b)}
    found = one(Gate("sft", "facts", "improves"), results)
    assert found.passed and found.change == pytest.approx(0.25) and 0 < found.low < 0.25 < found.high
    assert not one(Gate("sft", "facts", "improves", margin=0.2), results).passed


def test_improves_refuses_a_gain_that_could_be_luck(write):
    a, b = shares(12, 8, 40, 40)
    found = one(Gate("sft", "facts", "improves"), {"sft": write("sft", facts=a), "base": write("base", facts=b)})
    assert not found.passed and found.low < 0 < found.change


@pytest.mark.parametrize(("factor", "passed"), [(0.75, True), (1.25, False)])
def test_lower_perplexity_is_better_and_its_change_is_relative(write, factor, passed):
    nll = np.random.default_rng(0).normal(3, 0.4, 60)
    results = {"domain": write("domain", texts=nll + np.log(factor)), "base": write("base", texts=nll)}
    found = one(Gate("domain", "texts", "improves", margin=0.2), results)
    assert found.passed is passed and found.change == pytest.approx(factor - 1)


def test_lower_over_refusal_is_better(write):
    a, b = shares(30, 2, 0, 68)
    results = {"dpo": write("dpo", harmless=a), "base": write("base", harmless=b)}
    assert not one(Gate("dpo", "harmless", "not_worse", margin=0.1), results).passed
    assert one(Gate("base", "harmless", "improves", against="dpo"), results).passed


@pytest.mark.parametrize(
    ("wins", "losses", "passed", "why"),
    [
        (2, 6, True, "inside the margin"),
        (5, 25, False, "beyond the margin, and not by luck"),
        (30, 36, True, "beyond the margin of 0.05, but as likely luck"),
    ],
)
def test_not_worse_refuses_a_loss_beyond_margin_and_luck(write, wins, losses, passed, why):
    a, b = shares(wins, losses, 20, 100 - 20 - wins - losses)
    results = {"sft": write("sft", facts=a), "base": write("base", facts=b)}
    found = one(Gate("sft", "facts", "not_worse", margin=0.05), results)
    assert found.passed is passed, why
    assert ("not excluded" in found.sentence) is (passed and found.low < -0.05)


def test_absolute_rules_compare_the_value_and_report_its_interval(write):
    results = {"dpo": write("dpo", facts=[1] * 65 + [0] * 35)}
    assert one(Gate("dpo", "facts", "at_least", value=0.6), results).passed
    assert not one(Gate("dpo", "facts", "at_least", value=0.7), results).passed
    assert not one(Gate("dpo", "facts", "at_most", value=0.6), results).passed
    found = one(Gate("dpo", "facts", "at_most", value=0.65), results)
    assert found.passed and found.other == 0.65 and found.against is None and found.low < 0.65 < found.high


def test_input_means_the_judged_stages_own_policy(write):
    a, b = shares(0, 30, 50, 20)
    results = {"dpo": write("dpo", facts=a), "sft": write("sft", facts=b), "base": write("base", facts=a)}
    found = one(Gate("dpo", "facts", "not_worse", against="input"), results, {"dpo": "sft"})
    assert found.against == "sft" and not found.passed
    assert one(Gate("dpo", "facts", "not_worse", against="base"), results, {"dpo": "sft"}).passed


def test_confidence_widens_the_interval(write):
    a, b = shares(20, 8, 40, 32)
    results = {"sft": write("sft", facts=a), "base": write("base", facts=b)}
    narrow = one(Gate("sft", "facts", "improves", confidence=0.9), results)
    wide = one(Gate("sft", "facts", "improves", confidence=0.999), results)
    assert wide.low < narrow.low < narrow.high < wide.high and narrow.passed and not wide.passed


def test_the_sentence_says_which_suite_how_much_and_against_whom(write):
    nll = np.random.default_rng(0).normal(3, 0.4, 60)
    noise = np.random.default_rng(1).normal(0, 0.05, 60)
    results = {"domain": write("domain", texts=nll - 0.35 + noise), "base": write("base", texts=nll)}
    found = judge({"domain_improves": Gate("domain", "texts", "improves")}, results, {})[0]
    start = "domain_improves passed: perplexity of `domain` on texts is "
    assert found.sentence.startswith(start)
    assert f"{found.value:.2f} against {found.other:.2f} of `base` (-" in found.sentence
    assert "95 % interval -" in found.sentence
    refused = judge({"keeps": Gate("base", "texts", "not_worse", against="domain", margin=0.03)}, results, {})[0]
    assert refused.sentence.startswith("keeps refused: ") and refused.sentence.endswith(
        "at most 3.0 % worse is allowed"
    )
    warned = judge({"keeps": Gate("base", "texts", "not_worse", "domain", action="warn")}, results, {})[0]
    assert warned.sentence.startswith("keeps warned: ") and not warned.passed


def test_an_unchanged_model_is_refused_no_more_often_than_promised(write):
    """A/A: two noisy measurements of the same model, 200 times, on a small suite and without a margin."""
    rng = np.random.default_rng(5)
    refused = improved = 0
    for _ in range(200):
        truth = rng.random(80)
        a, b = rng.random(80) < truth, rng.random(80) < truth
        results = {"new": write("new", facts=a), "old": write("old", facts=b)}
        refused += not one(Gate("new", "facts", "not_worse", "old"), results).passed
        improved += one(Gate("new", "facts", "improves", "old"), results).passed
    assert refused <= 12 and improved <= 12  # nominal: 2.5 % of 200 = 5; 12 or more by chance: 0.5 %


def test_a_planted_loss_is_caught(write):
    """Five points lost on 1,000 items, of which the model changes few others: caught at least 9 times in 10."""
    rng = np.random.default_rng(6)
    caught = 0
    for _ in range(50):
        old = rng.random(1000) < 0.7
        new = np.where(rng.random(1000) < 0.02, ~old, old)
        lost = rng.choice(np.flatnonzero(new), 50, replace=False)
        new[lost] = False
        results = {"new": write("new", facts=new), "old": write("old", facts=old)}
        caught += not one(Gate("new", "facts", "not_worse", "old", margin=0.03), results).passed
    assert caught >= 45


def worse_by(better, worse):
    return shares(better, worse, 60, 100 - 60 - better - worse)


def test_p_of_blocking_losses_of_one_stage_is_corrected_for_their_number(write):
    """Seven losses against none are p 0.016: refused alone, not as one of four."""
    a, b = worse_by(0, 7)
    results = {"sft": write("sft", facts=a, harmless=b), "base": write("base", facts=b, harmless=b)}
    loss, same = Gate("sft", "facts", "not_worse", margin=0.05), Gate("sft", "harmless", "not_worse")
    assert not judge({"loss": loss}, results, {})[0].passed
    found = judge({"loss": loss, "b": same, "c": same, "d": same}, results, {})
    assert found[0].passed and (found[0].p, found[0].family) == (mcnemar(0, 7), 4)
    assert [one.adjusted_p for one in found] == holm([mcnemar(0, 7), 1, 1, 1])
    assert "p 0.016, corrected for 4 gates p 0.062)" in found[0].sentence


def test_only_blocking_losses_of_the_same_stage_count_for_the_correction(write):
    a, b = worse_by(0, 7)
    results = {stage: write(stage, facts=a, harmless=b) for stage in ("sft", "dpo")} | {"base": write("base", facts=b)}
    loss = Gate("sft", "facts", "not_worse", margin=0.05)
    beside = {
        "another stage": Gate("dpo", "facts", "not_worse"),
        "a warning": Gate("sft", "facts", "not_worse", action="warn"),
        "a finding": Gate("sft", "facts", "improves"),
        "a bound": Gate("sft", "harmless", "at_most", value=0.9),
        "on its own": Gate("sft", "facts", "not_worse", correction="none"),
    }
    found = judge({"loss": loss, **beside}, results, {})[0]
    assert not found.passed and (found.family, found.adjusted_p) == (1, found.p)
    assert "corrected" not in found.sentence


def test_a_gate_says_when_its_suite_is_too_small_for_its_margin(write):
    a, b = shares(2, 2, 20, 16)
    results = {"sft": write("sft", facts=a), "base": write("base", facts=b)}
    small = one(Gate("sft", "facts", "not_worse", margin=0.05), results)
    assert small.passed and small.too_small and 0.2 < small.seen_from < 0.5
    assert f"too small to see its margin: a loss is found 8 times in 10 from {small.seen_from:.3f} on" in small.sentence
    large = one(Gate("sft", "facts", "not_worse", margin=0.4), results)
    assert not large.too_small and large.seen_from > 0.4 and "too small" not in large.sentence
    gain = one(Gate("sft", "facts", "improves", margin=0.05), results)
    assert gain.too_small and "too small to see such a gain: a gain is found 8 times in 10 from" in gain.sentence
    assert not one(Gate("sft", "facts", "not_worse"), results).too_small, "without a margin nothing is promised"


def test_the_champion_is_compared_like_a_stage_and_nothing_is_worse_than_none(write):
    a, b = worse_by(0, 30)
    results = {"dpo": write("dpo", facts=a)}
    gate = Gate("dpo", "facts", "not_worse", against="champion", margin=0.05)
    alone = one(gate, results)
    assert alone.passed and alone.against == "champion" and np.isnan(alone.other)
    assert alone.sentence.startswith("g passed: there is no champion yet")
    beside = one(gate, {**results, "champion": write("champion", facts=b)})
    assert not beside.passed and beside.change == pytest.approx(-0.3)


def test_the_hardest_prompt_to_beat_decides(write):
    a, b = worse_by(30, 0)
    results = {"dpo": write("dpo", facts=a), "base": write("base", facts=b), "glossary": write("glossary", facts=a)}
    found = judge({"g": Gate("dpo", "facts", "improves", "prompting")}, results, {}, ["base", "glossary"])[0]
    assert not found.passed and found.against == "glossary" and "of 2 prompts the hardest to beat" in found.sentence


def test_the_same_results_pass_every_relative_rule_of_not_worse(write):
    scores = np.random.default_rng(0).random(30) < 0.5
    results = {"a": write("a", facts=scores), "b": write("b", facts=scores)}
    found = one(Gate("a", "facts", "not_worse", "b"), results)
    assert found.passed and (found.change, found.low, found.high) == (0, 0, 0)
    assert not one(Gate("a", "facts", "improves", "b"), results).passed


def test_models_measured_on_other_items_are_not_compared(write):
    results = {"a": write("a", facts=[1, 0]), "b": write("b", ids=["x", "y"], facts=[1, 0])}
    with pytest.raises(DataError, match=r"gate g: `a` and `b` on facts: .*same items; 4 differ"):
        one(Gate("a", "facts", "improves", "b"), results)


def test_a_gate_on_what_was_not_evaluated_names_what_was(write):
    results = {"sft": write("sft", facts=[1, 0]), "base": write("base", texts=[1, 0])}
    with pytest.raises(ConfigError, match=r"gates.g.stage=sfd: evaluated stages are sft, base; did you mean sft\?"):
        one(Gate("sfd", "facts", "at_least", value=0.1), results)
    with pytest.raises(ConfigError, match=r"gates.g.suite=fact: suites are facts"):
        one(Gate("sft", "fact", "at_least", value=0.1), results)
    with pytest.raises(ConfigError, match=r"gates.g.suite=facts: 'base' was not evaluated on it"):
        one(Gate("sft", "facts", "improves"), results)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (Gate("sft", "facts", "better"), r"gates.g.rule=better: rules are improves, not_worse, at_least, at_most"),
        (Gate("sft", "facts", "improve"), r"did you mean improves\?"),
        (Gate("sft", "fcts", "improves"), r"gates.g.suite=fcts: suites are facts; did you mean facts\?"),
        (Gate("stf", "facts", "improves"), r"gates.g.stage=stf: evaluated stages are base, sft; did you mean sft\?"),
        (Gate("sft", "facts", "improves", against="champion2"), r"gates.g.against=champion2: evaluated stages are"),
        (Gate("base", "facts", "not_worse", against="input"), r"gates.g.against=input: 'base' has no input model"),
        (Gate("base", "facts", "not_worse"), r"gates.g.against=base: that compares 'base' with itself"),
        (Gate("sft", "facts", "at_least"), r"gates.g.value is missing"),
        (
            Gate("sft", "facts", "at_most", value=0.1, margin=0.1),
            r"gates.g.margin=0.1: rule at_most reads `value` only",
        ),
        (Gate("sft", "facts", "improves", value=0.1), r"gates.g.value=0.1: rule improves reads `margin`"),
        (Gate("sft", "facts", "improves", margin=-0.1), r"gates.g.margin=-0.1: a margin is not negative"),
        (Gate("sft", "facts", "improves", action="stop"), r"gates.g.action=stop: actions are block, warn"),
        (Gate("sft", "facts", "improves", confidence=95), r"gates.g.confidence=95: it lies between 0 and 1"),
        (
            Gate("sft", "facts", "improves", correction="hlm"),
            r"correction=hlm: corrections are holm, none; did you mean",
        ),
    ],
)
def test_a_gate_that_cannot_work_is_found_before_anything_runs(gate, message):
    (error,) = check({"g": gate}, ["base", "sft"], ["facts"], {"sft": "base"})
    with pytest.raises(ConfigError, match=message):
        raise error


def test_good_gates_have_no_problems():
    gates = {
        "a": Gate("sft", "facts", "improves", margin=0.1),
        "b": Gate("sft", "facts", "not_worse", against="input"),
        "c": Gate("base", "facts", "at_least", value=0.1, action="warn"),
    }
    assert check(gates, ["base", "sft"], ["facts"], {"sft": "base"}) == []


def test_judging_loads_no_heavy_library():
    code = "import sys, pipeline.judging.gates; print({'torch', 'transformers', 'pyarrow', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_prompting_has_to_be_beaten_in_each_of_its_forms(write):
    tuned, bare = shares(30, 5, 40, 25)
    results = {"sft": write("sft", facts=tuned), "base": write("base", facts=bare), "told": write("told", facts=bare)}
    gate = Gate("sft", "facts", "improves", against="prompting")
    (found,) = judge({"g": gate}, results, {}, ["base", "told"])
    assert found.passed and "of 2 prompts the hardest to beat" in found.sentence
    results["told"] = write("told", facts=tuned)
    (found,) = judge({"g": gate}, results, {}, ["base", "told"])
    assert not found.passed and found.against == "told"


def test_the_hardest_prompt_to_beat_has_the_lowest_perplexity(write):
    nll = np.random.default_rng(0).normal(3, 0.4, 60)
    results = {name: write(name, texts=nll + shift) for name, shift in (("sft", -0.4), ("base", 0.0), ("told", -0.2))}
    (found,) = judge({"g": Gate("sft", "texts", "improves", against="prompting")}, results, {}, ["base", "told"])
    assert found.passed and found.against == "told"
