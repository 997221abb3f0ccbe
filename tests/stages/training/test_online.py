"""Trainers that write their answers (grpo, rloo): rewards, reference, one base, resume, and what they are told."""

import gc
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ConfigError, DataError
from pipeline.registry import kind
from pipeline.schema import PeftConfig, Runtime
from stages.kernels.rollout import Answer
from stages.models.chain import base_chain, load_policy
from stages.rl.guards import Guards
from stages.training import online

KINDS = ("grpo", "rloo")
LETTER = {"terms": {"letter": {"kind": "format", "check": {"type": "regex", "pattern": "e"}}}}
TINY = {"num_generations": 4, "max_completion_length": 5, "beta": 0.05}


def settings(**changes):
    train = {**TINY, **changes.pop("train", {})}
    return {"reward": LETTER, "batch_size": 8, "train": train, **changes}


@pytest.fixture(scope="module")
def prompts(bench, rows):
    return bench.data("prompts", [{"id": row["id"], "prompt": row["prompt"]} for row in rows.pairs(8)])


@pytest.fixture(scope="module")
def loud(bench, base):
    """The toy with larger weights: a fresh one writes every token with the same probability, whatever is trained."""
    folder = bench.folder("loud")
    shutil.copytree(base.path / "model", folder / "model")
    file = folder / "model" / "model.safetensors"
    save_file({k: v * 5 if v.dim() > 1 else v for k, v in load_file(file).items()}, file, {"format": "pt"})
    base_chain(folder.name, "toy", folder / "model").write(folder / "model")
    return bench.publish("loud", "base", folder, {}, {})


def logged(made):
    return [json.loads(line) for line in (made.artifact.path / "history.jsonl").read_text().splitlines()]


def adapter(made):
    return load_file(made.artifact.path / "model" / "adapter" / "adapter_model.safetensors")


# -- learning -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", KINDS)
def test_what_is_rewarded_is_written_more_often(bench, loud, prompts, name):
    train = {"num_train_epochs": 12, "learning_rate": 0.03, "num_generations": 8, "beta": 0.0}
    made = bench.train(name, loud, {"train": prompts}, **settings(train=train, batch_size=32))
    rewards = [entry["reward"] for entry in logged(made)]
    assert sum(rewards[-8:]) / 8 > sum(rewards[:4]) / 4 + 0.12  # of 256 and of 128 answers: twice the standard error
    assert made.metrics["reward"] > made.metrics["first_reward"]
    assert made.sections["training"]["step"].startswith("fast")


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("name", KINDS)
def test_one_step_is_trls_own(bench, loud, prompts, name, temperature):
    train = {"optim": "sgd", "max_steps": 1, "temperature": temperature, "learning_rate": 0.5}
    size = {"terms": {"size": {"kind": "length", "target": 40, "unit": "characters"}}}
    config = settings(train=train, reward=size)
    fast, trl = (bench.train(name, loud, {"train": prompts}, step=step, **config) for step in ("fast", "trl"))
    assert [made.sections["training"]["step"].split()[0] for made in (fast, trl)] == ["fast", "trl"]
    samples = [(made.artifact.path / "samples.jsonl").read_text() for made in (fast, trl)]
    assert samples[0] == samples[1]
    ours, theirs = ({key: value for key, value in adapter(made).items() if "lora_B" in key} for made in (fast, trl))
    assert max(float(value.abs().max()) for value in theirs.values()) > 1e-5, "nothing was trained"
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=2e-3, atol=1e-7)


def test_a_temperature_counts(bench, loud, prompts):
    """Or the test above would say nothing of it."""
    losses = [logged(bench.train("rloo", loud, {"train": prompts}, **settings(train={"temperature": t})))[0]["entropy"]
              for t in (1.0, 0.6)]  # fmt: skip
    assert losses[1] < losses[0] - 0.1


@pytest.mark.parametrize("name", KINDS)
def test_the_reference_is_the_input_policy(bench, domain, prompts, name):
    """Two adapters below: TRL's own reference of a PeftModel is a copy of the newest adapter."""
    made = bench.train(name, domain.artifact, {"train": prompts}, **settings(train={"max_steps": 1}))
    assert logged(made)[0]["kl"] == pytest.approx(0, abs=1e-5)
    probes = {probe["name"]: probe["passed"] for probe in made.sections["probes"]}
    assert probes == {"template_equals_upstream": True, "starts_at_input": True, "reference_is_input": True}


# -- one base -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def judge(bench, sft, rows):
    """A reward model on `sft`: below `domain`, so the two chains part after their first adapter."""
    normalise = kind("reward").config().normalise
    normalise.count, normalise.max_new_tokens = 4, 4
    data = {"train": bench.data("pairs", rows.pairs(8)), "heldout": bench.data("held", rows.pairs(8))}
    shutil.copy(data["heldout"].path / "data" / "train.jsonl", data["heldout"].path / "data" / "heldout.jsonl")
    made = bench.config("reward", normalise=normalise, train={"max_steps": 2}, data={"train": "a", "heldout": "b"})
    return bench.run(bench.context("reward", made, {"policy": sft.artifact}, data)).artifact


@pytest.mark.parametrize("name", KINDS)
def test_a_reward_model_on_another_chain_shares_the_base(bench, base, sft, domain, judge, prompts, name, monkeypatch):
    reward = {"terms": {"liked": {"kind": "model", "input": "judge"}, **LETTER["terms"]}, "weights": {"letter": 0.5}}
    config = bench.config(name, inputs={"policy": "p", "judge": "j"}, **settings(reward=reward, train={"max_steps": 2}))
    counted = []
    monkeypatch.setattr(online, "_outcome", counting(counted, online._outcome))
    made = bench.run(bench.context(name, config, {"policy": domain.artifact, "judge": judge}, {"train": prompts}))
    entry = logged(made)[0]
    assert entry["kl"] == pytest.approx(0, abs=1e-5)
    assert entry["reward"] == pytest.approx(entry["reward/liked"] + 0.5 * entry["reward/letter"], abs=1e-5)
    assert counted == [1], "the base was copied"
    lineage = {item.id: item for item in (base, sft.artifact, domain.artifact, judge)}
    assert len(load_policy(made.artifact, lineage, device="cpu").chain.adapters) == 3
    assert {path.name for path in (made.artifact.path / "model" / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip


def counting(counted, real):
    """Counts, at the end of a stage, how often the toy's embedding is in memory."""

    def outcome(ctx, logged):
        gc.collect()
        alive = {
            t.untyped_storage().data_ptr()
            for t in gc.get_objects()
            if type(t) is torch.nn.Parameter and t.dim() == 2 and t.shape[0] > 300 and not t.requires_grad
        }
        before = counting.others
        counted.append(len(alive - before))
        return real(ctx, logged)

    counting.others = {
        t.untyped_storage().data_ptr()
        for t in gc.get_objects()
        if type(t) is torch.nn.Parameter and t.dim() == 2 and t.shape[0] > 300
    }
    return outcome


def test_reward_models_read_eos_where_an_answer_ended(bench, base, prompts, monkeypatch):
    """Whichever token ended it: they were trained on answers with EOS."""
    from stages.models.chain import Policy
    from stages.rewards.combined import Reward

    seen, other = [], 7
    monkeypatch.setattr("stages.kernels.rollout.end_tokens", lambda policy: {policy.tokenizer.eos_token_id, other})
    real = Reward.__call__

    def judge(self, rows, prompt_ids, answer_ids, texts, ended, learn=True):
        seen.extend(zip(answer_ids, ended, strict=True))
        return real(self, rows, prompt_ids, answer_ids, texts, ended, learn)

    def rollout(policy: Policy, ids, sampling, micro_batch=0):
        return [Answer([9, 10], [], end=other if i % 2 else None) for i in range(len(ids))]

    monkeypatch.setattr(Reward, "__call__", judge)
    monkeypatch.setattr("stages.kernels.rollout.rollout", rollout)
    bench.train("rloo", base, {"train": prompts}, **settings(train={"max_steps": 1}))
    eos = load_policy(base, {}, device="cpu").tokenizer.eos_token_id
    assert (
        seen and all((ids[-1] == eos) == ended for ids, ended in seen) and {ended for _, ended in seen} == {True, False}
    )


@pytest.mark.parametrize(("installed", "fits"), [("0.31.0", True), ("0.33.0", False), ("1.0.0rc1", False)])
def test_a_library_that_cannot_be_loaded_is_told_before_anything_runs(monkeypatch, installed, fits):
    monkeypatch.setattr(online, "version", lambda name: installed)
    config = kind("grpo").config(kind="grpo")
    if fits:
        online._check_library(config)
        return
    with pytest.raises(ConfigError, match=f"kind grpo: TRL cannot load its trainer beside vLLM {installed}"):
        online._check_library(config)


# -- resume -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "iterations", "at"), [("rloo", 1, 3), ("grpo", 1, 3), ("rloo", 2, 4), ("grpo", 2, 4)])
def test_a_resumed_run_is_the_same_to_the_bit(bench, loud, prompts, name, iterations, at):
    """Its multiplier, which follows what was rewarded before, and answers that serve two steps are part of it."""
    reward = {"terms": {**LETTER["terms"], "long": {"kind": "length", "target": 9, "at_least": 0.5}}}
    train = {"max_steps": 8, "learning_rate": 0.02, "num_iterations": iterations}
    runtime = Runtime(threads=1, device="cpu", logging_steps=1, save_steps=1)
    config = bench.config(name, runtime=runtime, **settings(train=train, reward=reward))
    inputs, data = {"policy": loud}, {"train": prompts}
    whole = bench.run(bench.context(name, config, inputs, data))
    half = bench.folder("half")
    first = bench.config(name, runtime=runtime, **settings(train=train, reward=reward))
    stopped = bench.context(name, first, inputs, data, ckpt=half)
    with pytest.raises(KeyboardInterrupt):
        stop_after(at, lambda: kind(name).stage().run(stopped))
    assert (half / f"checkpoint-{at}").is_dir() and not (half / f"checkpoint-{at + 1}").is_dir()
    resumed = bench.run(bench.context(name, config, inputs, data, ckpt=half))
    assert resumed.sections["training"]["start_step"] == at
    for key, value in adapter(whole).items():
        assert torch.equal(adapter(resumed)[key], value), key
    samples = [(made.artifact.path / "samples.jsonl").read_bytes() for made in (resumed, whole)]
    assert samples[0] == samples[1]
    found, wanted = (
        [(e["step"], e["reward"], e["multiplier/long"]) for e in logged(made) if "reward" in e]
        for made in (resumed, whole)
    )
    assert found == wanted and len({multiplier for *_, multiplier in wanted}) > 1


def stop_after(step, call):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step + 1:
                raise KeyboardInterrupt

    from stages.training import run

    real = run._progress
    try:
        run._progress = lambda ctx, tracker, tokens: Stop()
        call()
    finally:
        run._progress = real


# -- what is counted and told -------------------------------------------------------------------------------------
def test_prompts_that_are_too_long_or_fill_no_step_are_counted(bench, base, rows, prompts):
    long = {"id": "long", "prompt": [{"role": "user", "content": "copy the work " * 60}]}
    data = bench.data("prompts", [long, *[{"id": r["id"], "prompt": r["prompt"]} for r in rows.pairs(7)]])
    counts = bench.train("rloo", base, {"train": data}, **settings(train={"max_steps": 1})).sections["data"]
    assert counts["rejected_because"] == {
        "longer than max_length less train.max_completion_length": 1, "do not fill a step of 2 prompts": 1,
    }  # fmt: skip
    assert (counts["rows_kept"], counts["rows_rejected"], counts["rows_available"]) == (6, 2, 8)
    with pytest.raises(DataError, match=r"0 of 1 prompts have at most 59 tokens, and a step takes 2"):
        bench.train("rloo", base, {"train": bench.data("one", [long])}, **settings())


def test_a_row_that_a_term_cannot_score_is_refused(bench, base, prompts):
    with pytest.raises(DataError, match=r"reward term right: row p\d: .*no `check`"):
        bench.train("rloo", base, {"train": prompts}, **settings(reward={"terms": {"right": {"kind": "checker"}}}))


def test_pairs_give_their_prompts(bench, base, pair_data):
    made = bench.train("grpo", base, {"train": pair_data}, **settings(train={"max_steps": 1}))
    assert made.sections["data"]["rows_kept"] == 12


def test_each_term_is_logged_and_samples_are_kept(bench, loud, prompts):
    reward = {"terms": {**LETTER["terms"], "size": {"kind": "length", "free": 1}}, "weights": {"size": 0.1}}
    made = bench.train("rloo", loud, {"train": prompts}, **settings(reward=reward))
    for entry in logged(made):
        assert entry["reward"] == pytest.approx(entry["reward/letter"] + 0.1 * entry["reward/size"], abs=1e-5)
    samples = [json.loads(line) for line in (made.artifact.path / "samples.jsonl").read_text().splitlines()]
    assert [sample["update"] for sample in samples] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(sample["prompt"] and isinstance(sample["answer"], str) for sample in samples)


def test_alarms_name_settings_of_these_trainers(bench, loud, prompts):
    """A toy writes on and on, and a reward of every answer alike has no spread."""
    reward = {"terms": {"any": {"kind": "format", "check": {"type": "regex", "pattern": "$"}}}}
    made = bench.train("rloo", loud, {"train": prompts}, **settings(reward=reward, guards=Guards(window=2)))
    alarms = {alarm["name"]: alarm["detail"] for alarm in made.sections["alarms"]}
    assert {"eos_collapse", "reward_spread"} <= alarms.keys()
    assert "train.max_completion_length" in alarms["eos_collapse"]


def test_no_advice_of_ppo_is_left():
    """Every setting that an alarm of the guards can name is one of grpo and rloo, too."""
    import inspect
    import re

    from trl import GRPOConfig, RLOOConfig

    from stages.rl import guards

    text = online.advised(re.sub(r'"\s*f?"', "", inspect.getsource(guards)))
    known = GRPOConfig.__dataclass_fields__.keys() & RLOOConfig.__dataclass_fields__.keys()
    assert set(re.findall(r"train\.(\w+)", text)) <= known


def test_history_in_the_words_of_the_guards():
    entry = {
        "loss": 0.0, "reward": 2.0, "reward_std": 0.5, "entropy": 1.5, "kl": 0.1, "completions/mean_length": 20.0,
        "completions/clipped_ratio": 0.25, "repetition": 0.1,
    }  # fmt: skip
    (found,) = online.history([entry, {"train_loss": 1.0}])
    assert found == {
        "reward": 2.0, "reward_spread": 0.5, "entropy": 1.5, "kl": 2.0, "repetition": 0.1, "response_length": 20.0,
        "eos_share": 0.75,
    }  # fmt: skip


# -- what cannot work ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {}}, r"data\.train: name the data set of prompts"),
        ({"reward": {}}, r"reward\.terms: name at least one term"),
        ({"reward": {"terms": {"liked": {"kind": "model"}}}}, r"liked\.input=reward: the stage has no such input"),
        ({"inputs": {"policy": "p", "judge": "j"}}, r"inputs\.judge: no term of `reward` reads this reward model"),
        ({"train": {"num_generations": 3}}, r"train\.num_generations=3: .* a divisor of batch_size=8"),
        ({"train": {"num_generations": 1}}, r"train\.num_generations=1: .*2 or more"),
        ({"train": {"max_completion_length": 64}}, r"max_completion_length=64 must be 1 or more and leave room"),
        ({"train": {"temperature": "hot"}}, r"train\.temperature='hot': expected float"),
        ({"train": {"top_p": 2.0}}, r"top_p=2\.0 above 0 and up to 1"),
        ({"train": {"top_k": -1}}, r"top_k=-1 must be 0 or more"),
        ({"train": {"num_iterations": 0}}, r"train\.num_iterations=0: a batch is used once or more often"),
        ({"train": {"beta": -0.1}}, r"train\.beta=-0\.1: 0 or more"),
        ({"train": {"epsilon": 0.0}}, r"train\.epsilon=0\.0: give a positive number"),
        ({"train": {"temperature": 0.0}}, r"train\.temperature: answers that are compared must differ"),
        ({"train": {"reward_weights": [1.0]}}, r"train\.reward_weights is not yours to set: set `reward\.weights`"),
        ({"train": {"use_vllm": True}}, r"train\.use_vllm is not yours to set: answers are written by the model"),
        ({"train": {"steps_per_generation": 2}}, r"train\.steps_per_generation is not yours to set"),
        ({"peft": PeftConfig(dropout=0.1)}, r"peft\.dropout"),
        ({"guards": Guards(window=1)}, r"guards\.window=1"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_found_before_anything_runs(bench, name, changes, message):
    config = bench.config(name, **settings(**{"data": {"train": "d"}, **changes}))
    with pytest.raises(ConfigError, match=message):
        kind(name).stage().validate(config)
    kind(name).stage().validate(bench.config(name, **settings(data={"train": "d"})))
