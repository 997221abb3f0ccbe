"""PEFT methods by name: what a training stage may put on top of its input's chain."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.schema import PeftConfig
from stages.models.quantization import require_library

if TYPE_CHECKING:
    import peft


def lora(config: PeftConfig) -> "peft.PeftConfig":
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685)."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules if isinstance(config.target_modules, str) else list(config.target_modules),
        task_type="CAUSAL_LM",
    )


def qlora(config: PeftConfig) -> "peft.PeftConfig":
    """The adapter of `lora` on a base of 4-bit weights (Dettmers et al. 2023, arXiv 2305.14314)."""
    require_library()
    return lora(config)


METHODS: dict[str, Callable[[PeftConfig], "peft.PeftConfig"]] = {"lora": lora, "qlora": qlora}
QUANTIZED = ("qlora",)  # methods whose base is loaded with 4-bit weights


def peft_config(config: PeftConfig) -> "peft.PeftConfig":
    """The library's config for `config.method`; ConfigError for an unknown method or an impossible value."""
    if config.method not in METHODS:
        raise ConfigError(f"peft.method={config.method!r} is unknown; known: {', '.join(METHODS)}")
    if config.r < 1:
        raise ConfigError(f"peft.r={config.r}: the rank of an adapter is at least 1")
    if config.alpha <= 0:
        raise ConfigError(f"peft.alpha={config.alpha}: the scale of an adapter is above 0")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"peft.dropout={config.dropout}: must be in [0, 1)")
    if not config.target_modules or not isinstance(config.target_modules, str | list | tuple):
        raise ConfigError(f"peft.target_modules={config.target_modules!r}: use all-linear or a list of module names")
    return METHODS[config.method](config)
