"""Perplexity of texts: how well the model predicts them, token by token."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from pipeline.judging.statistics import Items, estimate
from stages.evaluation.measurement import PROMPT_SHOWN, Measurement, Row, Scored, at_least, option, scored

if TYPE_CHECKING:
    from stages.models.chain import Policy


@dataclass
class PerplexityParams:
    max_length: int = at_least(2, 256)  # tokens of a text that are read, the context token before it not counted
    unit: str = option("token", "token", "byte")  # byte: comparable between models with different tokenizers


class Perplexity(Measurement):
    """Score: mean negative log-likelihood of a text in nats for each token (or byte of UTF-8); weight: how many.

    The first token has a context where the tokenizer offers one: what it puts before a plain document itself, else
    BOS, else EOS (which ended the document before). Without any of them the first token is not scored. The details have
    `bits_per_byte` = nats / (bytes ln 2), whatever the unit.
    """

    params, fields = PerplexityParams, ("text",)

    def metric(self, params: PerplexityParams) -> tuple[str, bool]:
        return "perplexity", False

    def check(self, row: Row, params: PerplexityParams) -> None:
        if not isinstance(row["text"], str) or not row["text"].strip():
            raise DataError(f"item {row['id']}: `text` is empty")

    def run(self, policy: "Policy", rows: list[Row], params: PerplexityParams, micro_batch: int) -> list[Scored]:
        import torch

        from stages.evaluation.forward import check_lengths, token_log_probs
        from stages.kernels.prefill import batches

        texts = [sequence(policy, row["text"], params.max_length) for row in rows]
        check_lengths(policy, rows, [len(text) for text in texts])
        found: list[Scored | None] = [None] * len(rows)
        with torch.inference_mode():
            for batch in batches([len(text) for text in texts], micro_batch, policy.device):
                for i, tokens in zip(batch, token_log_probs(policy, [texts[i] for i in batch]), strict=True):
                    size = read_bytes(policy, rows[i]["text"], texts[i][-len(tokens) :], params.max_length)
                    found[i] = result(rows[i], -float(tokens.sum()), len(tokens), size, params.unit)
        return [item for item in found if item is not None]

    def details(self, items: list[Scored], params: PerplexityParams) -> dict[str, Any]:
        return {"metrics": {"bits_per_byte": bits_per_byte(items)}}


def sequence(policy: "Policy", text: str, max_length: int) -> list[int]:
    """Context token and the text's first `max_length` tokens."""
    from stages.models.chat import document_prefix, encode

    tokenizer = policy.tokenizer
    context = (
        document_prefix(tokenizer) or [t for t in (tokenizer.bos_token_id, tokenizer.eos_token_id) if t is not None][:1]
    )
    ids = [*context, *encode(tokenizer, text)[:max_length]]
    if len(ids) < 2:
        raise DataError(
            f"the text {text!r} is a single token and the tokenizer has none to put before it: leave it out"
        )
    return ids


def read_bytes(policy: "Policy", text: str, ids: list[int], max_length: int) -> int:
    """Bytes of UTF-8 that the scored tokens `ids` stand for: of the text's first `max_length`, or of all but the first.

    A tokenizer that does not say where its tokens are is asked to write them out again.
    """
    if not policy.tokenizer.is_fast:
        return len(policy.tokenizer.decode(ids).encode())
    places = policy.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    read = places[:max_length]
    start = read[-len(ids)][0] if len(ids) < len(read) else 0
    end = read[-1][1] if len(read) < len(places) else len(text)
    return len(text[start:end].encode())


def result(row: Row, nats: float, tokens: int, size: int, unit: str) -> Scored:
    count = size if unit == "byte" else tokens
    told = f"perplexity {math.exp(nats / count):.2f}"
    values = {"bytes": float(size)}
    return scored(row, nats / count, weight=float(count), prompt=row["text"][:PROMPT_SHOWN], answer=told, values=values)


def bits_per_byte(items: list[Scored]) -> dict[str, Any]:
    """Bits for each byte of all texts together, with its interval."""
    sizes = np.array([item.values["bytes"] for item in items])
    bits = np.array([item.score * item.weight for item in items]) / sizes / math.log(2)
    found = estimate(Items([item.item for item in items], [item.cluster for item in items], bits, sizes), "mean")
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
