"""Perplexity of texts: how well the model predicts them, token by token."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from stages.evaluation.measurement import PROMPT_SHOWN, Measurement, Row, Scored, at_least, scored

if TYPE_CHECKING:
    from stages.models.chain import Policy


@dataclass
class PerplexityParams:
    max_length: int = at_least(2, 256)  # tokens of a text that are read, the context token before it not counted


class Perplexity(Measurement):
    """Score: mean negative log-likelihood of a text's tokens in nats; weight: how many.

    The first token has a context where the tokenizer offers one: what it puts before a plain document itself, else
    BOS, else EOS (which ended the document before). Without any of them the first token is not scored.
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
                    found[i] = result(rows[i], -float(tokens.mean()), len(tokens))
        return [item for item in found if item is not None]


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


def result(row: Row, nll: float, tokens: int) -> Scored:
    return scored(
        row, nll, weight=float(tokens), prompt=row["text"][:PROMPT_SHOWN], answer=f"perplexity {math.exp(nll):.2f}"
    )
