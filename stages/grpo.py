"""`grpo`: answers to one prompt against each other's mean reward (Shao et al. 2024, arXiv 2402.03300)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError
from pipeline.registry import Stage, register
from stages.rewards import combined
from stages.training import online
from stages.training.config import asked
from stages.training.online import OnlineConfig

# argument -> the loss that reads it
READ_BY = {
    **dict.fromkeys(("sapo_temperature_neg", "sapo_temperature_pos"), "sapo"),
    **dict.fromkeys(("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"), "vespo"),
}
ENTROPY = ("entropy_coef", "use_adaptive_entropy")
ADAPTIVE = ("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target")
BY_TOKEN = ("bnpo", "dr_grpo", "dapo", "cispo")  # losses that add up over tokens


@dataclass
class GrpoConfig(OnlineConfig):
    pass


@register("grpo", config=GrpoConfig)
class Grpo(Stage):
    """TRL's GRPOTrainer; with train.beta above 0 the reference is the model with this stage's adapter off."""

    version = 1
    consumes = {"policy": "model"}

    def fingerprints(self, config: GrpoConfig) -> dict[str, str]:
        return combined.fingerprints(config.reward)

    def needs(self, config: GrpoConfig) -> dict[str, str]:
        return online.needs(config)

    def contract(self, config: GrpoConfig) -> dict[str, Any]:
        return asked(config, "reward")

    def preview(self, config: GrpoConfig, tokenizer: Any, sets: Mapping[str, Artifact]) -> dict[str, Any]:
        return online.preview(config, sets)

    def validate(self, config: GrpoConfig) -> None:
        from trl import GRPOConfig

        online.check(config, GRPOConfig)
        _check_loss(config)

    def run(self, ctx: Context) -> dict[str, float]:
        from trl import GRPOConfig, GRPOTrainer

        return online.train(ctx, GRPOTrainer, GRPOConfig)


def _check_loss(config: GrpoConfig) -> None:
    """ConfigError for arguments that the loss would pass over, or about which TRL only warns."""
    train, loss = config.train, config.train.get("loss_type", "dapo")
    for name, reader in READ_BY.items():
        if name in train and loss != reader:
            raise ConfigError(f"train.{name} is read with train.loss_type={reader} only; set it, or take {name} out")
    if not train.get("use_adaptive_entropy") and (deaf := [name for name in ADAPTIVE if name in train]):
        raise ConfigError(f"train.{deaf[0]} is read with train.use_adaptive_entropy=true only")
    if any(train.get(name) for name in ENTROPY) and config.step == "fast":
        raise ConfigError(
            "train.entropy_coef needs the gradient of the entropy, which step: fast has not; set step: trl"
        )
    level = train.get("importance_sampling_level", "token")
    if level == "sequence" and loss in BY_TOKEN:
        raise ConfigError(
            f"train.importance_sampling_level=sequence: the loss {loss} adds up over tokens, so long answers would "
            "count more; set train.loss_type=grpo"
        )
    if (loss, level) in (("luspo", "token"), ("vespo", "sequence")):
        wanted = {"luspo": "sequence", "vespo": "token"}[loss]
        raise ConfigError(f"train.loss_type={loss} is defined with train.importance_sampling_level={wanted}")
