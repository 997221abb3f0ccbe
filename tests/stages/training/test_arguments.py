"""From a stage's config to the arguments of TRL's trainers: what is refused, and what arrives."""

import dataclasses
import re
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.schema import Runtime
from stages.training import arguments
from stages.training.config import TrainConfig, check_data
from stages.training.memory import Plan


@pytest.fixture(scope="module")
def trl():
    import trl

    return trl


@pytest.fixture(params=["SFTConfig", "DPOConfig"])
def library(request, trl):
    return getattr(trl, request.param)


def config(train=None, **settings):
    return TrainConfig(kind="sft", train=train or {}, **settings)


def build(library, made, tmp_path, rows=100):
    fit = Plan(made.runtime.micro_batch or made.batch_size, checkpointing=False, per_row=0, fixed=0, room=0)
    return arguments.build(library, made, rows=rows, ckpt=tmp_path / "ckpt", device="cpu", fit=fit)


def test_misspelt_key_names_the_nearest_one(library):
    said = f"train.learning_rat: {library.__name__} has no such field; did you mean train.learning_rate?"
    with pytest.raises(ConfigError, match=re.escape(said)):
        arguments.check(library, config({"learning_rat": 1e-4}))


def test_nearest_name_is_never_one_that_would_be_refused_next(library):
    with pytest.raises(ConfigError) as found:
        arguments.check(library, config({"save_step": 1}))
    assert "did you mean" not in str(found.value) or "save_steps" not in str(found.value)


def test_key_of_the_other_trainer_is_refused(trl):
    arguments.check(trl.DPOConfig, config({"beta": 0.2}))
    with pytest.raises(ConfigError, match=r"train\.beta: SFTConfig has no such field"):
        arguments.check(trl.SFTConfig, config({"beta": 0.2}))


def test_owned_keys_are_refused_and_say_where_to_set_it(trl):
    for key, where in arguments.OWNED.items():
        with pytest.raises(ConfigError, match=re.escape(f"train.{key} is not yours to set: {where}")):
            arguments.check(trl.SFTConfig, config({key: 1}))


def test_owned_keys_exist_in_the_library(trl):
    libraries = (trl.SFTConfig, trl.DPOConfig, trl.KTOConfig, trl.GRPOConfig, trl.RLOOConfig)
    known = {f.name for library in libraries for f in dataclasses.fields(library)}
    assert arguments.OWNED.keys() <= known


def test_every_key_that_is_allowed_can_be_built(library, tmp_path):
    """Else a config would pass the check and fail when its stage starts."""
    for field in dataclasses.fields(library):
        if not field.init or field.name in arguments.OWNED:
            continue
        default = field.default_factory() if callable(field.default_factory) else field.default
        made = build(library, config({field.name: default}), tmp_path)
        if field.name not in ("warmup_steps",):
            assert hasattr(made, field.name)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"learning_rate": "fast"}, "train.learning_rate='fast': expected float"),
        ({"learning_rate": True}, "train.learning_rate=True: expected float"),
        ({"learning_rate": None}, "train.learning_rate=None: expected float"),
        ({"max_steps": 2.5}, "train.max_steps=2.5: expected int"),
        ({"torch_compile": 1}, "train.torch_compile=1: expected bool"),
        ({"neftune_noise_alpha": "x"}, "train.neftune_noise_alpha='x': expected float or null"),
        ({"lr_scheduler_type": "cosin"}, "cosin"),
        ({"optim": "adamw_toch"}, "adamw_toch"),
        ({"learning_rate": -1e-4}, "train.learning_rate=-0.0001: at least 0"),
        ({"weight_decay": -1.0}, "train.weight_decay=-1.0: at least 0"),
        ({"adam_beta2": 1.0}, "train.adam_beta2=1.0: at least 0 and below 1"),
        ({"num_train_epochs": 0}, "train.num_train_epochs=0: must be above 0"),
    ],
)
def test_wrong_types_and_values_are_refused_with_their_key(library, train, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        arguments.check(library, config(train))


def test_values_that_trl_would_find_only_while_training_are_refused(trl):
    with pytest.raises(ConfigError, match=r"train\.loss_type='sigmoidd': known are .*did you mean sigmoid\?"):
        arguments.check(trl.DPOConfig, config({"loss_type": ["sft", "sigmoidd"]}))
    with pytest.raises(ConfigError, match=r"train\.loss_type='nlll'"):
        arguments.check(trl.SFTConfig, config({"loss_type": "nlll"}))
    with pytest.raises(ConfigError, match=r"train\.f_divergence_type='kl'"):
        arguments.check(trl.DPOConfig, config({"f_divergence_type": "kl"}))
    with pytest.raises(ConfigError, match=r"train\.loss_type is empty: known are sigmoid"):
        arguments.check(trl.DPOConfig, config({"loss_type": []}))
    with pytest.raises(ConfigError, match=r"train\.loss_type=5: known are sigmoid"):
        arguments.check(trl.DPOConfig, config({"loss_type": 5}))
    with pytest.raises(ConfigError, match=r"train\.scale_rewards='groups': .*did you mean group\?"):
        arguments.check(trl.GRPOConfig, config({"scale_rewards": "groups"}))


def test_known_losses_are_those_of_the_library(trl):
    from trl.trainer import dpo_trainer

    text = Path(dpo_trainer.__file__).read_text()
    assert set(arguments.CHOICES["DPOConfig", "loss_type"]) == set(re.findall(r'if loss_type == "(\w+)"', text))
    known = re.findall(r'self\.f_divergence_type == "(\w+)"', text)
    assert set(arguments.CHOICES["DPOConfig", "f_divergence_type"]) == set(known)


def test_noise_on_embeddings_needs_trls_step(library):
    """The fast step has no padded rows to draw it for; found before a model is loaded, not at its first batch."""
    noisy = {"neftune_noise_alpha": 5}
    with pytest.raises(ConfigError, match=r"train\.neftune_noise_alpha .*set step: trl"):
        arguments.check(library, config(noisy))
    arguments.check(library, config(noisy, step="trl"))
    arguments.check(library, config({"neftune_noise_alpha": 0}))


def test_int_is_a_float_and_ordinary_values_pass(library):
    arguments.check(library, config({"learning_rate": 1, "num_train_epochs": 2, "neftune_noise_alpha": None}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: at least 1"),
        ({"max_length": 1}, "max_length=1: at least 2"),
        ({"runtime": Runtime(micro_batch=3)}, "batch_size=8 is not a multiple of runtime.micro_batch=3"),
        ({"runtime": Runtime(micro_batch=16)}, "batch_size=8 is not a multiple of runtime.micro_batch=16"),
        ({"runtime": Runtime(micro_batch=-1)}, "runtime.micro_batch=-1"),
        ({"runtime": Runtime(save_steps=-1)}, "runtime.save_steps=-1"),
        ({"runtime": Runtime(logging_steps=0)}, "runtime.logging_steps=0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(library, settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        arguments.check(library, config(**settings))


@pytest.mark.parametrize(("micro", "accumulation"), [(0, 1), (8, 1), (4, 2), (1, 8)])
def test_micro_batch_changes_the_accumulation_never_the_global_batch(library, tmp_path, micro, accumulation):
    made = build(library, config(batch_size=8, runtime=Runtime(micro_batch=micro)), tmp_path)
    assert made.gradient_accumulation_steps == accumulation
    assert made.per_device_train_batch_size * made.gradient_accumulation_steps == 8


def test_settings_arrive(library, tmp_path):
    runtime = Runtime(save_steps=7, logging_steps=3)
    train = {"learning_rate": 0.5, "warmup_steps": 4}
    made = build(library, config(train, seed=9, max_length=99, runtime=runtime), tmp_path)
    assert (made.seed, made.data_seed, made.max_length, made.save_steps, made.logging_steps) == (9, 9, 99, 7, 3)
    assert (made.learning_rate, made.warmup_steps, made.use_cpu, made.report_to) == (0.5, 4, True, [])
    assert made.output_dir == str(tmp_path / "ckpt") and not made.bf16 and not made.push_to_hub


@pytest.mark.parametrize(
    ("train", "rows", "steps"),
    [({}, 160, 2), ({}, 8, 1), ({"max_steps": 50}, 8, 5), ({"num_train_epochs": 5}, 160, 10)],
)
def test_checkpoints_come_ten_times_in_a_run(library, tmp_path, train, rows, steps):
    assert build(library, config(train), tmp_path, rows=rows).save_steps == steps


def test_activation_checkpointing_is_off_unless_asked_for(library, tmp_path):
    assert not build(library, config(), tmp_path).gradient_checkpointing
    assert build(library, config({"gradient_checkpointing": True}), tmp_path).gradient_checkpointing


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "data.train: name the data set of texts"),
        ({"train": "a", "extra": "b"}, "data.extra: .* reads train, general"),
    ],
)
def test_data_roles_that_are_missing_or_read_by_nothing_are_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        check_data(config(data=data), "texts", others=("general",))
    check_data(config(data={"train": "a", "general": "b"}), "texts", others=("general",))


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_micro_batch_does_not_change_what_is_trained(bench, base, chat_data, rows, kind):
    """Rows of unequal length: averaging the means of micro batches would weigh their tokens differently."""
    from safetensors.torch import load_file

    data = {"train": chat_data if kind == "sft" else bench.data("pairs", rows.pairs(8))}
    extra = {"packing": False} if kind == "sft" else {}
    weights = []
    for micro in (1, 4):
        runtime = Runtime(threads=1, device="cpu", micro_batch=micro)
        made = bench.train(kind, base, data, runtime=runtime, train={"max_steps": 3, "learning_rate": 1e-2}, **extra)
        weights.append(load_file(made.artifact.path / "model" / "adapter" / "adapter_model.safetensors"))
        assert made.metrics["steps"] == 3
    moved = max(float(value.abs().max()) for key, value in weights[0].items() if "lora_B" in key)
    apart = max(float((value - weights[1][key]).abs().max()) for key, value in weights[0].items())
    assert apart < 0.02 * moved
