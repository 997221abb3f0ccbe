"""What every training stage is configured with."""

from dataclasses import dataclass, field
from typing import Any, Dict

from pipeline.schema import PeftConfig, StageConfig


@dataclass
class TrainConfig(StageConfig):
    """`train` holds arguments of the TRL trainer's own config, checked against its fields before anything starts."""

    peft: PeftConfig = field(default_factory=PeftConfig)
    max_length: int = 512  # tokens of one sequence; longer ones are cut and counted
    batch_size: int = 8  # sequences (packed ones, where the stage packs) in one optimizer step, over all devices
    train: Dict[str, Any] = field(default_factory=dict)
