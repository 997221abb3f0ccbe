"""Log-probabilities of supervised tokens only, on the CPU.

TRL's fused head scores every position off the GPU and computes the head's product a third time in the backward pass.
With a frozen head, plain autograd over the supervised rows is exact and does neither. On a GPU TRL's own stays.
"""

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Attributes of a config that change logits after the head; TRL's own path knows them all, this one none.
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def why_not(model: "PreTrainedModel", device: str) -> str | None:
    """The reason to leave TRL's head in place, or None."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    if device != "cpu":
        return "TRL's fused head is used on accelerators"
    if any(getattr(config, name, None) is not None for name in LOGIT_CHANGES):
        return f"{config.model_type} changes its logits after the head"
    if head is None or head.weight.requires_grad or getattr(config, "output_router_logits", False):
        return "the head is trained, missing, or the model routes to experts"
    return None


def install(model: "PreTrainedModel", device: str) -> str:
    """Choose the head for training `model`, once its trainer exists; returns what was chosen, in words."""
    if (reason := why_not(model, device)) is not None:
        return f"TRL's ({reason})"
    if not getattr(model, "scores_supervised_only", False):
        score_supervised_only(model)
        model.scores_supervised_only = True
    return "supervised rows only"


def score_supervised_only(model: "PreTrainedModel") -> None:
    """Replace the forward that TRL patched for `fused_lm_head=True`; same output class, same numbers, fewer of them."""
    patched = model.forward

    @functools.wraps(type(model).forward)
    def forward(*args: Any, fused_lm_head: bool = False, labels: "torch.Tensor | None" = None, **kwargs: Any) -> Any:
        if not fused_lm_head or labels is None or "shift_labels" in kwargs:
            extra = {"fused_lm_head": True} if fused_lm_head else {}
            return patched(*args, **kwargs, **extra, **({"labels": labels} if labels is not None else {}))
        kwargs.pop("num_items_in_batch", None)
        hidden = model.base_model(*args, **kwargs | {"use_cache": False}).last_hidden_state[:, :-1]
        return _score(model, hidden, labels[:, 1:])

    model.forward = forward


def _score(model: "PreTrainedModel", hidden: "torch.Tensor", labels: "torch.Tensor") -> Any:
    """hidden (batch, length, width), labels (batch, length) -> per-token fields, zero where the label is -100."""
    import torch
    from trl.trainer.utils import FusedCausalLMOutput

    mask = labels != -100
    logits = model.get_output_embeddings()(hidden[mask]).float()
    log_probs = torch.log_softmax(logits, dim=-1)
    chosen = log_probs.gather(-1, labels[mask].unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        sum_sq = torch.logsumexp(2 * log_probs, dim=-1)
        top1 = logits.argmax(-1) == labels[mask]

    def spread(values: "torch.Tensor") -> "torch.Tensor":
        return values.new_zeros(mask.shape).masked_scatter(mask, values)

    return FusedCausalLMOutput(
        loss=-chosen.sum() / mask.sum().clamp(min=1),
        log_probs=spread(chosen),
        entropy=spread(entropy),
        log_sum_sq_probs=spread(sum_sq),
        mean_logits=spread(logits.detach().mean(-1)),
        is_top1=spread(top1),
        label_mask=mask,
    )
