"""From a stage's config to the arguments of a TRL trainer, and the check that they exist and can work."""

import dataclasses
import difflib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from stages.training.config import TrainConfig

if TYPE_CHECKING:
    from transformers import TrainingArguments

# What Journeyman itself decides, and where a user says it instead.
OWNED = {
    "output_dir": "the store decides where files go",
    "seed": "set the stage's `seed`",
    "data_seed": "set the stage's `seed`",
    "max_length": "set the stage's `max_length`",
    "per_device_train_batch_size": "set the stage's `batch_size` (global) and `runtime.micro_batch`",
    "gradient_accumulation_steps": "it follows from `batch_size` and `runtime.micro_batch`",
    "save_steps": "set `runtime.save_steps`",
    "save_strategy": "set `runtime.save_steps`",
    "save_total_limit": "two checkpoints are kept",
    "logging_steps": "set `runtime.logging_steps`",
    "logging_strategy": "set `runtime.logging_steps`",
    "report_to": "set `tracker`",
    "use_cpu": "set `runtime.device`",
    "resume_from_checkpoint": "resuming is automatic",
    "packing": "set the stage's `packing`",
    "padding_free": "set the stage's `packing`",
    "dataset_kwargs": "Journeyman prepares the data",
    "shuffle_dataset": "the order of rows follows from the stage's `seed`",
    "push_to_hub": "use `journeyman export`",
    "do_eval": "evaluation is a stage of its own",
    "eval_strategy": "evaluation is a stage of its own",
    "load_best_model_at_end": "evaluation is a stage of its own",
    "bf16": "set `model.dtype`",
    "fp16": "set `model.dtype`",
    "trust_remote_code": "set `model.trust_remote_code`",
    "model_init_kwargs": "the model comes from the input's chain",
    "chat_template_path": "set `model.chat_template`",
    "eos_token": "the tokenizer is part of the base model",
    "pad_token": "the tokenizer is part of the base model",
    "dataset_num_proc": "Journeyman prepares the data",
    "dataset_text_field": "Journeyman prepares the data",
    "completion_only_loss": "assistant turns are trained, prompts are not; text is trained whole",
    "assistant_only_loss": "assistant turns are trained, prompts are not; text is trained whole",
    "truncation_mode": "sequences are cut at the stage's `max_length`",
}


def check(arguments: type, train: dict[str, Any]) -> None:
    """Raise ConfigError unless every key of `train` is a field of `arguments` that a user may set, with a legal value.

    The real dataclass is constructed, so that the library's own checks of values run too.
    """
    fields = {f.name: f for f in dataclasses.fields(arguments) if f.init}
    for key in train:
        if key in OWNED:
            raise ConfigError(f"train.{key} is not yours to set: {OWNED[key]}")
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean train.{close[0]}?" if close else ""
            raise ConfigError(f"train.{key}: {arguments.__name__} has no such field{hint}")
        _check_type(key, train[key], fields[key].type)
    try:
        arguments(output_dir=os.devnull, report_to=[], use_cpu=True, bf16=False, **train)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"train: {arguments.__name__} refuses these values: {error}") from None


def _check_type(key: str, value: Any, annotation: Any) -> None:
    """Plain scalar fields only: the library itself does not look at them before it fails deep inside a run."""
    wanted = {float: (int, float), int: (int,), bool: (bool,), str: (str,)}.get(annotation)
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and annotation is not bool)):
        raise ConfigError(f"train.{key}={value!r}: expected {annotation.__name__}")


def build(arguments: type, config: TrainConfig, *, rows: int, ckpt: Path, device: str) -> "TrainingArguments":
    """The trainer's arguments for `rows` training sequences. `batch_size` rows make one optimizer step."""
    micro = config.runtime.micro_batch or config.batch_size
    if config.batch_size % micro:
        raise ConfigError(f"batch_size={config.batch_size} is not a multiple of runtime.micro_batch={micro}")
    train = dict(config.train)
    steps = train.get("max_steps", -1)
    if steps <= 0:
        steps = math.ceil(math.ceil(rows / config.batch_size) * train.get("num_train_epochs", 1.0))
    defaults = {_checkpointing(arguments, train): False, "num_train_epochs": 1.0, "warmup_steps": 0, "disable_tqdm": True}
    return arguments(
        **defaults | train,
        output_dir=str(ckpt),
        max_length=config.max_length,
        seed=config.seed,
        data_seed=config.seed,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        save_strategy="steps",
        save_steps=config.runtime.save_steps or max(1, steps // 10),
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=config.runtime.logging_steps,
        report_to=[],
        use_cpu=device == "cpu",
        bf16=False,  # the base is computed in its stored dtype, the adapter in float32; autocast would change both
        dataloader_pin_memory=device != "cpu",
        push_to_hub=False,
    )


def _checkpointing(arguments: type, train: dict[str, Any]) -> str:
    """TRL switches activation checkpointing on, which costs LoRA half as much again; its field has two names."""
    names = {f.name for f in dataclasses.fields(arguments)}
    new = "activation_checkpointing" in names and "gradient_checkpointing" not in train
    return "activation_checkpointing" if new else "gradient_checkpointing"
