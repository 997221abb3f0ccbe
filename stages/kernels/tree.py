"""Sequences side by side in one row of tokens, where answers to one prompt share that prompt's keys and values.

A prompt followed by several answers is a family: every answer sees the prompt and itself, and no other answer. The
prompt is computed once for all of them (Krishna et al. 2024, arXiv 2410.20305). Nothing is padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

ATTENTION = "journeyman_tree"
DENSE_UP_TO = 1024  # tokens of a family in bfloat16 on a CPU; longer ones would take too much memory for their scores
APART_FROM = 96  # tokens of a prompt on a CPU; a shorter one has fewer scores with its answers than a call costs


@dataclass(frozen=True)
class Family:
    """Tokens [start, start + prompt) of the row are the prompt; its answers follow one after another."""

    start: int
    prompt: int
    answers: tuple[int, ...] = ()

    @property
    def stop(self) -> int:
        return self.start + self.prompt + sum(self.answers)


@dataclass
class Tree:
    """The layout of a row of T tokens; families fill it from 0 to T without a gap."""

    families: tuple[Family, ...]
    device: torch.device
    _cached: dict[Any, Any] = field(default_factory=dict)

    def positions(self) -> Tensor:
        """Position ids, (1, T): an answer goes on where its prompt ends."""
        parts = []
        for family in self.families:
            parts.append(torch.arange(family.prompt))
            parts += [torch.arange(family.prompt, family.prompt + length) for length in family.answers]
        return torch.cat(parts)[None].to(self.device)

    def visible(self, family: Family, window: int | None) -> Tensor | None:
        """Which keys each token of a family sees, (n, n) bool; None where plain causal attention says the same."""
        length = family.stop - family.start
        if not family.answers and (window is None or length <= window):
            return None
        if (family, window) not in self._cached:
            self._cached[family, window] = _visible(family, window).to(self.device)
        return self._cached[family, window]

    def ragged(self) -> tuple[Tensor | None, Tensor, Tensor, int, int]:
        """For attention with ragged queries and keys: indices of keys, borders of queries, of keys, and the longest.

        None for the indices where no prompt is shared, so that the keys are those of the row as they are.
        """
        if "ragged" not in self._cached:
            self._cached["ragged"] = _ragged(self.families, self.device)
        return self._cached["ragged"]


def _visible(family: Family, window: int | None) -> Tensor:
    lengths = [family.prompt, *family.answers]
    branch = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    position = torch.cat([torch.arange(family.prompt), *(family.prompt + torch.arange(n) for n in family.answers)])
    distance = position[:, None] - position[None, :]
    related = (branch[:, None] == branch[None, :]) | (branch[None, :] == 0)
    seen = related & (distance >= 0)
    return seen if window is None else seen & (distance < window)


def _ragged(families: Sequence[Family], device: torch.device) -> tuple[Tensor | None, Tensor, Tensor, int, int]:
    keys, queries_at, keys_at, longest_q, longest_k = [], [0], [0], 0, 0
    for family in families:
        prompt = torch.arange(family.start, family.start + family.prompt)
        begin = family.start + family.prompt
        spans = [(family.prompt, prompt)]
        for length in family.answers:
            spans.append((length, torch.cat([prompt, torch.arange(begin, begin + length)])))
            begin += length
        for length, seen in spans:
            keys.append(seen)
            queries_at.append(queries_at[-1] + length)
            keys_at.append(keys_at[-1] + len(seen))
            longest_q, longest_k = max(longest_q, length), max(longest_k, len(seen))
    borders = [torch.tensor(at, dtype=torch.int32, device=device) for at in (queries_at, keys_at)]
    index = torch.cat(keys).to(device) if any(family.answers for family in families) else None
    return index, borders[0], borders[1], longest_q, longest_k


def register() -> None:
    """Make the attention known to Transformers under the name ATTENTION; without a tree it is plain `sdpa`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def no_mask(device: torch.device) -> Tensor:
    """What to pass as the attention mask beside a tree: four dimensions, so Transformers builds no mask of its own."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


def kernel(device: str, size: int) -> str:
    """Which attention a tree gets on a device of this type, in values of `size` bytes; in words."""
    if device.startswith("cuda") and size < 4:
        return "flash with ragged borders"
    return f"dense up to {DENSE_UP_TO} tokens, then flash" if device == "cpu" and size < 4 else "flash by families"


def attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    tree: Tree | None = None, scaling: float | None = None, sliding_window: int | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of query (1, H, T, D) on key and value (1, G, T, D) inside the tree's families -> (1, T, H, D)."""
    if tree is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, sliding_window=sliding_window, **kwargs
        )
    if query.is_cuda and query.dtype != torch.float32:  # flash attention has 16 bits only
        return _ragged_attention(query, key, value, tree, scaling, sliding_window), None
    return _family_attention(query, key, value, tree, scaling, sliding_window), None


def _family_attention(
    query: Tensor, key: Tensor, value: Tensor, tree: Tree, scaling: float | None, window: int | None
) -> Tensor:
    """One call for each family, or two where many of its scores are a prompt's with answers, which nobody sees.

    A call for each answer would cost more than the scores between two answers do.
    """
    lengths = [family.stop - family.start for family in tree.families]
    parts = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), tree.families, strict=True)
    outputs = []
    for q, k, v, family in parts:
        of_family = _dense if q.dtype == torch.bfloat16 and q.shape[2] <= DENSE_UP_TO else _flash
        mask, prompt = tree.visible(family, window), family.prompt
        if family.answers and prompt >= APART_FROM:
            alone = tree.visible(Family(family.start, prompt), window)
            outputs.append(of_family(q[:, :, :prompt], k[:, :, :prompt], v[:, :, :prompt], alone, scaling))
            q, mask = q[:, :, prompt:], mask[prompt:]
        outputs.append(of_family(q, k, v, mask, scaling))
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _flash(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    return scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=scaling)


def _dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """The textbook's attention: half the time of the CPU's flash kernel in bfloat16.

    The softmax reads and writes 16 bits but computes in float32, so that no score is ever stored in float32. A score of
    30 would be rounded to an eighth there, so each row is moved first: its largest score becomes about 0, which changes
    no weight, and those that weigh anything lie close to it. One more value of each query and key does that inside the
    product, before anything is rounded.
    """
    _, heads, n, width = q.shape
    shared = k.shape[1]
    if mask is None:  # as many keys as queries
        mask = torch.ones(n, n, dtype=torch.bool, device=q.device).tril()
    unseen = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
    unseen = unseen.repeat(heads // shared, 1).expand(shared, -1, -1)
    queries, keys = q[0].reshape(shared, -1, width), k[0]
    scale = width**-0.5 if scaling is None else scaling
    with torch.no_grad():
        largest = torch.baddbmm(unseen, queries, keys.transpose(1, 2), alpha=scale).amax(dim=-1, keepdim=True)
    queries = torch.cat([queries, largest / -scale], dim=-1)
    keys = torch.cat([keys, torch.ones_like(keys[..., :1])], dim=-1)
    scores = torch.baddbmm(unseen, queries, keys.transpose(1, 2), alpha=scale)
    return (scores.softmax(dim=-1) @ v[0]).view(1, heads, n, width)


def _ragged_attention(
    query: Tensor, key: Tensor, value: Tensor, tree: Tree, scaling: float | None, window: int | None
) -> Tensor:
    """Flash attention with borders: an answer's queries meet the prompt's keys and its own, aligned at the end."""
    from torch.nn.attention.varlen import varlen_attn

    index, queries_at, keys_at, longest_q, longest_k = tree.ragged()
    keys, values = key[0].transpose(0, 1), value[0].transpose(0, 1)
    if index is not None:  # on the way back index_select adds up what a shared key gets; x[index] would sort first
        keys, values = keys.index_select(0, index), values.index_select(0, index)
    output = varlen_attn(
        query[0].transpose(0, 1), keys, values, queries_at, keys_at, longest_q, longest_k, scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        window_size=(-1 if window is None else window - 1, 0),
    )  # fmt: skip
    return output[None]
