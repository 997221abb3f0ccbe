"""Whether an engine that wrote answers computes with the weights of the policy: log-probabilities against each other.

Weights that are not those of the policy would go unseen otherwise: answers stay fluent, and training goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.errors import StageFailed
from stages.kernels.lora import bare
from stages.kernels.prefill import Ids, batches, logits_at, padded
from stages.kernels.rollout import Answer
from stages.models.chain import Policy

FAR = 0.3  # nats a token, on average over many, by which two right computations in 16 bits never differ
ROUNDING = 0.07  # nats a token that they do differ by, as the root of the mean square
MISSING = 0.25  # of what the adapters do, that may seem to be missing
CHECKED = 64  # answers of a rollout that are computed without adapters, too
Lists = list[list[float]]  # a log-probability for each token of each answer


@dataclass(frozen=True)
class Spread:
    """How the log-probabilities of an engine differ from the policy's own, in nats a token at temperature 1."""

    mean: float  # of absolute differences
    largest: float
    tokens: int
    missing: float | None = None  # share of what the adapters do; None where they do too little to tell

    def check(self) -> None:
        """StageFailed where rounding does not explain the difference."""
        far = FAR * (1 + 10 / self.tokens)  # of a few tokens one may be far off
        if self.mean <= far and abs(self.missing or 0.0) <= MISSING:  # not so for NaN
            return
        share = "" if self.missing is None else f", as if {self.missing:.0%} of its adapters were missing"
        raise StageFailed(
            f"engine=vllm: vLLM's log-probabilities of its own answers differ from the policy's by {self.mean:.3g} "
            f"nats a token (at most {self.largest:.3g}){share}. Rounding does not explain that: vLLM holds other "
            "weights than the policy. Use engine=own"
        )


def own_view(policy: Policy, prompts: list[Ids], answers: list[Answer], temperature: float, micro_batch: int) -> Spread:
    """Put the policy's log-probabilities at `temperature` in the place of those that the engine told at temperature 1;
    how these differ from the policy's. StageFailed for answers that were not drawn from the policy."""
    told = [answer.log_probs for answer in answers]
    written = [answer.ids + ([] if answer.end is None else [answer.end]) for answer in answers]
    own, asked = log_probs(policy, prompts, written, (1.0, temperature), micro_batch)
    with bare(policy.model):
        (base,) = log_probs(policy, prompts[:CHECKED], written[:CHECKED], (1.0,), micro_batch)
    off = [abs(a - b) for mine, theirs in zip(own, told, strict=True) for a, b in zip(mine, theirs, strict=True)]
    spread = Spread(sum(off) / len(off), max(off), len(off), missing(told, own, base))
    spread.check()
    for answer, found in zip(answers, asked, strict=True):
        answer.log_probs = found
    return spread


def missing(told: Lists, own: Lists, base: Lists) -> float | None:
    """Which share of the adapters' effect the engine lacks: the slope of its differences from the policy over those of
    the base alone. 1: it has none of them; 0: all; -1: twice. `base` may be that of the first answers only.

    None where the effect is not clear of rounding: of each token by a factor of three, and of all together so that
    rounding moves the slope by MISSING at five standard errors only.
    """
    engine, policy, without = (
        torch.tensor([x for row in rows[: len(base)] for x in row], dtype=torch.float64) for rows in (told, own, base)
    )
    effect = without - policy
    if effect.square().mean().sqrt() < 3 * ROUNDING or effect.norm() < 5 * ROUNDING / MISSING:
        return None
    return float(((engine - policy) * effect).sum() / effect.square().sum())


@torch.inference_mode()
def log_probs(
    policy: Policy, prompts: Sequence[Ids], written: Sequence[Ids], temperatures: Sequence[float], micro_batch: int
) -> list[Lists]:
    """For each temperature, for each answer, what the policy says of every token of it."""
    found: list[Lists] = [[[] for _ in written] for _ in temperatures]
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, written, strict=True)]
    for batch in batches(lengths, micro_batch, policy.device):
        ids, mask = padded([prompts[i] + written[i] for i in batch], policy)
        places = [(row, len(prompts[i]) - 1 + at) for row, i in enumerate(batch) for at in range(len(written[i]))]
        rows, columns = torch.tensor(places, device=policy.device).T
        logits, _ = logits_at(policy, rows, columns, input_ids=ids, attention_mask=mask, use_cache=False)
        tokens = ids[rows, columns + 1][:, None]
        for into, temperature in zip(found, temperatures, strict=True):
            flat = iter((logits / temperature).log_softmax(dim=1).gather(1, tokens)[:, 0].tolist())
            for i in batch:
                into[i] = [next(flat) for _ in written[i]]
    return found
