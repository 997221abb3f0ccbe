"""No option is dead: each is read by the code that it belongs to, and changing it changes something one can see.

A new field needs an entry here, and a field that nothing reads fails.
"""

import copy
import dataclasses
import importlib
import inspect
import json
import re
import shutil
import typing
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace

import harness_tasks
import pytest
import yaml

from pipeline.errors import ConfigError
from pipeline.identity import canonical, leaf_diff
from pipeline.registry import load_kinds
from pipeline.schema import (
    Evaluation,
    Experiment,
    Gate,
    Launcher,
    ModelConfig,
    PeftConfig,
    Retrain,
    Runtime,
    Suite,
    Sweeper,
    Tracker,
)  # fmt: skip
from stages.data.contract.config import ContractConfig
from stages.data.shares import Mixture
from stages.data.split import Split
from stages.domain import Rehearsal
from stages.rl.config import PpoTrain, Rollouts, ValueFunction
from stages.rl.guards import Guards

CONF = Path(importlib.import_module("conf").__path__[0])
RUNTIME = {
    "device": "cuda",
    "threads": 3,
    "micro_batch": 2,
    "save_steps": 3,
    "logging_steps": 9,
    "stall_minutes": 2.0,
    "kernels": "triton",
    "dequant_cache_gib": 1.5,
    "num_processes": 2,
    "num_machines": 2,
    "strategy": "fsdp2",
}
STEPS = ("save_steps", "logging_steps", "kernels", "num_processes", "num_machines", "strategy")  # of training alone
PLACES = {"kind": None, "inputs": None, "data": None}  # ids of other artifacts: `test_inputs_and_data...`
TRAINING = {
    **PLACES,
    "seed": 7,
    "max_length": 99,
    "batch_size": 16,
    "step": "trl",
    "train": {"learning_rate": 0.5},
    "contract": {"leaks": "drop"},
    "peft.method": "other",
    "peft.r": 3,
    "peft.alpha": 5.0,
    "peft.dropout": 0.5,
    "peft.target_modules": ["q_proj"],
    **{f"runtime.{name}": value for name, value in RUNTIME.items()},
}
MODEL = {
    "source": "elsewhere",
    "revision": "0" * 40,
    "dtype": "bfloat16",
    "chat_template": "mine.jinja",
    "trust_remote_code": True,
}


def others(config, prefix):
    """Dotted name -> another value, for every leaf of a config of numbers, lists and mappings."""
    found = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found |= others(value, f"{prefix}{field.name}.")
        elif isinstance(value, dict):
            found[prefix + field.name] = dict(list(value.items())[1:]) if value else {"wrong_form": "warning"}
        elif isinstance(value, list):
            found[prefix + field.name] = value[1:]
        elif isinstance(value, str):
            found[prefix + field.name] = "drop"
        elif isinstance(value, bool):
            found[prefix + field.name] = not value
        else:
            found[prefix + field.name] = (value / 2 or 0.5) if isinstance(value, float) else value + 1
    return found


ONLINE = {**TRAINING, "reward": {"terms": {"short": {"kind": "length", "free": 3}}}, **others(Guards(), "guards.")}
ROLLOUT = others(Rollouts(), "rollout.")
PPO = {
    **{name: value for name, value in ONLINE.items() if name != "train"},
    "step": "plain",
    "engine": "vllm",
    "gold": {"terms": {"short": {"kind": "length", "free": 3}}},
    "rounds": 2,
    "labels": {"count": 3},
    **ROLLOUT,
    **others(ValueFunction(), "value."),
    **others(PpoTrain(), "train."),
}
LABEL = {
    **PLACES,
    "seed": 7,
    "by": "file",
    "terms": {"short": {"kind": "length", "free": 3}},
    "weights": {"short": 0.5},
    "file": "labels.jsonl",
    "count": 9,
    "max_length": 99,
    "engine": "vllm",
    **ROLLOUT,
    "rollout.samples": 4,
    **{f"runtime.{name}": value for name, value in RUNTIME.items() if name not in STEPS},
}
# kind -> option -> another value. Options of which a user sees nothing are in UNREACHABLE, refused ones in REFUSED.
CHANGES = {
    "base": {f"model.{name}": value for name, value in MODEL.items()},
    "prepare": {
        "kind": None,
        "seed": 7,
        "format": "text",
        "layout": "alpaca",
        "files": ["other.jsonl"],
        "builder": "other",
        "options": {"rows": 3},
        "limit": 3,
        "holdout": 0.5,
        "fraction": 0.5,
        "split.method": "kfold",
        "split.share": 0.2,
        "split.k": 3,
        "split.fold": 1,
        "split.group_by": "task",
        "tags": ["legal"],
        "near_duplicates": 0.8,
        "on_error": "reject",
        "redact": ["email"],
        "redact_regions": ["SE"],
        "columns": {"prompt": "question"},
        "keep": ["level"],
        "runtime.stall_minutes": 2.0,
    },
    "sft": {
        **TRAINING,
        "max_tokens": 50,
        "packing": False,
        "mixture.weights": {"train": 2.0, "more": 1.0},
        "mixture.temperature": 2.0,
        "mixture.floors": {"safety": 0.1},
        "mixture.caps": {"safety": 0.2},
        "mixture.epochs": {"train": 2.0},
    },
    "domain": {
        **TRAINING,
        "max_tokens": 50,
        "rehearsal.share": 0.3,
        "rehearsal.safety_floor": 0.01,
        "rehearsal.general": 0.1,
        "rehearsal.sources": {"upstream:sft": 1.0},
        "rehearsal.sampled.max_new_tokens": 9,
        "rehearsal.sampled.temperature": 0.5,
    },
    "dpo": {
        **TRAINING,
        "max_pairs": 5,
        "votes.targets": "hard",
        "votes.smoothing": 0.1,
        "votes.weights": "count",
        "votes.margins": [0.1, 0.2, 0.3],
    },
    "kto": {**TRAINING, "max_rows": 5},
    "grpo": ONLINE,
    "rloo": ONLINE,
    "ppo": PPO,
    "label": LABEL,
    "reward": {
        **TRAINING,
        "max_pairs": 5,
        "ensemble": 2,
        "votes.targets": "hard",
        "votes.smoothing": 0.1,
        "votes.weights": "count",
        "votes.margins": [0.1, 0.2, 0.3],
        "normalise.answers": "chosen",
        "normalise.count": 9,
        "normalise.max_new_tokens": 9,
    },
    "contract": {
        **PLACES,
        "seed": 7,
        "stage": "dpo",
        "max_length": 99,
        "training": {"max_tokens": 5},
        "after": ["domain"],
        **others(ContractConfig(), "contract."),
    },
    "adopt": {"kind": None, "inputs": None, "folder": "elsewhere", "runtime.stall_minutes": 2.0},
    "baseline": {
        **PLACES,
        "seed": 7,
        "system": "Answer in one word.",
        "glossary": {"MIT": "a licence"},
        "examples": 3,
        "choose": "similar",
        "tags": ["legal"],
        "max_tokens": 99,
        "suites": ["s"],
    },
    "harness": {"kind": None, "tasks": "mmlu", "metric": "acc_norm", "num_fewshot": 2, "runtime.stall_minutes": 2.0},
    "evaluate": {
        **PLACES,
        "suites": {"s": Suite("choice", "d")},
        "engine": "vllm",
        **{f"runtime.{name}": value for name, value in RUNTIME.items() if name not in STEPS},
    },
}
# The planner makes these configs itself, from `model` and `eval`, and gives no way to set the rest.
UNREACHABLE = {
    "base": {"kind", "inputs", "data", "seed", *(f"runtime.{name}" for name in RUNTIME)},
    "contract": {f"runtime.{name}" for name in RUNTIME},
    "evaluate": {"seed"},
    "harness": {"seed"},
    "adopt": {"seed"},
}
REFUSED = {
    "prepare": {"inputs", "data", *(f"runtime.{name}" for name in RUNTIME if name != "stall_minutes")},
    "baseline": {f"runtime.{name}" for name in RUNTIME},
    "evaluate": {f"runtime.{name}" for name in STEPS},
    "label": {f"runtime.{name}" for name in STEPS},
    "harness": {"inputs", "data", *(f"runtime.{name}" for name in RUNTIME if name != "stall_minutes")},
    "adopt": {"data", *(f"runtime.{name}" for name in RUNTIME if name != "stall_minutes")},
}


def options(schema, prefix=""):
    """Dotted names of all leaves of a config dataclass."""
    types = typing.get_type_hints(schema)
    for field in fields(schema):
        if is_dataclass(types[field.name]):
            yield from options(types[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def changed(config, name, value):
    """A copy of `config` with another value at the dotted `name`."""
    made = copy.deepcopy(config)
    *parents, last = name.split(".")
    owner = made
    for parent in parents:
        owner = getattr(owner, parent)
    assert getattr(owner, last) != value, f"{name} already is {value!r}"
    setattr(owner, last, value)
    return made


def kinds():
    return {name: kind for name, kind in load_kinds().items() if kind.stage.__module__.startswith("stages.")}


# -- every option has an entry --------------------------------------------------------------------------------------
def test_every_option_of_every_kind_has_an_entry():
    assert kinds().keys() == CHANGES.keys()
    for name, kind in kinds().items():
        listed = CHANGES[name].keys() | UNREACHABLE.get(name, set()) | REFUSED.get(name, set())
        assert set(options(kind.config)) == listed, name


def test_every_config_group_is_known_here():
    groups = {path.parent.name for path in CONF.glob("*/*.yaml")}
    assert groups == {
        "align", "budget", "contract", "data", "eval", "experiment", "gates", "model", "peft", "stage", "store",
        "tracker", "launcher", "sweeper",
    }  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_arrives_in_the_identity_unless_it_says_how_or_where(kind):
    config = kinds()[kind].config(kind=kind)
    for name, value in CHANGES[kind].items():
        if name in PLACES:
            continue
        found = leaf_diff(canonical(config), canonical(changed(config, name, value)))
        if name.startswith(("runtime.", "guards.")) or name in ("contract", "folder"):  # what is in it decides
            assert found == [], name
        else:
            assert found and all(change.key.startswith(name) for change in found), name


def test_refused_options_are_refused():
    prepare = kinds()["prepare"]
    for name in REFUSED["prepare"]:
        value = RUNTIME[name.removeprefix("runtime.")] if name.startswith("runtime.") else {"a": "b"}
        config = changed(prepare.config(kind="prepare", files=["x.jsonl"]), name, value)
        with pytest.raises(ConfigError):
            prepare.stage().validate(config)
    evaluate = kinds()["evaluate"]
    config = evaluate.config(kind="evaluate", suites={"s": Suite("perplexity", "d")})
    evaluate.stage().validate(config)
    for name in REFUSED["evaluate"]:
        with pytest.raises(ConfigError, match=name):
            evaluate.stage().validate(changed(config, name, 3))


NO_RUNTIME = ("prepare", "baseline", "harness", "adopt")  # kinds that compare theirs with the default as a whole


# -- every option is read -------------------------------------------------------------------------------------------
def traced(config, seen, prefix=""):
    """The config, noting in `seen` the dotted name of every field that is read from it."""
    names = {field.name for field in fields(config)}

    class Traced(type(config)):
        def __getattribute__(self, name):
            if name in names:
                seen.add(prefix + name)
            return super().__getattribute__(name)

    made = copy.copy(config)
    for name in names:
        value = getattr(config, name)
        if is_dataclass(value) and not (prefix == "" and name == "runtime" and config.kind in NO_RUNTIME):
            setattr(made, name, traced(value, seen, f"{prefix}{name}."))
        elif isinstance(value, dict) and any(map(is_dataclass, value.values())):
            setattr(made, name, {key: traced(item, seen, f"{prefix}{name}.*.") for key, item in value.items()})
    made.__class__ = Traced
    return made


ANSWERS = {
    "batch_size": 2,
    "reward": {"terms": {"short": {"kind": "length", "free": 3}}},
    "guards": Guards(window=2),
    "train": {"num_generations": 2, "max_completion_length": 4, "max_steps": 4, "beta": 0.1},
}
SIZE = {"size": {"kind": "length", "target": 30, "unit": "characters"}}


def learning():
    """A `ppo` of four updates in which every option of `train` has its say."""
    train = PpoTrain(
        learning_rate=0.01, value_learning_rate=0.01, max_steps=4, minibatches=2, num_ppo_epochs=2, warmup_steps=1,
        weight_decay=0.1, max_grad_norm=0.1, entropy_coef=0.01, clip_range=0.01, value_clip_range=0.01, value_coef=1.0,
        gamma=0.9, kl_target=0.1, kl_horizon=100.0, stop_kl=1e-3, missing_eos_penalty=0.5,
    )  # fmt: skip
    return kinds()["ppo"].config(
        kind="ppo", data={"train": "d"}, max_length=64, batch_size=2, peft=PeftConfig(r=4, alpha=8.0), train=train,
        runtime=Runtime(threads=1, device="cpu"), rollout=Rollouts(max_new_tokens=4), reward={"terms": SIZE},
        guards=Guards(window=2),
    )  # fmt: skip


def task_file(folder):
    """The path of a task file of lm-evaluation-harness, whose items are named in full."""
    harness_tasks.write(folder)
    path = folder / "tasks" / "last.yaml"
    path.write_text(path.read_text().replace("last.jsonl", str(folder / "last.jsonl")))
    return str(path)


@pytest.fixture(scope="session")
def readings(bench, base, sft, rows, tmp_path_factory):
    """kind -> names of the options that its stage reads while it is checked and runs on a toy."""
    folder = tmp_path_factory.mktemp("readings")
    shutil.copytree(base.path / "model", folder / "model")
    (folder / "mine.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows.text(4)))
    heldout = bench.data("heldout", [])
    (heldout.path / "data" / "heldout.jsonl").write_text(json.dumps(rows.text(1)[0]) + "\n")
    sets = {name: bench.data(name, made) for name, made in (("text", rows.text(40)), ("pairs", rows.pairs(4)))}
    general = bench.data("general", rows.chat(8, start=700))
    judged = bench.data("judged", rows.pairs(4))
    (judged.path / "data" / "heldout.jsonl").write_text(json.dumps(rows.pairs(5)[4]) + "\n")
    (folder / "chats.jsonl").write_text("".join(json.dumps({"messages": r["messages"]}) + "\n" for r in rows.chat(8)))
    chats = bench.data("chats", rows.chat(8))
    one = {"max_steps": 1}
    names = ("prepare", "evaluate", "base", "contract", "label")
    prepare, evaluate, start, check, labelling = (kinds()[name].config for name in names)
    suites = {"s": Suite("perplexity", "heldout")}
    files = {"sft": ("chat", "chats.jsonl"), "domain": ("text", "mine.jsonl")}
    prepared = {}
    for stage, (form, name) in files.items():
        config = prepare(format=form, files=[str(folder / name)])
        prepared[stage] = {"train": bench.run(bench.context(stage, config, {}, {})).artifact}
    runs = [
        (start(kind="base", model=ModelConfig(source=str(folder / "model"))), {}, {}),
        (prepare(kind="prepare", format="text", files=[str(folder / "mine.jsonl")]), {}, {}),
        (prepare(kind="prepare", format="text", builder="smoke_text"), {}, {}),
        (prepare(kind="prepare", format="text", builder="smoke_text", split=Split(method="kfold", fold=0)), {}, {}),
        (bench.config("sft", data={"train": "d"}, train=one), {"policy": base}, {"train": chats}),
        (bench.config("sft", data={"train": "d"}, train=one, mixture=Mixture(weights={"train": 1.0})),
         {"policy": base}, {"train": chats}),
        (bench.config("domain", data={"train": "d", "general": "g"}, train=one),
         {"policy": sft.artifact}, {"train": sets["text"], "general": general}),
        (bench.config("domain", data={"train": "d"}, train=one, rehearsal=Rehearsal(sources={"sampled:start": 1.0})),
         {"policy": sft.artifact}, {"train": sets["text"]}),
        (bench.config("dpo", data={"train": "d"}, train=one), {"policy": base}, {"train": sets["pairs"]}),
        (bench.config("kto", data={"train": "d"}, train=one), {"policy": base}, {"train": sets["pairs"]}),
        *((bench.config(name, data={"train": "d"}, **ANSWERS), {"policy": base}, {"train": sets["pairs"]})
          for name in ("grpo", "rloo")),
        (learning(), {"policy": base}, {"train": sets["pairs"]}),
        (labelling(kind="label", data={"train": "d"}, terms=SIZE, runtime=Runtime(threads=1, device="cpu"),
                   rollout=Rollouts(max_new_tokens=4, samples=2)), {"policy": base}, {"train": sets["pairs"]}),
        (bench.config("reward", data={"train": "d"}, train=one), {"policy": base}, {"train": judged}),
        (kinds()["baseline"].config(kind="baseline", data={"examples": "d"}, examples=2, tags=["general"]),
         {"model": base}, {"examples": chats}),
        (check(kind="contract", stage="sft", training={"max_tokens": 100}), {"start": base}, prepared["sft"]),
        (check(kind="contract", stage="domain", training={"max_tokens": 9}), {"start": base}, prepared["domain"]),
        (evaluate(kind="evaluate", suites=suites), {"model": base}, {"heldout": heldout}),
        (kinds()["harness"].config(kind="harness", tasks=task_file(folder)), {}, {}),
        (kinds()["adopt"].config(kind="adopt", folder=str(sft.artifact.path / "model" / "adapter")),
         {"policy": base}, {}),
    ]  # fmt: skip
    found = {}
    for config, inputs, data in runs:
        seen = found.setdefault(config.kind, set())
        watched = traced(config, seen)
        stage = kinds()[config.kind].stage()
        stage.expand("made", watched, {})
        stage.fingerprints(watched)
        stage.contract(watched)
        stage.suites(watched, suites)
        stage.validate(watched)
        stage.run(bench.context(config.kind, watched, inputs, data))
    return found


@pytest.mark.parametrize("kind", CHANGES)
def test_every_option_is_read_by_its_stage(readings, kind):
    by_the_engine = {"kind", "inputs", "data", "runtime.stall_minutes", "runtime.strategy"}
    unread = CHANGES[kind].keys() - readings[kind] - by_the_engine
    assert not {name for name in unread if not name.startswith(tuple(f"contract.{part}." for part in THRESHOLDS))}


THRESHOLDS = {"instructions": "misuse", "generic": "misuse", "coverage": "coverage", "leak": "leaks.py"}


@pytest.mark.parametrize("part", THRESHOLDS)
def test_every_threshold_is_read_where_it_belongs(part):
    """Small sets are not judged, so that a run on a toy reads few of them."""
    place = Path(importlib.import_module("stages.data").__path__[0]) / THRESHOLDS[part]
    files = [place] if place.is_file() else [file for file in place.glob("*.py") if file.name != "config.py"]
    text = "".join(file.read_text() for file in files)
    for field in fields(getattr(ContractConfig(), part)):
        assert re.search(rf"config\.{field.name}\b", text), field.name


def test_every_field_of_a_suite_is_read(readings):
    # The version decides the id alone, `about` which gates there are; tests/stages/evaluation has suites with others.
    read_elsewhere = {"version", "about", "judge", "against"}
    known = {field.name for field in fields(Suite)} - read_elsewhere
    assert {f"suites.*.{name}" for name in known} <= readings["evaluate"]


def test_the_tracing_itself_sees_a_dead_option():
    @dataclasses.dataclass
    class Config:
        kind: str = "x"
        alive: int = 1
        dead: int = 2
        peft: PeftConfig = dataclasses.field(default_factory=PeftConfig)

    seen = set()
    config = traced(Config(), seen)
    assert config.alive + config.peft.r and {"alive", "peft.r"} <= seen and not {"dead", "peft.alpha"} & seen


# -- what a training stage is told arrives in the library's arguments -----------------------------------------------
ARRIVES = {
    "seed": ("seed", "data_seed"),
    "max_length": ("max_length",),
    "batch_size": ("per_device_train_batch_size",),
    "runtime.micro_batch": ("per_device_train_batch_size", "gradient_accumulation_steps"),
    "runtime.save_steps": ("save_steps",),
    "runtime.logging_steps": ("logging_steps",),
}
TRAIN = {
    "learning_rate": 0.25,
    "num_train_epochs": 3,
    "max_steps": 7,
    "lr_scheduler_type": "linear",
    "warmup_steps": 3,
    "weight_decay": 0.5,
    "max_grad_norm": 0.5,
    "beta": 0.7,
    "loss_type": ["ipo"],
    "label_smoothing": 0.25,
    "precompute_ref_log_probs": False,
    "center_rewards_coefficient": 0.01,
}
LIBRARY = {"sft": "SFTConfig", "domain": "SFTConfig", "dpo": "DPOConfig", "reward": "RewardConfig"}  # of TRL


def built(config, tmp_path):
    import trl

    from stages.training import arguments, memory

    shape = memory.Shape(layers=2, hidden=8, intermediate=8, heads=1, vocabulary=50, trained=100, weights=100, size=4)
    fit = memory.plan(
        shape, tokens=8, batch=config.batch_size, memory=2**30, device="cpu", asked_rows=config.runtime.micro_batch
    )
    return arguments.build(getattr(trl, LIBRARY[config.kind]), config, rows=100, ckpt=tmp_path, device="cpu", fit=fit)


def stage_file(kind):
    raw = yaml.safe_load((CONF / "stage" / f"{kind}.yaml").read_text())
    return kinds()[kind].config(kind=kind, batch_size=raw["batch_size"], train=raw["train"])


@pytest.mark.parametrize("kind", LIBRARY)
def test_training_options_arrive_in_the_trainers_arguments(kind, tmp_path):
    config = stage_file(kind)
    for name, attributes in ARRIVES.items():
        before, after = built(config, tmp_path), built(changed(config, name, CHANGES[kind][name]), tmp_path)
        for attribute in attributes:
            assert getattr(before, attribute) != getattr(after, attribute), name


@pytest.mark.parametrize("kind", LIBRARY)
def test_every_train_key_of_conf_arrives_in_the_trainers_arguments(kind, tmp_path):
    config = stage_file(kind)
    for name in config.train:
        after = built(changed(config, "train", {**config.train, name: TRAIN[name]}), tmp_path)
        assert getattr(after, name) == TRAIN[name] != getattr(built(config, tmp_path), name), name


# -- what PPO is told changes what it learns ------------------------------------------------------------------------
@pytest.fixture(scope="module")
def learned(bench, base, rows):
    """learned(config) -> history and adapter, of a policy whose answers differ in how likely they are."""
    prompts = bench.data("prompts", rows.pairs(6))

    def run(config):
        kinds()["ppo"].stage().validate(config)
        made = bench.run(bench.context("ppo", config, {"policy": base}, {"train": prompts}))
        names = ("history.jsonl", "model/adapter/adapter_model.safetensors")
        return [(made.artifact.path / name).read_bytes() for name in names]

    return run


@pytest.fixture(scope="module")
def unchanged(learned):
    return learned(learning())


REHEARSED = ("train.rehearsal_coef", "train.rehearsal_rows")  # tests/stages/rl/test_rehearsal.py has data for them
LEARNS = [
    name
    for name in PPO
    if (name.startswith(("train.", "rollout.")) and name not in REHEARSED) or name == "value.adapter"
]
# What a change needs beside itself, or another value than that of PPO above.
BESIDE = {
    "train.num_train_epochs": {"train.num_train_epochs": 1.5, "train.max_steps": -1},
    "train.lr_scheduler_type": {"train.lr_scheduler_type": "constant"},
    "train.kl_estimator": {"train.kl_estimator": "k3"},
    "train.max_steps": {"train.max_steps": 2},
    "train.warmup_steps": {"train.warmup_steps": 0},
    "train.missing_eos_penalty": {"train.missing_eos_penalty": 0.0},
    "train.kl_target": {"train.kl_target": 0.0},
    "train.stop_kl": {"train.stop_kl": 0.0},
    "train.baseline": {"train.baseline": "prompt", "rollout.samples": 2},
    "rollout.max_new_tokens": {"rollout.max_new_tokens": 6},
}


@pytest.mark.parametrize("name", LEARNS)
def test_every_option_of_ppo_changes_what_is_learned(name, learned, unchanged):
    config = learning()
    for key, value in BESIDE.get(name, {name: PPO[name]}).items():
        config = changed(config, key, value)
    history, adapter = learned(config)
    assert history != unchanged[0] and adapter != unchanged[1]


@pytest.mark.parametrize("name", ["threads", "device"])
def test_where_a_stage_runs_is_told_to_torch(name, bench, base, monkeypatch):
    import torch

    from stages.training import run

    seen = []
    monkeypatch.setattr(torch, "set_num_threads", lambda count: seen.append(count))
    monkeypatch.setattr(run, "load_policy", lambda *args, device, **rest: seen.append(device) or SimpleNamespace())
    monkeypatch.setattr(run.probes, "require", lambda *args: None)
    monkeypatch.setattr(run.probes, "template_equals_upstream", lambda *args: None)
    config = bench.config("sft", runtime=Runtime(**{"device": "cpu", name: RUNTIME[name]}))
    run.open_policy(bench.context("sft", config, {"policy": base}, {}))
    assert RUNTIME[name] in seen


# -- options of builders and measurements ---------------------------------------------------------------------------
def test_every_option_of_every_builder_is_read_by_its_module():
    from stages.data import builders

    for module in builders.MODULES:
        importlib.import_module(module)
    for made in builders._builders.values():
        text = inspect.getsource(inspect.getmodule(made.build))
        for field in fields(made.options):
            assert re.search(rf"options\.{field.name}\b", text), f"{made.name}.{field.name}"


def test_every_parameter_of_every_measurement_is_read_by_its_module():
    from stages.evaluation import MEASUREMENTS

    for name, measurement in MEASUREMENTS.items():
        text = inspect.getsource(inspect.getmodule(type(measurement)))
        for field in fields(measurement.params):
            assert re.search(rf"params\.{field.name}\b", text), f"{name}.{field.name}"


# -- the rest of an experiment --------------------------------------------------------------------------------------
@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """experiment(overrides...) -> the experiment smoke."""
    from pipeline.config.load import load

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))
    return lambda *words: load(["experiment=smoke", *words]).experiment


def ids(made):
    from pipeline.graph import make_nodes

    return {name: node.id for name, node in make_nodes(made).items()}


def test_inputs_and_data_decide_the_id(experiment):
    before = ids(experiment())
    for words in (["stages.dpo.inputs.policy=sft"], ["stages.dpo.data.train=smoke_refusals"]):
        assert ids(experiment(*words))["dpo"] != before["dpo"]


def test_every_part_of_an_experiment_has_a_test_here():
    parts = {"model", "data", "stages", "eval", "gates", "contract", "tracker", "store", "identity", "retrain"}
    parts |= {"launcher", "sweeper"}
    assert {field.name for field in fields(Experiment)} == parts | {"name", "description", "budget", "align"}
    assert set(options(ModelConfig)) == MODEL.keys()
    assert set(options(Suite)) == {
        "measure",
        "data",
        "limit",
        "params",
        "slices",
        "outside",
        "version",
        "about",
        "judge",
        "against",
    }
    assert set(options(Evaluation)) == {
        "suites",
        "retention",
        "share",
        "models",
        "engine",
        *(f"runtime.{name}" for name in RUNTIME),
    }
    assert set(options(Tracker)) == {"kind", "mode", "project"}
    assert {field.name for field in fields(Gate)} == GATES.keys()
    assert set(options(Retrain)) == RETRAIN.keys()
    assert {*options(Launcher), *options(Sweeper)} == SWEEPS


SWEEPS = {  # options of launchers and sweepers; what each does is in tests/test_launch.py and tests/test_study.py
    "kind", "workers", "threads", "cluster", "minutes", "cpus", "gpus", "memory_gib", "params", "address",
    "metric", "direction", "trials", "startup", "seed", "prune",
}  # fmt: skip
RETRAIN = {  # option -> another value; what each does is in tests/retraining
    "stage": "domain", "margin": 0.5, "on": "[base]", "feedback.data": "[smoke_pairs]", "feedback.rows": 7,
    "drift.sample": "smoke_chat", "drift.psi": 0.5, "days": 3,
}  # fmt: skip


def test_retraining_decides_no_id(experiment):
    words = [f"retrain.{name}={value}" for name, value in RETRAIN.items()]
    assert ids(experiment(*words)) == ids(experiment())


def test_where_and_how_cells_run_decides_no_id(experiment):
    words = ["launcher=slurm", "launcher.workers=7", "launcher.threads=3", "sweeper=optuna", "sweeper.seed=5"]
    assert ids(experiment(*words)) == ids(experiment())


def test_share_measures_less_of_every_model(experiment):
    def items(*words):
        return {name: suite.limit for name, suite in experiment(*words).eval.suites.items()}

    limited = {name for name, limit in items().items() if limit}
    assert limited and {name for name, limit in items("eval.share=0.5").items() if limit != items()[name]} == limited


def test_models_of_an_evaluation_are_those_that_are_evaluated(experiment):
    found = ids(experiment("eval.models=[base,domain,dpo]"))
    assert {name for name in found if name.startswith("eval_")} == {"eval_base", "eval_domain", "eval_dpo"}


@pytest.mark.parametrize(
    "word",
    ["eval.suites.text.limit=3", "eval.suites.text.params.max_length=9", "eval.suites.text.data=smoke_chat",
     "eval.suites.preference.measure=generate", "eval.suites.text.outside=[far]",
     "eval.suites.text.version=2", "eval.suites.text.slices=[task]"],
)  # fmt: skip
def test_a_suite_decides_the_id_of_every_evaluation_and_of_nothing_else(experiment, word):
    before, after = ids(experiment()), ids(experiment(word))
    kinds = ("eval_", "check_") if word.endswith("data=smoke_chat") else ("eval_",)  # what is measured is compared
    assert {name for name in before if before[name] != after[name]} == {n for n in before if n.startswith(kinds)}


@pytest.mark.parametrize("word", ["contract.near_duplicates=0.5", "+stages.sft.contract.near_duplicates=0.5"])
def test_a_contract_decides_the_id_of_its_checks_and_of_nothing_else(experiment, word):
    before, after = ids(experiment()), ids(experiment(word))
    checks = {"check_sft"} if "sft" in word else {name for name in before if name.startswith("check_")}
    assert {name for name in before if before[name] != after[name]} == checks


def test_an_engine_decides_the_id_of_every_evaluation_and_of_nothing_else(experiment):
    before, after = ids(experiment()), ids(experiment("eval.engine=vllm"))
    assert {name for name in before if before[name] != after[name]} == {n for n in before if n.startswith("eval_")}
    assert ids(experiment("eval.engine=own")) == before


@pytest.mark.parametrize("kind", ["ppo", "label", "evaluate"])
def test_answers_by_the_model_itself_are_told_in_no_id(kind):
    """So ids of before there was a choice stay."""
    assert "engine" not in canonical(kinds()[kind].config(kind=kind))


def test_strict_identity_takes_the_code_in(experiment):
    before, after = ids(experiment()), ids(experiment("identity.code=strict"))
    assert all(before[name] != after[name] for name in before)


def test_budget_of_an_experiment_chooses_its_sizes(experiment):
    assert experiment().stages["sft"].max_length == 256
    assert experiment("budget=none").stages["sft"].max_length == 512


def test_store_root_is_where_the_command_looks(experiment, tmp_path, capfd):
    from pipeline.cli import main

    assert main(["plan", "experiment=smoke", f"store.root={tmp_path}/elsewhere"]) == 0
    assert f"smoke in {tmp_path}/elsewhere" in "".join(capfd.readouterr())


def test_tracker_options_reach_the_tracker(bench, monkeypatch):
    import wandb

    from stages.training.tracking import tracked

    monkeypatch.setenv("WANDB_API_KEY", "x")
    calls = []
    run = SimpleNamespace(id="1", finish=lambda exit_code: None)
    monkeypatch.setattr(wandb, "init", lambda **settings: calls.append(settings) or run)
    for settings in ({}, {"mode": "online"}, {"project": "mine"}, {"kind": "none"}):
        ctx = bench.context("s", None, {}, {})
        ctx.tracker, ctx.tracker_dir = Tracker(**settings), ctx.out / "wandb"
        with tracked(ctx):
            pass
    assert [(call["mode"], call["project"]) for call in calls] == [
        ("offline", "journeyman"), ("online", "journeyman"), ("offline", "mine"),
    ]  # fmt: skip


LOOSE = Gate(stage="dpo", suite="text", rule="not_worse", against="base", margin=0.5)
BOUND = Gate(stage="dpo", suite="preference", rule="at_least", value=0.0)
GATES = {
    "stage": (LOOSE, "domain"),
    "suite": (LOOSE, "preference"),
    "rule": (LOOSE, "improves"),
    "against": (LOOSE, "sft"),
    "margin": (dataclasses.replace(LOOSE, against="domain"), 0.0),  # dpo costs a little perplexity
    "value": (BOUND, 1.0),
    "confidence": (LOOSE, 0.5),
    "correction": (LOOSE, "none"),
    "action": (LOOSE, "warn"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GATES)
def test_every_field_of_a_gate_changes_its_verdict(smoke, name):
    """Slow: needs the built smoke chain."""
    from pipeline.judging.gates import judge

    stages = smoke.first.json["stages"]
    results = {n.removeprefix("eval_"): smoke.store / s["path"] for n, s in stages.items() if n.startswith("eval_")}
    gate, value = GATES[name]
    before, after = (
        asdict(judge({"g": made, "beside": LOOSE}, results, {"dpo": "domain", "domain": "sft", "sft": "base"})[0])
        for made in (gate, dataclasses.replace(gate, **{name: value}))
    )
    assert {key: item for key, item in before.items() if key != name} != {
        key: item for key, item in after.items() if key != name
    } or name == "action"
    assert before != after


@pytest.mark.slow
@pytest.mark.parametrize("key", ["experiment", "description"])
def test_name_and_description_are_on_the_report(smoke, tmp_path, key):
    """Slow: needs the built smoke chain."""
    from pipeline.report import write_report

    shutil.copytree(smoke.store / "runs" / "smoke" / smoke.first.json["run_id"], tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (record if key == "experiment" else record["resolved_config"])[key] = "a-word-of-its-own"
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert "a-word-of-its-own" in write_report(tmp_path / "run", smoke.store).read_text()
