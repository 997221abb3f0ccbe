"""Forward passes that compute only what is read: logits at chosen positions, shared prompts once.

Shapes: B rows, L cached positions, T new positions, N positions read, V words of the vocabulary.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import DataError, StageFailed
from stages.evaluation.measurement import Row
from stages.models.chain import Policy
from stages.models.chat import prompt_ids

TOKENS_PER_PASS = {"cpu": 1024, "cuda": 16384}  # more does not make a pass faster, and the logits take V floats a token
TOKENS_CACHED = {"cpu": 8192, "cuda": 32768}  # of decoding: a step reads all weights for one token a row, so many rows

Ids = list[int]


def prompts_of(policy: Policy, rows: list[Row]) -> list[Ids]:
    """The prompt of every row as token ids, up to where the model's answer starts."""
    return [prompt_ids(policy.tokenizer, row["prompt"]) for row in rows]


def check_lengths(policy: Policy, rows: list[Row], lengths: list[int]) -> None:
    """Raise DataError for an item that is longer than what the model can read."""
    limit = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    for row, length in zip(rows, lengths, strict=True):
        if limit is not None and length > limit:
            raise DataError(f"item {row['id']} takes {length} tokens, the model reads at most {limit}; shorten it")


def batches(
    lengths: list[int], micro_batch: int, device: str, budget: dict[str, int] = TOKENS_PER_PASS
) -> Iterator[list[int]]:
    """Indices of items of like length, longest first: `micro_batch` of them, or what fits the device's token budget."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        fit = max(1, budget[torch.device(device).type] // max(1, lengths[order[0]]))
        size = micro_batch or fit
        yield order[:size]
        order = order[size:]


def logits_at(policy: Policy, rows: Tensor, columns: Tensor, **inputs: Any) -> tuple[Tensor, Any]:
    """Logits (N, V) in float32 at positions (rows[i], columns[i]) of one pass, and the pass's key/value cache.

    A hook hands only these positions to the output layer. The model's own forward runs otherwise unchanged, so what an
    architecture does to its logits afterwards (soft caps, scaling) still happens.
    """
    seen = []

    def choose(module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(len(args))
        return (args[0][rows, columns][None], *args[1:])

    hook = policy.model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        output = policy.model(**inputs)
    finally:
        hook.remove()
    if seen != [1]:
        raise StageFailed(
            f"{type(policy.model).__name__} does not call its output layer once, with hidden states alone"
        )
    return output.logits[0].float(), getattr(output, "past_key_values", None)


def log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of targets (N,) under logits (N, V), in float64 so that sums do not depend on their order."""
    picked = logits.gather(1, targets[:, None])[:, 0]
    return (picked - logits.logsumexp(dim=1)).double()


def padded(sequences: list[Ids], policy: Policy, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids and mask of shape (B, longest), filled up with 0 on the right or left."""
    width = max(map(len, sequences), default=0)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for i, sequence in enumerate(sequences):
        where = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[i, where] = torch.tensor(sequence, dtype=torch.long)
        mask[i, where] = 1
    return ids.to(policy.device), mask.to(policy.device)


def token_log_probs(policy: Policy, sequences: list[Ids]) -> list[Tensor]:
    """Log-probability of every token but the first of each sequence, one pass over the batch."""
    ids, mask = padded(sequences, policy)
    rows, columns = mask[:, 1:].nonzero(as_tuple=True)
    # Padding is on the right, where causal attention never looks: no mask, so the faster attention path is taken.
    logits, _ = logits_at(policy, rows, columns, input_ids=ids, use_cache=False)
    found = log_probs(logits, ids[rows, columns + 1]).cpu()
    return list(found.split([len(sequence) - 1 for sequence in sequences]))


@dataclass
class Filled:
    """Prompts without their last token, in the cache: mask (B, L), last token (B,), its position (B,)."""

    cache: Any
    mask: Tensor
    last: Tensor
    position: Tensor

    def take(self, index: Tensor) -> "Filled":
        """These rows, any number of times each."""
        if self.cache is not None:
            self.cache.batch_select_indices(index)
        return Filled(self.cache, self.mask[index], self.last[index], self.position[index])


class PromptCache:
    """Key/values of prompts. What all prompts of a suite begin with (a system turn, mostly) is computed once."""

    def __init__(self, policy: Policy, prompts: list[Ids]) -> None:
        self.policy = policy
        self.shared = 0 if looks_back_a_window(policy) else common_prefix(prompts)
        self.cache = None
        if self.shared:
            ids, mask = padded([prompts[0][: self.shared]], policy)
            self.cache = self._pass(ids, mask, torch.arange(self.shared, device=policy.device)[None], None)

    def _pass(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Any:
        none = torch.zeros(0, dtype=torch.long, device=ids.device)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "past_key_values": cache}
        return logits_at(self.policy, none, none, use_cache=True, **inputs)[1]

    def fill(self, prompts: list[Ids]) -> Filled:
        """Everything but the last token of each prompt; that one is fed with what follows it."""
        ids, mask = padded([prompt[self.shared : -1] for prompt in prompts], self.policy, left=True)
        mask = torch.cat([mask.new_ones(len(prompts), self.shared), mask], dim=1)
        cache = copy.deepcopy(self.cache)
        if cache is not None:
            cache.batch_repeat_interleave(len(prompts))
        if ids.shape[1]:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, self.shared :]
            cache = self._pass(ids, mask, positions, cache)
        last = torch.tensor([prompt[-1] for prompt in prompts], device=self.policy.device)
        return Filled(cache, mask, last, mask.sum(dim=1))


def looks_back_a_window(policy: Policy) -> bool:
    """Whether some layers see the last few positions only. There padding between a shared beginning and the rest of a
    prompt would push real tokens out of the window."""
    config = policy.model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    return any(kind != "full_attention" for kind in kinds) if kinds else bool(getattr(config, "sliding_window", None))


def common_prefix(prompts: list[Ids]) -> int:
    """How many tokens all prompts begin with; each keeps at least its last token."""
    first, last = min(prompts), max(prompts)  # what these two share, all share
    longest = min(map(len, prompts)) - 1
    return next((i for i in range(longest) if first[i] != last[i]), longest)


@torch.inference_mode()
def continuation_log_probs(
    policy: Policy, prompts: list[Ids], continuations: list[list[Ids]], micro_batch: int
) -> list[list[float]]:
    """Summed log-probability of every continuation after its prompt; a prompt is read once for all of its own."""
    if not prompts:
        return []
    shared = PromptCache(policy, prompts)
    lengths = [len(p) - shared.shared + sum(map(len, c)) for p, c in zip(prompts, continuations, strict=True)]
    found: list[list[float]] = [[] for _ in prompts]
    for batch in batches(lengths, micro_batch, policy.device):
        owner = [k for k, i in enumerate(batch) for _ in continuations[i]]
        filled = shared.fill([prompts[i] for i in batch]).take(torch.tensor(owner, device=policy.device))
        flat = _continue(policy, filled, [c for i in batch for c in continuations[i]])
        for k, value in zip(owner, flat, strict=True):
            found[batch[k]].append(value)
    return found


def _continue(policy: Policy, filled: Filled, continuations: list[Ids]) -> list[float]:
    """One pass over [last prompt token, continuation without its last token], which predicts the continuation."""
    targets, mask = padded(continuations, policy)
    ids = torch.cat([filled.last[:, None], targets[:, :-1]], dim=1)
    rows, columns = mask.nonzero(as_tuple=True)
    logits, _ = logits_at(
        policy, rows, columns, input_ids=ids, past_key_values=filled.cache, use_cache=True,
        attention_mask=torch.cat([filled.mask, mask], dim=1),
        position_ids=filled.position[:, None] + torch.arange(ids.shape[1], device=ids.device),
    )  # fmt: skip
    sums = torch.zeros(len(continuations), dtype=torch.float64, device=ids.device)
    return sums.index_add(0, rows, log_probs(logits, targets[rows, columns])).tolist()


@torch.inference_mode()
def greedy(policy: Policy, prompts: list[Ids], max_new_tokens: int, micro_batch: int) -> list[str]:
    """The most probable answer to every prompt, token by token, up to the end of turn or `max_new_tokens`."""
    if not prompts:
        return []
    shared = PromptCache(policy, prompts)
    lengths = [len(prompt) + max_new_tokens for prompt in prompts]
    answers: list[Ids] = [[] for _ in prompts]
    for batch in batches(lengths, micro_batch, policy.device, TOKENS_CACHED):
        filled = shared.fill([prompts[i] for i in batch])
        for i, answer in zip(batch, _decode(policy, filled, max_new_tokens), strict=True):
            answers[i] = answer
    return [policy.tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in answers]


def _decode(policy: Policy, filled: Filled, max_new_tokens: int) -> list[Ids]:
    """Token ids of each row's answer, its end-of-turn token left out. Finished rows leave the batch."""
    stop = torch.tensor(sorted(end_tokens(policy)), device=policy.device)
    answers: list[Ids] = [[] for _ in filled.last]
    place = torch.arange(len(answers), device=policy.device)  # row of the batch -> answer
    open_ = torch.ones_like(place, dtype=torch.bool)
    for _ in range(max_new_tokens):
        filled = _step(policy, filled)
        open_ &= ~torch.isin(filled.last, stop)
        for row, token, still in zip(place.tolist(), filled.last.tolist(), open_.tolist(), strict=True):
            if still:
                answers[row].append(token)
        left = int(open_.sum())
        if not left:
            break
        if left <= 0.8 * len(open_):  # copying the cache costs about as much as a step: not for every single row
            keep = open_.nonzero()[:, 0]
            filled, place, open_ = filled.take(keep), place[keep], open_[keep]
    return answers


def _step(policy: Policy, filled: Filled) -> Filled:
    """Feed the last tokens, pick the next ones."""
    rows = torch.arange(len(filled.last), device=policy.device)
    mask = torch.cat([filled.mask, filled.mask.new_ones(len(rows), 1)], dim=1)
    logits, cache = logits_at(
        policy, rows, torch.zeros_like(rows), input_ids=filled.last[:, None], attention_mask=mask,
        position_ids=filled.position[:, None], past_key_values=filled.cache, use_cache=True,
    )  # fmt: skip
    return Filled(cache, mask, logits.argmax(dim=1), filled.position + 1)


def end_tokens(policy: Policy) -> set[int]:
    """Ids that end an answer: the tokenizer's EOS and those that the model's own generation config adds."""
    own = policy.model.generation_config.eos_token_id if policy.model.generation_config else None
    own = own if isinstance(own, list) else [own]
    return {token for token in [policy.tokenizer.eos_token_id, *own] if token is not None}
