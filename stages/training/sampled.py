"""Rehearsal that the start model writes itself: plain documents, sampled once and kept for a resume."""

import json
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from pipeline.context import Context
from pipeline.errors import ConfigError, DataError
from stages.data.shares import LATER
from stages.models.chain import Policy, load_policy
from stages.models.chat import document_prefix, encode
from stages.training import several

BATCH = 16  # documents written at once


@dataclass
class Sampled:
    """How the start model writes."""

    max_new_tokens: int = field(default=256, metadata=LATER)  # of one document at most
    temperature: float = field(default=1.0, metadata=LATER)  # 1 = the model's own distribution


def check_sampled(asked: Sampled) -> None:
    """ConfigError for settings that cannot work."""
    if asked.max_new_tokens < 1:
        raise ConfigError(f"rehearsal.sampled.max_new_tokens={asked.max_new_tokens}: use 1 or more")
    if not (isfinite(asked.temperature) and asked.temperature > 0):
        raise ConfigError(f"rehearsal.sampled.temperature={asked.temperature}: give a positive number")


def sampled_rows(ctx: Context, policy: Policy, tokens: int) -> list[dict[str, Any]]:
    """Documents of at least `tokens` tokens by the start model of the policy's chain.

    They are kept in `ctx.ckpt`, so that a resumed stage trains on the same ones, and published as data/sampled.jsonl.
    The start model is a second model in memory while it writes. DataError when it writes nothing.
    """
    kept, published = ctx.ckpt / "sampled.jsonl", ctx.out / "data" / "sampled.jsonl"
    if ctx.rank == 0 and not kept.is_file():
        ctx.log(f"the start model writes {tokens} tokens of rehearsal")
        lines = "".join(json.dumps({"text": text}) + "\n" for text in _write(ctx, policy, tokens))
        ctx.ckpt.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(lines, encoding="utf-8")
        part.rename(kept)  # whole or not at all
    several.meet()
    published.parent.mkdir(parents=True, exist_ok=True)
    published.write_bytes(kept.read_bytes())
    return [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]


def _write(ctx: Context, policy: Policy, tokens: int) -> list[str]:
    """Texts in batches until there are enough tokens; empty ones are left out."""
    import torch

    start = load_policy(
        ctx.lineage[policy.chain.base["artifact"]], ctx.lineage, device=policy.device, method=ctx.config.peft.method,
        cache=ctx.cache,
    )  # fmt: skip
    texts: list[str] = []
    written = 0
    with torch.random.fork_rng(devices=[policy.device] if policy.device == "cuda" else []):
        torch.manual_seed(ctx.config.seed)
        while written < tokens:
            new = _batch(start, ctx.config.rehearsal.sampled)
            texts += new
            count = sum(len(encode(start.tokenizer, text)) for text in new)
            if not count:
                raise DataError(
                    "rehearsal.sources: the start model ends its documents before they begin, so there is nothing to "
                    "rehearse from sampled:start; take it out of rehearsal.sources"
                )
            written += count
    return texts


def _batch(start: Policy, asked: Sampled) -> list[str]:
    """Documents from their first token on: after what the tokenizer puts before one, or else after the end of one."""
    import torch

    tokenizer = start.tokenizer
    model: Any = start.model
    prefix = document_prefix(tokenizer) or [tokenizer.eos_token_id]
    ids = torch.tensor([prefix] * BATCH, device=start.device)
    with torch.inference_mode():
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=asked.temperature, top_k=0, top_p=1.0,
            max_new_tokens=asked.max_new_tokens, pad_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
    texts = tokenizer.batch_decode(made[:, len(prefix) :], skip_special_tokens=True)
    return [text.strip() for text in texts if text.strip()]
