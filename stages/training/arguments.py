"""From a stage's config to the arguments of a TRL trainer, and the check that they exist and can work."""

import dataclasses
import difflib
import math
import os
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from stages.kernels import step
from stages.training import several
from stages.training.config import TrainConfig
from stages.training.memory import Plan

if TYPE_CHECKING:
    from transformers import TrainingArguments

CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")

EVALUATION = "evaluation is a stage of its own"
PREPARED = "Journeyman prepares the data"
RESUMED = "a checkpoint must hold all that resuming needs"
PUBLISHED = "a trained adapter goes to the store, nowhere else"
MASKED = "assistant turns are trained, prompts are not; text is trained whole"
ONE_REFERENCE = "the reference is the input policy and stays it"
WRITTEN = "answers are written by the model itself, in this process"
EACH_BATCH = "each batch is answered anew; set the stage's `batch_size`, and `train.num_iterations` to use it longer"
SHOWN = "samples.jsonl of the artifact has answers"

# What Journeyman itself decides or does not read, and where a user says it instead.
OWNED = {
    "output_dir": "the store decides where files go",
    "seed": "set the stage's `seed`",
    "data_seed": "set the stage's `seed`",
    "full_determinism": "set the stage's `seed`",
    "max_length": "set the stage's `max_length`",
    "truncation_mode": "sequences are cut at the stage's `max_length`",
    "per_device_train_batch_size": "set the stage's `batch_size` (global) and `runtime.micro_batch`",
    "gradient_accumulation_steps": "it follows from `batch_size` and `runtime.micro_batch`",
    "auto_find_batch_size": "set `runtime.micro_batch`",
    "average_tokens_across_devices": "a loss is the mean over the tokens of the whole batch",
    "ddp_find_unused_parameters": "every step reaches all that is trained",
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config"), "set `runtime.strategy`"),
    **dict.fromkeys(("ddp_backend", "ddp_broadcast_buffers", "ddp_static_graph"), "it follows from `runtime.device`"),
    "save_steps": "set `runtime.save_steps`",
    "save_strategy": "set `runtime.save_steps`",
    "save_total_limit": "two checkpoints are kept",
    "logging_steps": "set `runtime.logging_steps`",
    "logging_strategy": "set `runtime.logging_steps`",
    "logging_nan_inf_filter": "a loss that is no number stops the stage",
    "use_cpu": "set `runtime.device`",
    "dataloader_pin_memory": "it follows from `runtime.device`",
    "packing": "set the stage's `packing`",
    "padding_free": "set the stage's `packing`",
    "packing_strategy": "set the stage's `packing`",
    "shuffle_dataset": "the order of rows follows from the stage's `seed`",
    "resume_from_checkpoint": "resuming is automatic",
    "do_train": "every training stage trains",
    "bf16": "set `model.dtype`",
    "fp16": "set `model.dtype`",
    "trust_remote_code": "set `model.trust_remote_code`",
    "chat_template_path": "set `model.chat_template`",
    "model_init_kwargs": "the model comes from the input's chain",
    "eos_token": "the tokenizer is part of the base model",
    "pad_token": "the tokenizer is part of the base model",
    **dict.fromkeys(("dataset_kwargs", "dataset_num_proc", "dataset_text_field", "remove_unused_columns"), PREPARED),
    **dict.fromkeys(("label_names", "length_column_name"), PREPARED),
    **dict.fromkeys(("completion_only_loss", "assistant_only_loss"), MASKED),
    **dict.fromkeys(("save_only_model", "ignore_data_skip", "restore_callback_states_from_checkpoint"), RESUMED),
    **dict.fromkeys(("report_to", "run_name", "project"), "set `tracker`"),
    **dict.fromkeys(("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), "set `tracker`"),
    **dict.fromkeys(("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id"), PUBLISHED),
    **dict.fromkeys(("hub_strategy", "hub_always_push", "hub_revision"), PUBLISHED),
    **dict.fromkeys(
        ("do_eval", "do_predict", "eval_strategy", "eval_steps", "eval_delay", "eval_on_start"), EVALUATION
    ),
    **dict.fromkeys(("eval_packing", "eval_accumulation_steps", "eval_do_concat_batches"), EVALUATION),
    **dict.fromkeys(("eval_use_gather_object", "per_device_eval_batch_size", "prediction_loss_only"), EVALUATION),
    **dict.fromkeys(("load_best_model_at_end", "metric_for_best_model", "greater_is_better"), EVALUATION),
    **dict.fromkeys(("include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval"), EVALUATION),
    **dict.fromkeys(("generation_batch_size", "steps_per_generation"), EACH_BATCH),
    **dict.fromkeys(("num_completions_to_print", "log_unique_prompts", "log_completions_hub_repo"), SHOWN),
    **dict.fromkeys(("log_completions", "log_multimodal"), SHOWN),
    **dict.fromkeys(("min_p", "repetition_penalty", "generation_kwargs", "cache_implementation"), WRITTEN),
    **dict.fromkeys(("use_vllm", "vllm_mode", "vllm_model_impl", "vllm_enable_sleep_mode"), WRITTEN),
    **dict.fromkeys(("vllm_structured_outputs_regex", "vllm_server_base_url", "vllm_server_host"), WRITTEN),
    **dict.fromkeys(("vllm_server_port", "vllm_server_timeout", "vllm_group_port"), WRITTEN),
    **dict.fromkeys(("vllm_gpu_memory_utilization", "vllm_max_model_length", "vllm_tensor_parallel_size"), WRITTEN),
    **dict.fromkeys(("vllm_importance_sampling_correction", "vllm_importance_sampling_mode"), WRITTEN),
    **dict.fromkeys(("vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min"), WRITTEN),
    **dict.fromkeys(("vllm_importance_sampling_cap", "ds3_gather_for_generation"), WRITTEN),
    **dict.fromkeys(("use_transformers_continuous_batching", "transformers_continuous_batching_config"), WRITTEN),
    **dict.fromkeys(("use_transformers_paged", "max_tool_calling_iterations"), WRITTEN),
    **dict.fromkeys(("reward_weights", "multi_objective_aggregation"), "set `reward.weights`"),
    "reward_clip_range": "set `reward.clip`",
    "chat_template_kwargs": "set `model.chat_template`",
    "num_generations_eval": EVALUATION,
    "cast_lm_head_to_fp32": "the output layer is computed in the model's own dtype",
    **dict.fromkeys(("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"), ONE_REFERENCE),
}

# Values that TRL itself looks at only in the middle of a run.
CHOICES = {
    ("SFTConfig", "loss_type"): ("nll", "dft"),
    ("DPOConfig", "loss_type"): (
        "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
        "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
    ),
    ("KTOConfig", "loss_type"): ("kto", "apo_zero_unpaired"),
    ("GRPOConfig", "loss_type"): ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo", "luspo"),
    ("GRPOConfig", "importance_sampling_level"): ("token", "sequence"),
    ("GRPOConfig", "scale_rewards"): ("group", "batch", "none"),
    ("DPOConfig", "f_divergence_type"): ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"),
}  # fmt: skip


# Numbers that an optimizer refuses only once it is made, after all stages before it: key -> lowest, and first too high.
RANGES = {
    "learning_rate": (0, math.inf), "weight_decay": (0, math.inf), "max_grad_norm": (0, math.inf),
    "adam_beta1": (0, 1), "adam_beta2": (0, 1), "adam_epsilon": (0, math.inf),
}  # fmt: skip


def check(arguments: type, config: TrainConfig) -> None:
    """ConfigError unless the stage's sizes fit together and every key of `train` is the user's to set, its value legal.

    The library's dataclass is constructed, so that its own checks of values run too.
    """
    check_sizes(config)
    fields = {f.name: f for f in dataclasses.fields(arguments) if f.init}
    for key, value in config.train.items():
        if key in OWNED:
            raise ConfigError(f"train.{key} is not yours to set: {OWNED[key]}")
        if key not in fields:
            close = difflib.get_close_matches(key, fields.keys() - OWNED.keys(), n=1)
            hint = f"; did you mean train.{close[0]}?" if close else ""
            raise ConfigError(f"train.{key}: {arguments.__name__} has no such field{hint}")
        _check_type(key, value, fields[key].type)
        _check_choice(key, value, CHOICES.get((arguments.__name__, key)))
        _check_range(key, value)
    if config.train.get("neftune_noise_alpha") and config.step == "fast":
        raise ConfigError(
            "train.neftune_noise_alpha draws noise for each row of a padded batch, and step: fast has no such rows; "
            "set step: trl or leave it out"
        )
    try:
        arguments(
            output_dir=os.devnull, report_to=[], use_cpu=True, bf16=False,
            per_device_train_batch_size=config.batch_size, **config.train,
        )  # fmt: skip
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"train: {arguments.__name__} refuses these values: {error}") from None


def check_sizes(config: TrainConfig) -> None:
    """ConfigError for a length, a batch or a runtime that cannot be."""
    runtime = config.runtime
    for name, value, least in (
        ("max_length", config.max_length, 2),
        ("batch_size", config.batch_size, 1),
        ("runtime.micro_batch", runtime.micro_batch, 0),
        ("runtime.save_steps", runtime.save_steps, 0),
        ("runtime.logging_steps", runtime.logging_steps, 1),
    ):
        if value < least:
            raise ConfigError(f"{name}={value}: at least {least}")
    step.check(config.step, step.STEPS, runtime)
    several.check(config)


def _check_type(key: str, value: Any, annotation: Any) -> None:
    """Plain scalar fields only: the library itself does not look at them before it fails deep inside a run."""
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    wanted = set(typing.get_args(annotation)) if union else {annotation}
    if not wanted <= {float, int, bool, str, types.NoneType}:
        return
    accepted = wanted | ({int} if float in wanted else set())
    if type(value) not in accepted:
        names = " or ".join(sorted("null" if t is types.NoneType else t.__name__ for t in wanted))
        raise ConfigError(f"train.{key}={value!r}: expected {names}")


def _check_choice(key: str, value: Any, known: tuple[str, ...] | None) -> None:
    if known is None:
        return
    items = value if isinstance(value, list | tuple) else [value]
    if not items:
        raise ConfigError(f"train.{key} is empty: known are {', '.join(known)}")
    for item in items:
        if item not in known:
            close = difflib.get_close_matches(str(item), known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"train.{key}={item!r}: known are {', '.join(known)}{hint}")


def _check_range(key: str, value: Any) -> None:
    low, high = RANGES.get(key, (None, None))
    if low is not None and value is not None and not low <= value < high:
        upper = "" if high == math.inf else f" and below {high}"
        raise ConfigError(f"train.{key}={value}: at least {low}{upper}")
    if key == "num_train_epochs" and not value > 0:
        raise ConfigError(f"train.num_train_epochs={value}: must be above 0; train.max_steps=N stops earlier")


def build(
    arguments: type, config: TrainConfig, *, rows: int, ckpt: Path, device: str, fit: Plan
) -> "TrainingArguments":
    """The trainer's arguments for `rows` training sequences. `batch_size` rows make one optimizer step."""
    micro, train = fit.micro_batch, dict(config.train)
    steps = train.get("max_steps", -1)
    if steps <= 0:
        steps = math.ceil(math.ceil(rows / config.batch_size) * train.get("num_train_epochs", 1.0))
    defaults: dict[str, Any] = {
        _checkpointing(arguments, train): fit.checkpointing,
        "num_train_epochs": 1.0,
        "warmup_steps": 0,
        "disable_tqdm": True,
    }
    if "max_length" in {f.name for f in dataclasses.fields(arguments)}:
        defaults["max_length"] = config.max_length
    return arguments(
        **defaults | train,
        output_dir=str(ckpt),
        seed=config.seed,
        data_seed=config.seed,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // (micro * config.runtime.num_processes),
        save_strategy="steps",
        save_steps=config.runtime.save_steps or max(1, steps // 10),
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=config.runtime.logging_steps,
        logging_nan_inf_filter=False,
        report_to=[],
        use_cpu=device == "cpu",
        bf16=False,  # the base is computed in its stored dtype, the adapter in float32; autocast would change both
        dataloader_pin_memory=device != "cpu",
        ddp_find_unused_parameters=False,  # every step reaches all that is trained
        push_to_hub=False,
    )


def _checkpointing(arguments: type, train: dict[str, Any]) -> str:
    """TRL switches it on, which costs LoRA half as much again; its field has had two names."""
    names = {f.name for f in dataclasses.fields(arguments)}
    new, old = CHECKPOINTING
    return new if new in names and old not in train else old
