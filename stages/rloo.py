"""`rloo`: each answer against the mean reward of the others to its prompt (Ahmadian et al. 2024, arXiv 2402.14740)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.context import Artifact, Context
from pipeline.registry import Stage, register
from stages.rewards import combined
from stages.training import online
from stages.training.config import asked
from stages.training.online import OnlineConfig


@dataclass
class RlooConfig(OnlineConfig):
    pass


@register("rloo", config=RlooConfig)
class Rloo(Stage):
    """TRL's RLOOTrainer; the KL against the model with this stage's adapter off is part of the reward."""

    version = 1
    consumes = {"policy": "model"}

    def fingerprints(self, config: RlooConfig) -> dict[str, str]:
        return combined.fingerprints(config.reward)

    def needs(self, config: RlooConfig) -> dict[str, str]:
        return online.needs(config)

    def contract(self, config: RlooConfig) -> dict[str, Any]:
        return asked(config, "reward")

    def preview(self, config: RlooConfig, tokenizer: Any, sets: Mapping[str, Artifact]) -> dict[str, Any]:
        return online.preview(config, sets)

    def validate(self, config: RlooConfig) -> None:
        from trl import RLOOConfig

        online.check(config, RLOOConfig)

    def run(self, ctx: Context) -> dict[str, float]:
        from trl import RLOOConfig, RLOOTrainer

        return online.train(ctx, RLOOTrainer, RLOOConfig)
