"""`ppo` as a stage: its reward model sits on the policy's base, it is measured, and a kill changes nothing."""

import json
import pickle
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.registry import kind
from pipeline.schema import PeftConfig, Runtime
from stages.models.chain import Chain, load_policy
from stages.rl.config import PpoTrain, Rollouts, ValueFunction

SHORT = {"terms": {"short": {"kind": "length", "target": 4}}}
HELPFUL = {"terms": {"helpful": {"kind": "model", "input": "reward"}}}


@pytest.fixture(scope="session")
def prompts(bench, rows):
    asked = [{"id": r["id"], "prompt": r["prompt"], "check": {"type": "words", "min": 3}} for r in rows.pairs(12)]
    return bench.data("prompts", asked)


@pytest.fixture(scope="session")
def reward(bench, domain, rows):
    """A reward model on `domain`, of two members."""
    data = {"train": bench.data("judged", rows.pairs(12)), "heldout": bench.data("unseen", rows.pairs(6))}
    (data["heldout"].path / "data" / "heldout.jsonl").write_text(
        (data["heldout"].path / "data" / "train.jsonl").read_text()
    )
    return bench.train("reward", domain.artifact, data, ensemble=2).artifact


@pytest.fixture
def config():
    """config(**settings) -> a PpoConfig of three quick updates."""

    def make(**settings):
        usual = {
            "kind": "ppo", "inputs": {"policy": "domain"}, "data": {"train": "prompts"}, "max_length": 64,
            "batch_size": 4, "peft": PeftConfig(r=4, alpha=8.0), "reward": SHORT,
            "runtime": Runtime(threads=1, device="cpu", logging_steps=1, micro_batch=2),
            "rollout": Rollouts(max_new_tokens=6),
        }  # fmt: skip
        train = {"max_steps": 3, "minibatches": 2, "num_ppo_epochs": 2, "learning_rate": 5e-3}
        made = {**usual, **settings, "train": PpoTrain(**{**train, **settings.get("train", {})})}
        return kind("ppo").config(**made)

    return make


def validated(config):
    kind("ppo").stage().validate(config)


def history(made):
    return [json.loads(line) for line in (made.artifact.path / "history.jsonl").read_text().splitlines()]


def test_other_data_sets_are_rehearsed(bench, domain, prompts, config, rows):
    other = bench.data("documents", rows.text(6))
    asked = config(data={"train": "prompts", "general": "documents"}, train={"rehearsal_coef": 0.5})
    validated(asked)
    made = bench.run(bench.context("ppo", asked, {"policy": domain.artifact}, {"train": prompts, "general": other}))
    losses = [entry["rehearsal_loss"] for entry in history(made)]
    assert len(losses) == 3 and losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": {"rehearsal_coef": 1.0}}, "name what to rehearse"),
        ({"data": {"train": "prompts", "general": "x"}}, "rehearsed only with train.rehearsal_coef"),
        ({"train": {"baseline": "prompt"}}, "rollout.samples to 2 or more"),
        ({"train": {"baseline": "mean"}}, "use one of value, prompt"),
        ({"train": {"rehearsal_rows": 0}}, "must be above 0"),
    ],
)
def test_what_stands_beside_the_reward_is_checked(config, settings, message):
    with pytest.raises(ConfigError, match=message):
        validated(config(**settings))


def test_a_reward_model_scores_the_answers_and_the_policy_moves(bench, domain, reward, prompts, config):
    asked = config(
        inputs={"policy": "domain", "reward": "reward"}, reward=HELPFUL, gold={"terms": {"right": {"kind": "checker"}}},
        value=ValueFunction(init="reward"),
    )  # fmt: skip
    validated(asked)
    made = bench.run(bench.context("ppo", asked, {"policy": domain.artifact, "reward": reward}, {"train": prompts}))
    logged = history(made)
    assert [entry["update"] for entry in logged] == [0, 1, 2]
    assert {"reward", "reward/helpful", "gold", "gold/right", "kl", "eos_share", "clip_share"} <= logged[0].keys()
    assert logged[0]["kl"] == 0 and logged[2]["kl"] != 0
    assert {p["name"] for p in made.sections["probes"]} >= {"kl_starts_at_0", "ratio_starts_at_1", "starts_at_input"}
    chain = Chain.read(made.artifact)
    assert [ref.stage for ref in chain.adapters] == ["sft", "domain", "ppo"]
    loaded = load_policy(made.artifact, dict(bench.made), device="cpu")
    assert loaded.chain == chain


def test_the_scores_are_those_of_the_published_reward_model(bench, domain, reward, prompts, config, monkeypatch):
    """Loaded by itself it says the same of the same answers: the mean of its members, normalised."""
    from stages.rewards.model import read_members, score
    from stages.rl.ppo import Ppo

    seen = []
    real = Ppo._judge

    def judge(self, rewarded, answers, learn):
        parts = real(self, rewarded, answers, learn)
        seen.append((answers, parts.total))
        return parts

    monkeypatch.setattr(Ppo, "_judge", judge)
    asked = config(inputs={"policy": "domain", "reward": "reward"}, reward=HELPFUL, train={"max_steps": 2})
    bench.run(bench.context("ppo", asked, {"policy": domain.artifact, "reward": reward}, {"train": prompts}))
    judge_alone = load_policy(reward, dict(bench.made), device="cpu")
    members = read_members(reward)
    for answers, total in seen:  # the second after the policy has changed
        raw = score(judge_alone, members, [p + a for p, a in zip(answers.prompts, answers.ids, strict=True)])
        expected = sum(member.reward(one) for member, one in zip(members, raw, strict=True)) / len(members)
        assert total.tolist() == pytest.approx(expected.tolist(), abs=2e-3)


def test_a_value_function_may_begin_as_the_reward_model_on_an_adapter_of_its_own(
    bench, domain, reward, prompts, config
):
    asked = config(
        inputs={"policy": "domain", "reward": "reward"}, reward=HELPFUL, train={"max_steps": 1},
        value=ValueFunction(init="reward", adapter=True),
    )  # fmt: skip
    made = bench.run(bench.context("ppo", asked, {"policy": domain.artifact, "reward": reward}, {"train": prompts}))
    assert history(made)[0]["first_ratio_error"] == 0


def test_reward_models_by_any_name_do_not_touch_each_other(bench, domain, reward, prompts, config):
    """Of an ensemble `reward` the first member is no other input that is called `reward_0`; `gold` may have models."""
    terms = {"a": {"kind": "model", "input": "reward"}, "b": {"kind": "model", "input": "reward_0"}}
    asked = config(
        inputs={"policy": "domain", "reward": "reward", "reward_0": "reward"}, reward=SHORT, gold={"terms": terms}
    )
    validated(asked)
    inputs = {"policy": domain.artifact, "reward": reward, "reward_0": reward}
    for entry in history(bench.run(bench.context("ppo", asked, inputs, {"train": prompts}))):
        assert entry["gold/a"] == entry["gold/b"] != entry["gold"] == pytest.approx(2 * entry["gold/a"], abs=1e-5)


@pytest.mark.parametrize("settings", [
    {"rollout": Rollouts(max_new_tokens=6, samples=8)}, {"rollout": Rollouts(max_new_tokens=6, top_p=0.5)}, {},
], ids=["samples", "top_p", "plain"])  # fmt: skip
def test_one_prompt_is_enough(bench, base, rows, config, settings):
    one = bench.data("one", [{"id": "p", "prompt": rows.pairs(1)[0]["prompt"]}])
    made = bench.run(bench.context("ppo", config(**settings), {"policy": base}, {"train": one}))
    assert made.metrics["steps"] == 3 and history(made)[0]["kl"] == 0
    assert len({entry["reward"] for entry in history(made)}) > 1  # other answers each time


def test_what_the_check_drops_is_not_asked(bench, base, prompts, config):
    """With `leaks: drop` a stage reads its check, which is no reward model."""
    folder, ids = bench.folder("check"), [f"p{i}" for i in range(12)]
    (folder / "dropped.json").write_text(json.dumps({"prompts": ids[:10]}))
    check = bench.publish("check_ppo", "contract", folder, {}, {})
    asked = config(train={"max_steps": -1})
    made = bench.run(bench.context("ppo", asked, {"policy": base, "checked": check}, {"train": prompts}))
    assert made.sections["data"]["rows_kept"] == 2 and made.metrics["steps"] == 1
    assert made.sections["dropped"] == {"prompts": 10}


@pytest.mark.parametrize("step", ["fast", "plain"])
def test_a_further_round_continues_the_one_before_it(bench, domain, reward, prompts, config, step):
    """Its reward model is on an earlier model, so the policy has adapters that are no part of the shared base."""
    asked = config(inputs={"policy": "domain", "reward": "reward"}, reward=HELPFUL, step=step)
    policy = domain.artifact
    for number in (1, 2):
        made = bench.run(bench.context("ppo", asked, {"policy": policy, "reward": reward}, {"train": prompts}))
        policy = made.artifact
        taken = made.sections["training"]["step"]
        assert history(made)[0]["kl"] == 0 and taken.startswith(step) and " not: " not in taken, number
    assert [ref.stage for ref in Chain.read(policy).adapters] == ["sft", "domain", "ppo", "ppo"]


def test_a_constant_rate_warms_up(bench, base, prompts, config):
    asked = config(train={"lr_scheduler_type": "constant", "warmup_steps": 2})
    made = bench.run(bench.context("ppo", asked, {"policy": base}, {"train": prompts}))
    assert [entry["learning_rate"] for entry in history(made)] == [0, 2.5e-3, 5e-3]


def test_without_the_fused_step_the_numbers_are_the_same(bench, domain, prompts, config):
    found = [
        history(bench.run(bench.context("ppo", config(step=step), {"policy": domain.artifact}, {"train": prompts})))
        for step in ("fast", "plain")
    ]
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


# -- a run that was killed ----------------------------------------------------------------------------------------
CHILD = """
import pickle, sys
from pipeline.registry import kind
ctx = pickle.load(open(sys.argv[1], "rb"))
kind("ppo").stage().run(ctx)
"""


def files(folder):
    return {name: (folder / name).read_bytes() for name in (
        "model/adapter/adapter_model.safetensors", "model/model.json", "history.jsonl", "samples.jsonl",
    )}  # fmt: skip


@pytest.mark.slow
def test_killed_runs_go_on_as_if_nothing_had_happened(bench, domain, prompts, config, tmp_path):
    """Over 10 s: four processes load the libraries, three of which are killed."""
    asked = config(
        train={"max_steps": 8, "kl_target": 0.1, "lr_scheduler_type": "cosine"},
        reward={"terms": {"short": {"kind": "length", "target": 4}, "some": {"kind": "length", "target": 3,
                "at_least": 0.9}}},
    )  # fmt: skip
    asked.runtime = replace(asked.runtime, save_steps=1)
    whole = bench.run(bench.context("ppo", asked, {"policy": domain.artifact}, {"train": prompts}))
    ctx = bench.context("ppo", asked, {"policy": domain.artifact}, {"train": prompts})
    ctx.id = whole.ctx.id  # the same artifact: its name is in its chain
    (tmp_path / "ctx").write_bytes(pickle.dumps(ctx))
    command = [sys.executable, "-c", CHILD, str(tmp_path / "ctx")]
    for updates in (1, 4, 6):
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while sampled(ctx.ckpt) < updates and running(child):
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert files(ctx.out) == files(whole.artifact.path)


def running(child):
    try:
        return child.wait(timeout=0.002) is None
    except subprocess.TimeoutExpired:
        return True


def sampled(ckpt):
    """How many updates the run has written samples of."""
    samples = ckpt / "samples.jsonl"
    lines = samples.read_text().splitlines(keepends=True) if samples.is_file() else []
    return len({json.loads(line)["update"] for line in lines if line.endswith("\n")})


@pytest.mark.parametrize("where", ["_sample", "_experience", "_step", "_tensors", "rename"])
def test_a_run_that_dies_anywhere_goes_on_as_if_it_had_not(bench, domain, prompts, config, monkeypatch, where):
    from pathlib import Path

    from stages.rl import resume
    from stages.rl.ppo import Ppo

    asked = config(train={"max_steps": 4})
    asked.runtime = replace(asked.runtime, save_steps=1)
    whole = bench.run(bench.context("ppo", asked, {"policy": domain.artifact}, {"train": prompts}))
    ctx = bench.context("ppo", asked, {"policy": domain.artifact}, {"train": prompts})
    ctx.id = whole.ctx.id
    owner = {"_tensors": resume, "rename": Path}.get(where, Ppo)
    real, calls = getattr(owner, where), []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3 and (where != "rename" or "checkpoint" in str(args[1])):
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(owner, where, dies)
        with pytest.raises(KeyboardInterrupt):
            kind("ppo").stage().run(ctx)
    resumed = bench.context("ppo", asked, {"policy": domain.artifact}, {"train": prompts}, ckpt=ctx.ckpt)
    resumed.id = whole.ctx.id
    kind("ppo").stage().run(resumed)
    assert files(resumed.out) == files(whole.artifact.path)
    assert resumed.sections["probes"] == whole.sections["probes"]


# -- what cannot work ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"reward": {}}, "reward.terms: name at least one term"),
        ({"reward": HELPFUL}, "reward.terms.helpful.input=reward: the stage has no such input"),
        ({"inputs": {"policy": "a", "reward": "r"}}, "inputs.reward: no term of `reward` or `gold` reads"),
        (
            {"gold": {"terms": {"long": {"kind": "length", "target": 9, "at_least": 0.5}}}},
            "gold.terms.long.at_least: a bound is kept by what is trained",
        ),
        ({"value": ValueFunction(init="judge")}, "value.init=judge: use one of fresh"),
        ({"peft": PeftConfig(dropout=0.1)}, "peft.dropout: PPO compares"),
        ({"rollout": Rollouts(temperature=0.0)}, "rollout.temperature=0: PPO learns from answers that differ"),
        ({"rollout": Rollouts(max_new_tokens=64)}, "leaves no room for a prompt"),
        ({"rollout": Rollouts(samples=3)}, "rollout.samples=3 does not divide the 8 answers"),
        ({"step": "trl"}, "step=trl: use one of fast, plain"),
        ({"train": {"kl_estimator": "k2"}}, "train.kl_estimator=k2: use one of k1, k3"),
        ({"train": {"clip_range": 0.0}}, "train.clip_range=0.0: must be above 0"),
        ({"train": {"lam": 1.5}}, "train.lam=1.5: must be in 0..1"),
        ({"train": {"kl_coef": 0.0, "kl_target": 1.0}}, "train.kl_coef=0 cannot adapt"),
        ({"train": {"kl_target": 1.0, "kl_horizon": 7.0}}, "train.kl_horizon=7.0 is below the 8 answers of an update"),
        ({"inputs": {"policy": "a", "value": "r"}, "value": ValueFunction(init="value")}, "inputs.value: this name is"),
        ({"data": {}}, "data.train: name the data set of prompts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused_before_anything_runs(config, settings, message):
    with pytest.raises(ConfigError, match=message.replace("`", ".").replace("(", ".")):
        validated(config(**settings))


@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo"])
def test_prompts_that_a_rule_cannot_score_are_refused_before_anything_is_trained(bench, rows, name):
    asked = kind(name).config(kind=name, reward={"terms": {"right": {"kind": "checker"}}})
    unchecked = bench.data("prompts", [{"id": r["id"], "prompt": r["prompt"]} for r in rows.pairs(2)])
    with pytest.raises(DataError, match=r"reward term right: row p0: no .check."):
        kind(name).stage().preview(asked, None, {"train": unchecked})


def test_prompts_without_room_are_counted_and_none_at_all_refused(bench, base, prompts, rows, config):
    long = {"id": "long", "prompt": [{"role": "user", "content": "copy the work " * 60}]}
    mixed = bench.data("prompts", [*({"id": r["id"], "prompt": r["prompt"]} for r in rows.pairs(3)), long])
    made = bench.run(bench.context("ppo", config(train={"max_steps": 1}), {"policy": base}, {"train": mixed}))
    assert (made.sections["data"]["rows_kept"], made.sections["data"]["rows_rejected"]) == (3, 1)
    with pytest.raises(DataError, match=r"data.train: empty has no rows to train on. A set of the format generate is"):
        bench.run(bench.context("ppo", config(), {"policy": base}, {"train": bench.data("empty", [])}))
    with pytest.raises(DataError, match=r"none of 1 prompts has at most 58 tokens; raise max_length"):
        bench.run(bench.context("ppo", config(), {"policy": base}, {"train": bench.data("prompts", [long])}))
