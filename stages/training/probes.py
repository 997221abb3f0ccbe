"""Checks at every hand-over, run at the start of each training stage (`docs/probes.md` names what each has caught).

Each returns a Probe; `require` turns a failed one into an error that says what it means and what to do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.errors import DataError, JourneymanError, StageFailed
from stages.models.chain import Policy
from stages.models.chat import IGNORE, PROBE, Example, prompt_ids, template_digest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Probe:
    name: str
    passed: bool
    detail: str
    fix: str = ""
    error: type[JourneymanError] = StageFailed


def require(ctx: Context, probes: Sequence[Probe]) -> None:
    """Record all probes in the manifest; raise the first failed one's error."""
    rows = ctx.sections.get("probes", []) + [
        {k: v for k, v in asdict(p).items() if k in ("name", "passed", "detail")} for p in probes
    ]
    ctx.record("probes", rows)
    for probe in probes:
        if not probe.passed:
            raise probe.error(f"probe {probe.name} failed: {probe.detail}. {probe.fix}")


def tolerance(dtype: "torch.dtype") -> float:
    """How far two computations of the same log-probability may differ, in nats."""
    import torch

    return 1e-3 if dtype == torch.float32 else 0.15


def template_equals_upstream(policy: Policy) -> Probe:
    """The template as rendered now against the one that the input model's chain recorded."""
    return Probe(
        "template_equals_upstream",
        template_digest(policy.tokenizer) == policy.chain.template_digest,
        "a probe conversation renders to the tokens that the input model was trained with",
        "The chat template drifted between two stages; the tokenizer folder of the base artifact is its only source",
    )


def trained_tokens(examples: Sequence[Example], source: str) -> Probe:
    """Every row that is kept trains at least one token."""
    empty = sum(not example.trained for example in examples)
    return Probe(
        "trained_tokens",
        bool(examples) and empty == 0,
        f"{len(examples)} rows of {source}, {empty} without a trained token",
        "Raise max_length, or shorten the prompts",
        DataError,
    )


def one_bos(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example]) -> Probe:
    """No sequence starts with BOS twice, as rendering and then tokenizing with special tokens would make it."""
    bos = tokenizer.bos_token_id
    doubled = sum(bos is not None and example.ids[:2] == [bos, bos] for example in examples)
    return Probe(
        "one_bos", doubled == 0, f"{doubled} of {len(examples)} rows start with BOS twice",
        "Encode rendered text with add_special_tokens=False",
    )  # fmt: skip


def eos_is_trained(tokenizer: "PreTrainedTokenizerBase", labels: "torch.Tensor", expected: int) -> Probe:
    """The collated labels train EOS as often as answers end, also when the pad token is the EOS token."""
    found = int((labels == tokenizer.eos_token_id).sum())
    return Probe(
        "eos_is_trained",
        found >= expected,
        f"{found} trained EOS tokens in the first batch, {expected} answers or documents end in it",
        "A collator masks EOS (pad token = EOS?), so the model would never learn to stop",
    )


def next_token_logits(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> "torch.Tensor":
    """Log-probabilities after a fixed conversation: the fingerprint of what a model computes. Shape (vocabulary,)."""
    import torch

    ids = torch.tensor([prompt_ids(tokenizer, PROBE)], device=model.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, -1].float()
    model.train(was_training)
    return torch.log_softmax(logits, dim=-1)


def distance(expected: "torch.Tensor", found: "torch.Tensor") -> float:
    """Mean absolute difference of two sets of log-probabilities (V,), weighted by the probabilities of the first.

    Not the largest: 16-bit rounding moves those of tokens that nobody will ever draw by any amount.
    """
    return float((expected.exp() * (found - expected).abs()).sum())


def starts_at_input(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", before: "torch.Tensor") -> Probe:
    """With its fresh adapter on, the model still computes what its input policy computes."""
    gap = distance(before, next_token_logits(model, tokenizer))
    return Probe(
        "starts_at_input", gap <= tolerance(model.dtype),
        f"log-probabilities differ from the input policy's by {gap:.2g} on average",
        "The input's adapters are not all active, or the new adapter does not start at zero",
    )  # fmt: skip


def reference_is_input(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", before: "torch.Tensor") -> Probe:
    """With the newest adapter off, the model is the input policy with its whole chain: not the bare base."""
    with model.disable_adapter():
        gap = distance(before, next_token_logits(model, tokenizer))
    return Probe(
        "reference_is_input", gap <= tolerance(model.dtype),
        f"log-probabilities differ from the input policy's by {gap:.2g} on average",
        "The reference is another model than the one that preference training starts from",
    )  # fmt: skip


def loss_is_log_2(first_loss: float, model_dtype: "torch.dtype") -> Probe:
    """At step 0 policy and reference agree, so the sigmoid DPO loss is log 2 on every pair."""
    return Probe(
        "loss_is_log_2", abs(first_loss - math.log(2)) <= tolerance(model_dtype),
        f"DPO loss at step 0 is {first_loss:.5f}, log 2 is {math.log(2):.5f}",
        "Policy and reference differ before the first step",
    )  # fmt: skip


def loss_is_half(first_loss: float, weight: float, model_dtype: "torch.dtype") -> Probe:
    """At step 0 policy and reference agree, so KTO's loss is half the mean weight of the batch's labels."""
    return Probe(
        "loss_is_half", abs(first_loss - weight / 2) <= tolerance(model_dtype) * weight,
        f"KTO loss at step 0 is {first_loss:.5f}, half the mean weight is {weight / 2:.5f}",
        "Policy and reference differ before the first step",
    )  # fmt: skip


def packed_equals_unpacked(
    model: "PreTrainedModel", examples: Sequence[Example], collate: Callable[[list[dict]], dict[str, Any]]
) -> Probe:
    """Summed loss of a few documents in one row, by the training step, against plain logits of one after another."""
    import torch
    from torch.nn.functional import cross_entropy

    def apart(example: Example) -> float:
        logits = model(input_ids=torch.tensor([example.ids], device=model.device), use_cache=False).logits[0, :-1]
        return float(cross_entropy(logits.float(), torch.tensor(example.ids[1:], device=model.device), reduction="sum"))

    def together(examples: Sequence[Example]) -> float:
        ids, labels = ([i for e in examples for i in e.ids], [i for e in examples for i in e.labels])
        batch = collate([{"input_ids": ids, "labels": labels, "seq_lengths": [len(e.ids) for e in examples]}])
        inputs = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        return -float(model(**inputs, use_cache=False, fused_lm_head=True).log_probs.sum())

    cut = [Example(e.ids[:48], [IGNORE, *e.ids[1:48]]) for e in examples[:3]]  # every token but the first is scored
    was_training = model.training
    model.eval()
    with torch.no_grad():
        wanted, found = sum(apart(example) for example in cut), together(cut)
    model.train(was_training)
    gap = abs(found - wanted) / max(abs(wanted), 1e-9)
    return Probe(
        "packed_equals_unpacked", gap <= (1e-4 if model.dtype == torch.float32 else 2e-2),
        f"loss of {len(cut)} documents packed {found:.4f}, apart {wanted:.4f}",
        "Documents in one row see each other: their positions are not reset, or the attention ignores it",
    )  # fmt: skip
