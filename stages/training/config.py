"""What every training stage is configured with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Dict

from pipeline.errors import ConfigError
from pipeline.schema import NOT_IDENTITY, PeftConfig, Runtime, StageConfig


@dataclass
class TrainConfig(StageConfig):
    """`train` holds arguments of the TRL trainer's own config, checked against its fields before anything starts."""

    peft: PeftConfig = field(default_factory=PeftConfig)
    max_length: int = 512  # tokens of one sequence; longer ones are cut and counted
    batch_size: int = 8  # sequences (packed ones, where the stage packs) in one optimizer step, over all devices
    step: str = "fast"  # fast | trl: Journeyman's own training step, or TRL's; the mathematics is the same
    train: Dict[str, Any] = field(default_factory=dict)
    contract: Dict[str, Any] = field(default_factory=dict, metadata=NOT_IDENTITY)  # over the experiment's `contract`


def asked(config: TrainConfig, *decide: str) -> dict[str, Any]:
    """What `Stage.contract` answers. `decide`: the fields, beside these, that decide which rows are trained on."""
    training = {name: plain(getattr(config, name)) for name in ("seed", "max_length", *decide)}
    return {
        "stage": config.kind, "max_length": config.max_length, "training": training, "contract": dict(config.contract),
    }  # fmt: skip


def plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def check_data(config: TrainConfig, what: str, others: Sequence[str] = ()) -> None:
    """ConfigError unless `data.train` is there, and for a role that the stage would not read."""
    if "train" not in config.data:
        raise ConfigError(f"data.train: name the data set of {what} to train on")
    known = ("train", *others)
    for role in config.data:
        if role not in known:
            raise ConfigError(f"data.{role}: kind '{config.kind}' reads no such data set; it reads {', '.join(known)}")


def refuse_training(runtime: Runtime, place: str, what: str) -> None:
    """ConfigError for settings that only training reads. `place`: of the runtime; `what`: what it is of, in words."""
    reasons = dict.fromkeys(("save_steps", "logging_steps"), "takes no optimizer steps")
    reasons["kernels"] = "takes no training step"
    reasons |= dict.fromkeys(("num_processes", "num_machines", "strategy"), "runs in one process")
    for name, reason in reasons.items():
        if getattr(runtime, name) != getattr(Runtime(), name):
            raise ConfigError(f"{place}.{name}: {what} {reason}; take it out")
