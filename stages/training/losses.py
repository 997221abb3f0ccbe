"""Which arguments of TRL's DPO trainer its losses read: the trainer itself passes over many that change nothing."""

from collections.abc import Collection, Mapping
from typing import Any

from pipeline.errors import ConfigError, StageFailed
from stages.training.config import TrainConfig
from stages.training.memory import Plan

# argument -> the losses that read it
READ_BY = {
    "label_smoothing": ("aot", "aot_unpaired", "exo_pair", "robust"),
    "discopop_tau": ("discopop",),
    "f_divergence_type": ("discopop", "exo_pair", "hinge", "ipo", "robust", "sigmoid", "sigmoid_norm"),
}
UNSET = {"label_smoothing": 0.0, "discopop_tau": 0.05, "f_divergence_type": "reverse_kl"}
# Losses that depend on which pairs go through together: the first two sort them, the last averages over their tokens.
OF_A_BATCH = ("aot", "aot_unpaired", "sft")
UNWEIGHTED = ("hinge", "sft")  # TRL multiplies in place what their gradient needs, or what is one value for all pairs
ONE_PASS = "{what} depends on which rows go through together, so a batch is one pass: "


def names(train: Mapping[str, Any]) -> list[str]:
    """The losses that are summed."""
    losses = train.get("loss_type", ["sigmoid"])
    return [losses] if isinstance(losses, str) else list(losses)


def check(train: Mapping[str, Any], batch_size: int) -> None:
    """ConfigError for an argument that the chosen losses do not read, or that lies where they are not defined."""
    losses = names(train)
    for weight in train.get("loss_weights") or []:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ConfigError(f"train.loss_weights: {weight!r} is no number; give one for each loss of train.loss_type")
    for name, readers in READ_BY.items():
        if train.get(name, UNSET[name]) != UNSET[name]:
            _check_read(name, losses, readers)
    if "f_alpha_divergence_coef" in train and train.get("f_divergence_type") != "alpha_divergence":
        raise ConfigError(
            "train.f_alpha_divergence_coef is read with train.f_divergence_type=alpha_divergence only; set it, or take "
            "the coefficient out"
        )
    if "precompute_ref_batch_size" in train and not train.get("precompute_ref_log_probs"):
        raise ConfigError("train.precompute_ref_batch_size is not read without train.precompute_ref_log_probs=true")
    _check_ranges(train, losses)
    if train.get("use_weighting") and (deaf := [loss for loss in losses if loss in UNWEIGHTED]):
        raise ConfigError(
            f"train.use_weighting: TRL cannot weigh the pairs of the loss {', '.join(deaf)}, which it computes so that "
            "the first step would end with an error; take it out, or use another loss"
        )
    if {"aot", "aot_unpaired"} & set(losses):
        _check_sorted(train, batch_size)


def _check_read(name: str, losses: Collection[str], readers: Collection[str]) -> None:
    """All losses must know a divergence, but one that is smoothed may stand beside another."""
    deaf = [loss for loss in losses if loss not in readers]
    if name == "f_divergence_type":
        deaf = [loss for loss in deaf if loss != "sft" or len(losses) == 1]
    elif len(deaf) < len(losses):
        return
    if deaf:
        raise ConfigError(
            f"train.{name} is not read by the loss {', '.join(deaf)}, only by {', '.join(readers)}; set one of these "
            f"as train.loss_type, or take train.{name} out"
        )


def _check_ranges(train: Mapping[str, Any], losses: Collection[str]) -> None:
    smoothing, beta, ld_alpha = train.get("label_smoothing", 0.0), train.get("beta", 0.1), train.get("ld_alpha")
    if not beta > 0:
        raise ConfigError(f"train.beta={beta}: give a positive number; smaller ones allow more change")
    if not 0 <= smoothing < 0.5:
        raise ConfigError(f"train.label_smoothing={smoothing}: the share of wrong labels is at least 0 and below 0.5")
    if "exo_pair" in losses and not smoothing:
        raise ConfigError("the loss exo_pair takes the logarithm of train.label_smoothing; set it to 0.001 or so")
    if ld_alpha is not None and not 0 <= ld_alpha <= 1:
        raise ConfigError(f"train.ld_alpha={ld_alpha}: from 0, no tokens beyond the shorter answer count, to 1, all do")
    if ld_alpha is not None and set(losses) == {"sft"}:
        raise ConfigError("train.ld_alpha is not read by the loss sft; take it out")


def _check_sorted(train: Mapping[str, Any], batch_size: int) -> None:
    if train.get("use_weighting"):
        raise ConfigError("train.use_weighting weighs pairs, and the losses aot and aot_unpaired sort them apart")
    if batch_size < 2:
        raise ConfigError(f"batch_size={batch_size}: the losses aot and aot_unpaired compare the pairs of a batch")


def check_one_pass(config: TrainConfig, what: str, over_ranks: bool = False) -> None:
    """ConfigError if a batch is asked to go through in parts, which would change the loss `what`.

    `over_ranks`: one pass on each rank is as good, because what they find is put together.
    """
    if config.runtime.num_processes > 1 and not over_ranks:
        raise ConfigError(f"{ONE_PASS.format(what=what)}set runtime.num_processes=1, or use another loss")
    if config.runtime.micro_batch not in (0, once(config)):
        raise ConfigError(
            f"{ONE_PASS.format(what=what)}set runtime.micro_batch={once(config)} or 0, or another batch_size"
        )


def once(config: TrainConfig) -> int:
    """Rows of a batch that one process has."""
    return config.batch_size // config.runtime.num_processes


def require_one_pass(config: TrainConfig, plan: Plan, what: str) -> None:
    """StageFailed where a batch does not fit into one pass."""
    if plan.micro_batch != once(config):
        raise StageFailed(
            f"{ONE_PASS.format(what=what)}{plan.micro_batch} of {once(config)} rows fit this device; lower "
            "batch_size or max_length, or set train.gradient_checkpointing=true"
        )


def of_a_batch(train: Mapping[str, Any]) -> str:
    """The losses, in words, that depend on what goes through together; empty if none does."""
    found = [name for name in names(train) if name in OF_A_BATCH]
    return f"the loss {', '.join(found)}" if found else ""
