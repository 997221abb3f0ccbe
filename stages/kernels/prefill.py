"""Prompts in the key/value cache: what they share is computed once, and only positions that are read reach the head.

Shapes: B rows, L cached positions, T new positions, N positions read, V words of the vocabulary.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from pipeline.errors import StageFailed
from stages.models.chain import Policy

TOKENS_PER_PASS = {"cpu": 1024, "cuda": 16384}  # more does not make a pass faster, and the logits take V floats a token

Ids = list[int]


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

    def grow(self, tokens: int) -> None:
        """Make room in the cache for so many more tokens, so that a step does not copy what is there."""
        for number, layer in enumerate(self.cache.layers if self.cache is not None else []):
            if type(layer) is DynamicLayer and layer.is_initialized:
                self.cache.layers[number] = Roomy(layer, tokens)


class Roomy(DynamicLayer):
    """Keys and values (B, G, L, D) at the beginning of larger tensors: a new token is written, nothing is copied."""

    def __init__(self, layer: DynamicLayer, more: int) -> None:
        super().__init__()
        self.more, self.is_initialized, self.dtype, self.device = more, True, layer.dtype, layer.device
        self.keys, self.values = layer.keys, layer.values
        self._make_room()

    def _make_room(self) -> None:
        shape = list(self.keys.shape)
        shape[2] += self.more
        self.rooms = self.keys.new_empty(shape), self.values.new_empty([*shape[:3], self.values.shape[3]])
        self.keys, self.values = self._filled(0, self.keys, self.values)

    def _filled(self, start: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        stop = start + keys.shape[2]
        for room, new in zip(self.rooms, (keys, values), strict=True):
            room[:, :, start:stop] = new
        return self.rooms[0][:, :, :stop], self.rooms[1][:, :, :stop]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        used = self.keys.shape[2]
        if used + key_states.shape[2] > self.rooms[0].shape[2]:
            self._make_room()
        self.keys, self.values = self._filled(used, key_states, value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._make_room()


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
