"""What PPO is configured with."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from pipeline.errors import ConfigError

NO_JUDGES = ("policy", "checked")  # inputs of a stage that learns from rewards which are no reward models
TAKEN = ("reference", "value")  # what the base plays beside the policy and the reward models
ESTIMATORS = ("k1", "k3")
BASELINES = ("value", "prompt")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass
class Rollouts:
    """How answers are sampled."""

    max_new_tokens: int = 64
    temperature: float = 1.0  # probabilities of training are those at this temperature, too
    top_k: int = 0  # 0 = of all tokens; a cut makes the samples those of another policy than the one that is trained
    top_p: float = 1.0
    samples: int = 1  # answers to each prompt of an update


@dataclass
class PpoTrain:
    """The numbers of the algorithm. Defaults in the manner of Ziegler et al. 2019 and Stiennon et al. 2020."""

    learning_rate: float = 1.0e-5
    value_learning_rate: float = 1.0e-4  # of the value head, and of the value adapter if there is one
    lr_scheduler_type: str = "linear"  # constant | linear | cosine, over the updates
    warmup_steps: int = 0  # updates
    weight_decay: float = 0.0  # of the policy's adapter
    max_grad_norm: float = 1.0
    num_train_epochs: float = 1.0  # passes over the prompts
    max_steps: int = -1  # updates; -1 = what the passes need
    minibatches: int = 4  # of an update, `batch_size` answers in each
    num_ppo_epochs: int = 4  # passes over the answers of an update
    clip_range: float = 0.2  # of the ratio
    value_clip_range: float = 0.2  # of the change of a value; 0 = not clipped
    value_coef: float = 0.1
    entropy_coef: float = 0.0
    gamma: float = 1.0
    lam: float = 0.95
    kl_coef: float = 0.05  # of the KL against the input policy, in the reward of every token
    kl_estimator: str = "k1"  # k1: log ratio, unbiased; k3: never negative, less variance (Schulman 2020)
    kl_target: float = 0.0  # nats of an answer; above 0 the coefficient adapts to it
    kl_horizon: float = 10_000.0  # answers in which the coefficient adapts
    stop_kl: float = 0.0  # nats a token that the policy may move within one update; 0 = any
    missing_eos_penalty: float = 1.0  # taken from the reward of an answer that was cut
    whiten_rewards: bool = False  # scale (not shift) the rewards of an update
    whiten_advantages: bool = True
    baseline: str = "value"  # value | prompt: the mean score of the other answers to a prompt is taken off as well
    rehearsal_coef: float = 0.0  # of the likelihood of the data sets beside data.train (PPO-ptx); 0 = none
    rehearsal_rows: int = 4  # of them, beside each optimizer step


@dataclass
class ValueFunction:
    """Where the expected reward comes from: a head on the policy, or on an adapter of its own."""

    init: str = "fresh"  # fresh: a head of zeros | an input role: that reward model's head (and adapter; first member)
    adapter: bool = False  # its own adapter on the same base: the value loss does not touch the policy


POSITIVE = ("learning_rate", "value_learning_rate", "minibatches", "num_ppo_epochs", "clip_range", "kl_horizon",
            "rehearsal_rows")  # fmt: skip
NOT_NEGATIVE = (
    "warmup_steps", "weight_decay", "max_grad_norm", "value_clip_range", "value_coef", "entropy_coef", "kl_coef",
    "kl_target", "stop_kl", "missing_eos_penalty", "rehearsal_coef",
)  # fmt: skip


def check_roles(inputs: Mapping[str, str]) -> None:
    """ConfigError for a reward model by a name that another role of the base has."""
    for role in TAKEN:
        if role in inputs:
            raise ConfigError(f"inputs.{role}: this name is that of another role of the model; give it another one")


def check_train(train: PpoTrain) -> None:
    """ConfigError for a number that cannot work."""
    for found in fields(train):
        value = getattr(train, found.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"train.{found.name}={value}: give a finite number")
        if found.name in POSITIVE and value <= 0:
            raise ConfigError(f"train.{found.name}={value}: must be above 0")
        if found.name in NOT_NEGATIVE and value < 0:
            raise ConfigError(f"train.{found.name}={value}: must be 0 or more")
    for name in ("gamma", "lam"):
        if not 0 <= getattr(train, name) <= 1:
            raise ConfigError(f"train.{name}={getattr(train, name)}: must be in 0..1")
    if train.kl_estimator not in ESTIMATORS:
        raise ConfigError(f"train.kl_estimator={train.kl_estimator}: use one of {', '.join(ESTIMATORS)}")
    if train.baseline not in BASELINES:
        raise ConfigError(f"train.baseline={train.baseline}: use one of {', '.join(BASELINES)}")
    if train.lr_scheduler_type not in SCHEDULES:
        raise ConfigError(f"train.lr_scheduler_type={train.lr_scheduler_type}: use one of {', '.join(SCHEDULES)}")
    if train.max_steps == 0 or train.max_steps < -1:
        raise ConfigError(f"train.max_steps={train.max_steps}: give the number of updates, or -1 for all prompts")
    if train.num_train_epochs <= 0:
        raise ConfigError(f"train.num_train_epochs={train.num_train_epochs}: must be above 0")
    if train.kl_target and not train.kl_coef:
        raise ConfigError("train.kl_coef=0 cannot adapt to train.kl_target, because it is only ever multiplied")
