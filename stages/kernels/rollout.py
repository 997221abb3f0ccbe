"""Answers sampled from a model, with the log-probability of every token: for PPO and for evaluation.

Prompts of like length go through together, what they all begin with and each prompt are computed once for all samples,
and a finished answer leaves the batch. Every answer draws from a random stream of its own, so that it does not depend
on which others it is sampled with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import ConfigError
from stages.kernels.prefill import Filled, Ids, PromptCache, batches, logits_at
from stages.models.chain import Policy

TOKENS_CACHED = {"cpu": 32768, "cuda": 262144}  # a step reads all weights for one token a row, so many rows
Stopped = Callable[[Ids], bool]  # of the answer's tokens so far
LEAVING = 0.8  # of the rows still open: copying the cache costs about a step, so not for every single row


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    max_new_tokens: int
    temperature: float = 1.0  # 0 = the most probable token each time
    top_k: int = 0  # of the most probable tokens only; 0 = of all
    top_p: float = 1.0  # of the most probable tokens that together have this probability
    samples: int = 1  # answers to each prompt
    seed: int = 0

    def check(self) -> None:
        """ConfigError for settings that cannot work."""
        if self.max_new_tokens < 1 or self.samples < 1:
            raise ConfigError(
                f"max_new_tokens={self.max_new_tokens} and samples={self.samples}: both must be 1 or more"
            )
        if not (0 <= self.temperature < float("inf")):
            raise ConfigError(f"temperature={self.temperature}: give 0 for greedy answers, or a positive number")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ConfigError(f"top_k={self.top_k} must be 0 or more and top_p={self.top_p} above 0 and up to 1")


@dataclass
class Answer:
    """What follows one prompt. The token that ends the turn is no part of `ids`; `log_probs` has it where it came.

    `log_probs` are those of the whole distribution at the sampling temperature (1 for greedy answers), before top-k
    and top-p cut it: one for each of `ids`, and one more where `ended`.
    """

    ids: Ids
    log_probs: list[float]
    end: int | None = None  # the token that ended it; None: it was cut at `max_new_tokens`

    @property
    def ended(self) -> bool:
        return self.end is not None


@dataclass
class Open:
    """The rows that are still being written: which answer each is, and its random numbers (B, max_new_tokens)."""

    filled: Filled
    place: Tensor
    draws: Tensor | None

    def take(self, index: Tensor) -> "Open":
        return Open(self.filled.take(index), self.place[index], None if self.draws is None else self.draws[index])


def rollout(
    policy: Policy, prompts: list[Ids], sampling: Sampling, micro_batch: int = 0, stopped: Stopped | None = None,
    numbers: Sequence[int] | None = None,
) -> list[Answer]:  # fmt: skip
    """`sampling.samples` answers to each prompt, those to one prompt next to each other, by the policy's engine.

    `micro_batch`: prompts at once; 0 = what fits the device. `stopped`: whether an answer is complete although its turn
    has not ended. `numbers`: of the prompts, which decide what is drawn for them; None: their places here. Raises
    ConfigError for a sampling that cannot work.
    """
    sampling.check()
    if not prompts:
        return []
    write = _written if policy.engine is None else policy.engine.rollout
    return write(policy, prompts, sampling, micro_batch, stopped, range(len(prompts)) if numbers is None else numbers)


@torch.inference_mode()
def _written(
    policy: Policy, prompts: list[Ids], sampling: Sampling, micro_batch: int, stopped: Stopped | None,
    numbers: Sequence[int],
) -> list[Answer]:  # fmt: skip
    k, shared = sampling.samples, PromptCache(policy, prompts)
    answers = [Answer([], []) for _ in range(len(prompts) * k)]
    lengths = [k * (len(prompt) + sampling.max_new_tokens) for prompt in prompts]
    for batch in batches(lengths, micro_batch, policy.device, TOKENS_CACHED):
        filled = shared.fill([prompts[i] for i in batch])
        if k > 1:
            filled = filled.take(torch.arange(len(batch), device=policy.device).repeat_interleave(k))
        places = [i * k + sample for i in batch for sample in range(k)]
        drawn = [numbers[i] * k + sample for i in batch for sample in range(k)]
        rows = Open(filled, torch.tensor(places), _draws(sampling, drawn, policy.device))
        _write(policy, rows, sampling, answers, stopped)
    return answers


def _draws(sampling: Sampling, places: list[int], device: str) -> Tensor | None:
    """Uniform numbers, a row for each answer, that depend on the seed and on the answer's number alone."""
    if sampling.temperature == 0:
        return None
    import numpy

    rows = [numpy.random.default_rng([sampling.seed, place]).random(sampling.max_new_tokens) for place in places]
    return torch.from_numpy(numpy.stack(rows)).to(device)


def _write(
    policy: Policy, rows: Open, sampling: Sampling, answers: list[Answer], stopped: Stopped | None = None
) -> None:
    """Token by token until every row has ended, is `stopped` or has `max_new_tokens`."""
    stop = torch.tensor(sorted(end_tokens(policy)), device=policy.device)
    rows.filled.grow(sampling.max_new_tokens)
    open_ = torch.ones(len(rows.place), dtype=torch.bool)
    for number in range(sampling.max_new_tokens):
        logits = _feed(policy, rows.filled)
        tokens, log_probs = pick(logits, sampling, None if rows.draws is None else rows.draws[:, number])
        rows.filled.last = tokens
        ending = torch.isin(tokens, stop).cpu()
        for row in open_.nonzero()[:, 0].tolist():
            answer, token = answers[rows.place[row]], int(tokens[row])
            answer.log_probs.append(float(log_probs[row]))
            if ending[row]:
                answer.end = token
            else:
                answer.ids.append(token)
                ending[row] = stopped is not None and stopped(answer.ids)
        open_ &= ~ending
        left = int(open_.sum())
        if not left:
            return
        if left <= LEAVING * len(open_):
            rows, open_ = rows.take(open_.nonzero()[:, 0].to(policy.device)), open_[open_]


def _feed(policy: Policy, filled: Filled) -> Tensor:
    """Logits (B, V) after the last tokens, which go into the cache."""
    rows = torch.arange(len(filled.last), device=policy.device)
    filled.mask = torch.cat([filled.mask, filled.mask.new_ones(len(rows), 1)], dim=1)
    logits, filled.cache = logits_at(
        policy, rows, torch.zeros_like(rows), input_ids=filled.last[:, None], attention_mask=filled.mask,
        position_ids=filled.position[:, None], past_key_values=filled.cache, use_cache=True,
    )  # fmt: skip
    filled.position = filled.position + 1
    return logits


def pick(logits: Tensor, sampling: Sampling, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """A token (B,) of each row of logits (B, V), and its log-probability before top-k and top-p.

    `draws` (B,) in [0, 1) choose by inverting the cumulative distribution over tokens. Top-k (Fan et al. 2018) and
    top-p (Holtzman et al. 2020) cut it where tokens run from the most to the least probable.
    """
    if draws is None:
        tokens = logits.argmax(dim=1)
        return tokens, logits.log_softmax(dim=1).gather(1, tokens[:, None])[:, 0]
    log_probs = (logits / sampling.temperature).log_softmax(dim=1)
    found, order = _order(log_probs, sampling)
    upto = found.double().softmax(dim=1).cumsum(dim=1)
    last = (upto < sampling.top_p).sum(dim=1, keepdim=True).clamp(max=upto.shape[1] - 1)
    reach = draws.double()[:, None] * upto.gather(1, last)
    chosen = torch.searchsorted(upto, reach, right=True).minimum(last)  # a product may round up to the border itself
    return order.gather(1, chosen)[:, 0], found.gather(1, chosen)[:, 0]


def _order(log_probs: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Log-probabilities from the most to the least probable, with their tokens; as they are where nothing is cut."""
    if sampling.top_k:
        return log_probs.topk(min(sampling.top_k, log_probs.shape[1]), dim=1)
    if sampling.top_p < 1:
        return log_probs.sort(dim=1, descending=True)
    return log_probs, torch.arange(log_probs.shape[1], device=log_probs.device).expand_as(log_probs)


def end_tokens(policy: Policy) -> set[int]:
    """Ids that end an answer: the tokenizer's EOS and those that the model's own generation config adds."""
    own: Any = policy.model.generation_config.eos_token_id if policy.model.generation_config else None
    own = own if isinstance(own, list) else [own]
    return {token for token in [policy.tokenizer.eos_token_id, *own] if token is not None}
