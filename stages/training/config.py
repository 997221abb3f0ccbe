"""What every training stage is configured with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Dict

from pipeline.errors import ConfigError
from pipeline.schema import PeftConfig, StageConfig


@dataclass
class TrainConfig(StageConfig):
    """`train` holds arguments of the TRL trainer's own config, checked against its fields before anything starts."""

    peft: PeftConfig = field(default_factory=PeftConfig)
    max_length: int = 512  # tokens of one sequence; longer ones are cut and counted
    batch_size: int = 8  # sequences (packed ones, where the stage packs) in one optimizer step, over all devices
    step: str = "fast"  # fast | trl: Journeyman's own training step, or TRL's; the mathematics is the same
    train: Dict[str, Any] = field(default_factory=dict)


def check_data(config: TrainConfig, what: str, others: Sequence[str] = ()) -> None:
    """ConfigError unless `data.train` is there, and for a role that the stage would not read."""
    if "train" not in config.data:
        raise ConfigError(f"data.train: name the data set of {what} to train on")
    known = ("train", *others)
    for role in config.data:
        if role not in known:
            raise ConfigError(f"data.{role}: kind '{config.kind}' reads no such data set; it reads {', '.join(known)}")
