"""The fast step: what a TRL trainer's model does when it is asked for log-probabilities of labels, or for rewards.

TRL's trainers call `model(..., labels=labels, fused_lm_head=True)` and build every loss on the per-token fields of the
answer. Here that one call is answered without padding, with shared prompts computed once, with the output layer on
supervised tokens only, and with fused low-rank layers: the same numbers up to rounding. A reward model's call is
answered likewise (`ends`). TRL's own stays the reference in the tests, and is what runs with `step: trl`.
"""

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, StageFailed

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer
    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline.schema import Runtime
    from stages.kernels.layout import Row

STEPS = ("fast", "trl")

# Model types whose every layer hands unknown keywords on to its attention, checked against TRL in the tests.
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")
MODEL_INPUTS = {"input_ids", "attention_mask", "position_ids", "use_cache", "num_items_in_batch"}
LAYOUT = {
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "max_length_q",
    "max_length_k",
    "seq_idx",
}  # said by positions
# What TRL's reward trainer and PEFT's wrapper pass on, and what changes nothing in a score.
JUDGED_WITHOUT = {"use_cache", "margin", "return_dict"}
BY_LENGTH = {"dynamic", "longrope"}


def why_not(model: "PreTrainedModel") -> str | None:
    """The reason why `model` has to take TRL's own step, or None."""
    from stages.kernels import lora

    config = model.config  # a text model inside a larger one is another model
    if config.model_type not in ARCHITECTURES:
        return f"the architecture {config.model_type} has not been checked; known are {', '.join(ARCHITECTURES)}"
    if not _judges(model) and (reason := _head_forbids(model.get_output_embeddings())):
        return reason
    if getattr(config, "attention_dropout", 0.0):
        return "attention dropout"
    if getattr(config, "use_bidirectional_attention", False):
        return "attention in both directions"
    if _temperature(model) != 1.0 and getattr(config, "final_logit_softcapping", None) is not None:
        return "answers drawn at another temperature than 1 from capped logits"
    if BY_LENGTH & _rope_types(config):
        return "rotary positions that depend on the length of the batch"
    return next(filter(None, map(lora.forbids_sharing, _low_rank_layers(model))), None)


def _temperature(model: "PreTrainedModel") -> float:
    """That at which the answers were drawn, as a trainer that draws them itself leaves it on the model."""
    return float(getattr(model, "answer_temperature", 1.0))


def _judges(model: "PreTrainedModel") -> bool:
    """Whether it is a reward model: a score of the last token, whose layer may be trained."""
    return type(model).__name__.endswith("ForSequenceClassification")


def _head_forbids(head: Any) -> str | None:
    import torch

    if type(head) is not torch.nn.Linear or head.weight.requires_grad:  # PEFT's own layer is called Linear too
        return "the output layer is trained, adapted or missing"
    return None


def _rope_types(config: Any) -> set[str]:
    """The kinds of rotary positions, of all layers or of each type of layer."""
    said = getattr(config, "rope_parameters", None) or {}
    return {part.get("rope_type", "default") for part in (said, *said.values()) if isinstance(part, dict)}


def _low_rank_layers(model: "PreTrainedModel") -> "list[LoraLayer]":
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _named(model: "PreTrainedModel", ending: str) -> list[Any]:
    """The modules whose class is called so in every architecture that is known here."""
    return [module for module in model.modules() if type(module).__name__.endswith(ending)]


def check(step: str, known: tuple[str, ...], runtime: "Runtime") -> None:
    """ConfigError for a step that is not known, or `runtime.kernels` that it would not use or this machine not run."""
    if step not in known:
        raise ConfigError(f"step={step}: use one of {', '.join(known)}")
    if runtime.kernels == "plain":
        return
    if step != "fast":
        raise ConfigError(
            f"runtime.kernels={runtime.kernels}: only step: fast reads it, and step is {step}; take it out"
        )
    from stages.models.chain import resolve_device

    _check_triton(resolve_device(runtime.device))


def _check_triton(device: str) -> None:
    if device == "cpu":
        raise ConfigError("runtime.kernels=triton needs a GPU, and the device here is cpu; use runtime.kernels=plain")
    try:
        import triton  # noqa: F401
    except ImportError:
        raise ConfigError(
            "runtime.kernels=triton: the package triton is not installed. A CUDA build of torch brings it along; "
            "use runtime.kernels=plain without it"
        ) from None


def install(model: "PreTrainedModel", step: str, kernels: str = "plain") -> str:
    """Make `model`, once its trainer exists, take the step that `step` names; returns what it takes, in words.

    `kernels: triton`: passes over memory are those of `passes`, see `check`.
    """
    from stages.kernels import mlp, norm, qkv, rotary

    if step == "trl":
        return "trl (asked for)"
    if (reason := why_not(model)) is not None:
        return f"trl ({reason})"
    if not getattr(model, "takes_fast_step", False):
        (_judge if _judges(model) else _answer)(model)
        model.takes_fast_step = True
    model.triton_kernels = triton = kernels == "triton"
    layers, left = _fuse_adapters(model)
    fused = {
        "low-rank layers": layers,
        "QKVs": sum(map(qkv.fuse, _named(model, "Attention"))),
        "MLPs": sum(mlp.fuse(module, triton) for module in _named(model, "MLP")),
        "norms": sum(norm.fuse(module, triton) for module in _named(model, "RMSNorm")),
        "rotations": sum(map(rotary.fuse, _named(model, "Attention"))) if triton else 0,
    }
    told = ", ".join(f"{count} {name}" for name, count in fused.items() if count or name == "low-rank layers")
    by = ", by Triton kernels" if triton else ""
    return f"fast (fused{by}: {told}{f'; {len(left)} not: ' + left[0] if left else ''})"


def _judge(model: "PreTrainedModel") -> None:
    """Replace a reward model's forward."""
    from stages.kernels import ends

    _with_tree(model)

    @functools.wraps(type(model).forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        said = {key: value for key, value in kwargs.items() if value is not None and value is not False}
        given = {key: value for key, value in said.items() if key not in JUDGED_WITHOUT}
        if args or not {"input_ids"} <= given.keys() <= {"input_ids", "attention_mask"}:
            extra = ", ".join(sorted(given.keys() - {"input_ids", "attention_mask"})) or "positional arguments"
            raise StageFailed(
                f"a reward model is called with {extra}, which the fast step does not read; set step: trl"
            )
        return ends.scores(model, **given)

    model.forward = forward


def _with_tree(model: "PreTrainedModel") -> Any:
    """Let attention know trees; returns the forward that is there now."""
    from stages.kernels import tree

    tree.register()
    model.set_attn_implementation(tree.ATTENTION)
    return model.forward


def _answer(model: "PreTrainedModel") -> None:
    """Replace the forward that TRL has patched; every other call goes on to it."""
    patched = _with_tree(model)

    @functools.wraps(type(model).forward)
    def forward(*args: Any, fused_lm_head: bool = False, labels: "Tensor | None" = None, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return patched(*args, **kwargs, **({} if labels is None else {"labels": labels}))
        given = {key: value for key, value in kwargs.items() if value is not None and key not in LAYOUT}
        if model.training and hasattr(model.get_input_embeddings(), "neftune_noise_alpha"):
            raise StageFailed("train.neftune_noise_alpha draws noise for each row of a batch; set step: trl")
        if args or labels is None or not given.keys() <= MODEL_INPUTS:
            extra = ", ".join(sorted(given.keys() - MODEL_INPUTS)) or "positional arguments or no labels"
            raise StageFailed(
                f"the trainer passes {extra} to the model, which the fast step does not read; set step: trl"
            )
        return log_probs(model, labels=labels, **given)

    model.forward = forward


def log_probs(
    model: "PreTrainedModel", *, input_ids: "Tensor", labels: "Tensor", attention_mask: "Tensor | None" = None,
    position_ids: "Tensor | None" = None, num_items_in_batch: "Tensor | int | None" = None, use_cache: bool = False,
) -> Any:  # fmt: skip
    """Per-token fields, (B, L - 1) each, zero where the label is -100, of a batch (B, L) as TRL collates it.

    `num_items_in_batch`: what the sum of losses is divided by; None: the batch's supervised tokens.
    """
    import torch

    from stages.kernels import head, layout
    from stages.kernels.tree import no_mask

    batch = list(layout.sequences(input_ids, labels, attention_mask, position_ids))
    row = layout.lay_out(batch, input_ids.device)
    hidden = model.base_model(
        input_ids=row.ids, position_ids=row.tree.positions(), attention_mask=no_mask(row.ids.device), tree=row.tree,
        use_cache=False,
    ).last_hidden_state[0]  # fmt: skip
    output, plain = model.get_output_embeddings(), head.logits_of(model)
    logits = replace(plain, scale=plain.scale / _temperature(model))
    asked, which = torch.stack([row.after, row.targets], dim=1).unique(dim=0, return_inverse=True)  # equal ones once
    scores = head.score(
        hidden[asked[:, 0]], output.weight, output.bias, asked[:, 1], logits, triton=model.triton_kernels
    )
    fields = {name: value[which] for name, value in vars(scores).items()}
    return _spread(fields, row, labels[:, 1:] != layout.IGNORE, num_items_in_batch)


def _spread(fields: "dict[str, Tensor]", row: "Row", mask: "Tensor", items: "Tensor | int | None") -> Any:
    """Values of N supervised tokens at their places in fields of shape (B, L - 1)."""
    from trl.trainer.utils import FusedCausalLMOutput

    placed = {name: value.new_zeros(mask.shape).index_put(row.place, value) for name, value in fields.items()}
    loss = -placed["log_probs"].sum() / (mask.sum().clamp(min=1) if items is None else items)
    return FusedCausalLMOutput(loss=loss, label_mask=mask, **placed)


def _fuse_adapters(model: "PreTrainedModel") -> tuple[int, list[str]]:
    """Fuse every low-rank layer that can be; returns how many, and the reasons of those that cannot."""
    from stages.kernels import lora

    reasons, fused = [], 0
    for layer in _low_rank_layers(model):
        reason = lora.why_not(layer)
        if reason is None:
            lora.fuse(layer)
            fused += 1
        else:
            reasons.append(reason)
    return fused, reasons
