"""The combined reward: sums by hand, bounds that their multipliers enforce, resume, and what a config refuses."""

import copy
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf

from pipeline.errors import ConfigError, DataError, StageFailed
from stages.rewards.combined import Reward, check, check_measured, read

CONFIG = {
    "weights": {"helpful": 2.0, "concise": 0.5},
    "terms": {
        "helpful": {"kind": "model", "input": "reward"},
        "concise": {"kind": "length", "target": 4},
    },
}
BOUND = {"terms": {"helpful": {"kind": "model"}, "polite": {"kind": "ban", "words": ["bad"], "at_least": -0.25}}}


def score(reward, answers, **more):
    """One answer to a row each, of as many tokens as words, all ended."""
    ids = [list(range(len(answer.split()) + 1)) for answer in answers]
    rows = [{"rude": "bad" in answer} for answer in answers]
    return reward(rows, [[1]] * len(answers), ids, answers, [True] * len(answers), **more)


def fixed(*values):
    return {"helpful": lambda rows, prompts, answers: torch.tensor(values[: len(rows)])}


def test_the_weighted_sum_by_hand_and_each_term_by_itself():
    found = score(Reward(CONFIG, fixed(1.0, -0.5)), ["one two three four", "one two"])
    assert found.parts["helpful"].tolist() == [1.0, -0.5] and found.parts["concise"].tolist() == [1.0, 0.5]
    assert found.total.tolist() == [2.0 + 0.5, -1.0 + 0.25]
    means = {"reward": 0.875, "reward_spread": 1.625, "reward/helpful": 0.25, "reward/concise": 0.75}
    assert found.means() == means


def test_the_model_is_given_the_ids():
    seen = []

    def model(rows, prompts, answers):
        seen.append((rows, prompts, answers))
        return torch.zeros(1)

    Reward(CONFIG, {"helpful": model})([{"id": "a"}], [[5, 6]], [[7, 2]], ["x"], [True])
    assert seen == [([{"id": "a"}], [[5, 6]], [[7, 2]])]


def test_a_term_without_a_weight_counts_once_and_a_constraint_not_at_all():
    assert read({"terms": CONFIG["terms"]}).weights == {"helpful": 1.0, "concise": 1.0}
    assert read(BOUND).weights == {"helpful": 1.0, "polite": 0.0}


def test_what_is_only_measured_has_no_bounds():
    """Its multiplier would stay 0, and with the weight of a bounded term the score would always be 0."""
    check_measured({"terms": CONFIG["terms"], "clip": 1.0}, "gold")
    with pytest.raises(ConfigError, match=r"gold\.terms\.polite\.at_least: .* only measured; take it out"):
        check_measured(BOUND, "gold")


@pytest.mark.parametrize("key", ["multiplier_lr", "multiplier_start"])
def test_a_multiplier_of_no_bound_is_refused(key):
    assert read({**BOUND, key: 0.5}).bounds == {"polite": -0.25}
    with pytest.raises(ConfigError, match=rf"reward\.{key}: no term has a bound"):
        read({**CONFIG, key: 0.5})


def test_the_total_is_clipped_and_its_parts_are_not():
    found = score(Reward({**CONFIG, "clip": 0.75}, fixed(9.0, -9.0)), ["a", "a"])
    assert found.total.tolist() == [0.75, -0.75] and found.parts["helpful"].tolist() == [9.0, -9.0]


def test_a_multiplier_climbs_while_its_bound_is_broken_and_falls_to_zero_while_it_is_kept():
    reward = Reward({**BOUND, "multiplier_lr": 0.5}, fixed(1.0, 1.0))
    first = score(reward, ["bad", "bad"])  # mean -1 against -0.25
    assert first.total.tolist() == [1.0, 1.0] and reward.state() == {"polite": 0.375}
    second = score(reward, ["bad", "good"])  # (1 + 0.375 (term + 0.25)) / 1.375, then 0.375 + 0.5 (-0.25 + 0.5)
    assert second.total.tolist() == pytest.approx([(1 - 0.375 * 0.75) / 1.375, (1 + 0.375 * 0.25) / 1.375])
    assert second.multipliers == {"polite": 0.375} and reward.state() == {"polite": 0.5}
    for _ in range(9):
        score(reward, ["good", "good"])
    assert reward.state() == {"polite": 0.0}


def test_measuring_leaves_the_multiplier_alone():
    reward = Reward({**BOUND, "multiplier_start": 0.7}, fixed(1.0))
    score(reward, ["bad"], learn=False)
    assert reward.state() == {"polite": 0.7}


@pytest.mark.parametrize("bound", [-0.1, -0.3, -0.6])
def test_the_multiplier_finds_the_constrained_optimum(bound):
    """Rude answers are worth more: unbounded, a policy says only those; with a bound, just as many as it allows.

    The policy is a softmax over two answers, trained on the expected reward with an entropy bonus, so that its optimum
    under the bound is the bound itself.
    """
    config = {**copy.deepcopy(BOUND), "multiplier_lr": 0.05}
    config["terms"]["polite"]["at_least"] = bound
    reward = Reward(config, {"helpful": lambda rows, *ids: torch.tensor([float(row["rude"]) for row in rows])})
    logit, shares = torch.zeros(1, requires_grad=True), []
    optimizer = torch.optim.SGD([logit], lr=0.5)
    for _ in range(2000):
        share = torch.sigmoid(logit)
        rude, polite = score(reward, ["bad", "good"], learn=False).total
        entropy = -share * share.log() - (1 - share) * (1 - share).log()
        optimizer.zero_grad()
        (-(share * rude + (1 - share) * polite + 0.1 * entropy)).sum().backward()
        optimizer.step()
        shares.append(share.item())
        sampled = round(100 * shares[-1])
        score(reward, ["bad"] * sampled + ["good"] * (100 - sampled))
    assert sum(shares[-500:]) / 500 == pytest.approx(-bound, abs=0.03)


def test_a_reloaded_state_goes_on_as_if_it_had_not_stopped():
    straight = Reward(BOUND, fixed(1.0, 2.0))
    score(straight, ["bad", "bad"])
    resumed = Reward(BOUND, fixed(1.0, 2.0))
    resumed.load(straight.state())
    ends = [score(reward, ["bad", "good"]).total.tolist() for reward in (straight, resumed)]
    assert ends[0] == ends[1] and straight.state() == resumed.state()
    with pytest.raises(ValueError, match="polite"):
        Reward(CONFIG, fixed(1.0)).load(straight.state())


def test_rows_that_a_rule_cannot_score_are_refused_with_their_id():
    reward = Reward({"terms": {"right": {"kind": "checker"}}}, {})
    with pytest.raises(DataError, match="term right: row q7: no `check`"):
        reward.check_rows([{"id": "q6", "check": {"type": "words", "max": 3}}, {"id": "q7"}])


@pytest.mark.parametrize(("scores", "says"), [((1.0, float("nan")), "NaN"), ((1.0,), r"shape \(1,\) for 2")])
def test_scores_that_are_missing_or_not_finite_stop_the_stage(scores, says):
    with pytest.raises(StageFailed, match=f"helpful.*{says}"):
        score(Reward(CONFIG, fixed(*scores)), ["a", "b"])


def test_score_functions_must_match_the_model_terms():
    with pytest.raises(ValueError, match="helpful"):
        Reward(CONFIG, {})


def changed(**keys):
    return {**copy.deepcopy(CONFIG), **keys}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "reward.terms: name at least one term"),
        (changed(weight={}), "reward.weight: no such parameter; did you mean weights?"),
        (changed(weights={"helpfull": 1.0}), "reward.weights.helpfull: no such term; did you mean helpful?"),
        (changed(weights={"concise": "0.1"}), "reward.weights.concise='0.1': expected a finite number"),
        (changed(weights={"concise": float("nan")}), "finite"),
        (changed(weights={"helpful": 0, "concise": 0}), "nothing to learn"),
        (changed(clip=-1.0), "reward.clip=-1.0"),
        (changed(terms={"a": {"kind": "modle"}}), "reward.terms.a.kind=modle: use model, checker"),
        (changed(terms={"a": "model"}), "reward.terms.a='model': expected a mapping"),
        (changed(terms={"a": {"kind": "length", "target": 3, "weight": 1}}), "say `weights: {a: ...}` beside `terms`"),
        (changed(terms={"a": {"kind": "model", "inputs": "reward"}}), "reward.terms.a.inputs: no such parameter"),
        (changed(terms={"helpful": {"kind": "model", "input": "rm"}}, weights={}), "reward.terms.helpful.input=rm"),
        (changed(terms={"a": {"kind": "length", "target": 3, "at_least": "x"}}, weights={}), "a.at_least='x'"),
        ({**BOUND, "multiplier_lr": 0.0}, "the bound of polite would never be enforced"),
    ],
)
def test_a_wrong_config_says_where_and_what_to_do(config, says):
    with pytest.raises(ConfigError) as caught:
        check(config, {"policy": "sft", "reward": "reward"})
    assert says in str(caught.value)


def test_right_configs_pass_also_as_they_come_from_hydra():
    inputs = {"policy": "sft", "reward": "reward"}
    check(CONFIG, inputs)
    check(OmegaConf.to_container(OmegaConf.create(BOUND)), inputs)


def test_checking_a_config_does_not_import_torch():
    code = f"import sys; from stages.rewards.combined import check; check({CONFIG!r}, {{'reward': 'r'}}); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr
