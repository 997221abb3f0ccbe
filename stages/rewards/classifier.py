"""The loaded policy with a score in place of its output layer: one trunk, one adapter, one head, for any member.

The base is not loaded again: the sequence classifier is made of the causal model's own layers, so that frozen upstream
adapters and 4-bit weights are in it as they are in the policy.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from stages.models.chain import PEFT_PREFIX, Policy
from stages.rewards.model import WEIGHT, Member

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

ADAPTER = "default"


class ScoreHead(nn.Linear):
    """One score from H values, in float32 whatever the model computes in: (..., H) -> (..., 1)."""

    def __init__(self, hidden: int, device: str) -> None:
        super().__init__(hidden, 1, bias=False, device=device, dtype=torch.float32)

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden.float())


def as_classifier(policy: Policy) -> Policy:
    """The policy's layers as a sequence classifier; the policy itself is not to be used afterwards.

    Padding is a token that ends no sequence, because a sequence is judged at its last token that is not padding.
    ConfigError for an architecture that has no sequence classifier, or one whose layers are called differently.
    """
    from transformers import AutoModelForSequenceClassification

    trunk, config, eos = policy.model.base_model, policy.model.config, policy.tokenizer.eos_token_id
    config.num_labels = 1
    try:
        with torch.device("meta"):
            made = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ConfigError(f"a reward model needs a sequence classifier, and {config.model_type} has none") from error
    prefix = policy.model.base_model_prefix
    if made.base_model_prefix != prefix or type(made.base_model) is not type(trunk) or not hasattr(made, "score"):
        raise ConfigError(
            f"a reward model on {config.model_type}: its sequence classifier is not built like its causal model"
        )
    made.config = config  # the layers' own object: what is set in one place holds in all
    config.get_text_config().pad_token_id = 0 if eos != 0 else 1
    setattr(made, prefix, trunk)
    made.score = ScoreHead(config.get_text_config().hidden_size, policy.device)
    return replace(policy, model=made.eval().requires_grad_(False))


def adapted(model: "PreTrainedModel", config: "PeftConfig") -> "PeftModel":
    """The classifier with an adapter to be trained, and its head trained and saved with it."""
    from peft import TaskType, get_peft_model

    config.task_type, config.modules_to_save = TaskType.SEQ_CLS, ["score"]
    return get_peft_model(model, config, adapter_name=ADAPTER)


def draw(model: "PeftModel", seed: int) -> None:
    """A fresh member under `seed`: B is zero, so that it starts at the input policy.

    The head is drawn from N(0, 1 / (H + 1)), so that scores differ by about 1 at the start (Stiennon et al. 2020, arXiv
    2009.01325; Huang et al. 2024, arXiv 2403.17031).
    """
    from transformers import set_seed

    set_seed(seed)
    for layer in _layers(model).values():
        layer.reset_lora_parameters(ADAPTER, True)
    hidden = _head(model).in_features
    _set_head(model, torch.randn(hidden) / math.sqrt(hidden + 1))


def load(model: "PeftModel", member: Member) -> None:
    """Switch the model to a published member."""
    layers = _layers(model)
    with torch.no_grad():
        for name, (a, b) in member.layers.items():
            layer = layers[name]
            layer.lora_A[ADAPTER].weight.copy_(a)
            layer.lora_B[ADAPTER].weight.copy_(b / layer.scaling[ADAPTER])
    _set_head(model, member.weight)


def head_weight(model: "PeftModel") -> Tensor:
    """The head's weight (H,) as it is now."""
    return _head(model).weight.detach()[0].clone()


def trunk(model: "PeftModel") -> nn.Module:
    """The layers below the head, with the adapter."""
    return model.get_base_model().base_model


def save(model: "PeftModel", folder: Path) -> None:
    """The adapter alone in PEFT's own format, and the head beside it."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    tensors = {name: t.detach().contiguous().cpu() for name, t in get_peft_model_state_dict(model).items()}
    adapter = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    save_file(adapter, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    save_file({WEIGHT: head_weight(model)[None].cpu()}, folder / "score.safetensors", metadata={"format": "pt"})
    alone = replace(model.peft_config[ADAPTER], task_type="CAUSAL_LM", modules_to_save=None, inference_mode=True)
    alone.save_pretrained(folder)


def _layers(model: "PeftModel") -> dict[str, Any]:
    """The adapted layers by their names in the causal model."""
    from peft.tuners.lora import LoraLayer

    found = ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))
    return {name.removeprefix(PEFT_PREFIX): module for name, module in found}


def _head(model: "PeftModel") -> ScoreHead:
    return model.get_base_model().score.modules_to_save[ADAPTER]


def _set_head(model: "PeftModel", weight: Tensor) -> None:
    """In both copies: that which is trained, and that which PEFT uses while the adapter is off."""
    wrapped = model.get_base_model().score
    with torch.no_grad():
        for head in (wrapped.original_module, wrapped.modules_to_save[ADAPTER]):
            head.weight.copy_(weight[None])
