"""A score for the end of each sequence, as a reward model gives it: common beginnings are computed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.kernels.layout import SHARED_FROM
from stages.kernels.tree import Family, Tree, no_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Ends:
    """T tokens to run, and for each sequence the index in 0..T of its last token."""

    ids: Tensor  # (1, T)
    tree: Tree
    last: Tensor  # (B,)


def scores(model: "PreTrainedModel", input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
    """Logits (B, labels) of a sequence classifier for a batch (B, L), padded on either side.

    A sequence is judged at its last token that is not the padding token, as Transformers does it; what follows is not
    computed.
    """
    from transformers.modeling_outputs import SequenceClassifierOutputWithPast

    ends = lay_out(
        list(_sequences(input_ids, attention_mask, model.config.get_text_config().pad_token_id)), input_ids.device
    )
    hidden = model.base_model(
        input_ids=ends.ids, position_ids=ends.tree.positions(), attention_mask=no_mask(ends.ids.device),
        tree=ends.tree, use_cache=False,
    ).last_hidden_state[0]  # fmt: skip
    asked, which = ends.last.unique(return_inverse=True)  # equal sequences get equal scores, to the last bit
    return SequenceClassifierOutputWithPast(logits=model.score(hidden[asked])[which])


def _sequences(input_ids: Tensor, attention_mask: Tensor | None, pad: int | None) -> Iterator[list[int]]:
    kept = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    for ids, mask in zip(input_ids.tolist(), kept.tolist(), strict=True):
        stop = max((i for i, token in enumerate(ids) if token != pad), default=0) + 1
        yield [token for token, keep in zip(ids[:stop], mask, strict=False) if keep] or ids[:1]


def lay_out(sequences: Sequence[list[int]], device: torch.device) -> Ends:
    """Sequences that begin alike become one family each, in the order of their tokens; equal ones are one."""
    distinct = {sequence: number for number, sequence in enumerate(dict.fromkeys(map(tuple, sequences)))}
    found = list(map(list, distinct))
    ids: list[int] = []
    families, last = [], [0] * len(found)
    for members, shared in groups(found):
        start, answers = len(ids), [found[member][shared:] for member in members]
        ids += found[members[0]][:shared]
        for member, answer in zip(members, answers, strict=True):
            ids += answer
            last[member] = (len(ids) if answer else start + shared) - 1
        lengths = tuple(len(answer) for answer in answers if answer)
        families.append(Family(start, shared, lengths) if len(lengths) > 1 else Family(start, len(ids) - start))
    ends = torch.tensor([last[distinct[tuple(sequence)]] for sequence in sequences], device=device)
    return Ends(torch.tensor([ids], device=device), Tree(tuple(families), device), ends)


def groups(sequences: Sequence[list[int]]) -> Iterator[tuple[list[int], int]]:
    """(indices, length of the beginning that they share): a neighbour in sorted order joins where that saves tokens.

    A beginning below SHARED_FROM tokens is not shared, see `layout`.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    members, shared = order[:1], len(sequences[order[0]]) if order else 0
    for number in order[1:]:
        common = min(shared, _alike(sequences[members[-1]], sequences[number]))
        if common >= SHARED_FROM and common * len(members) > shared * (len(members) - 1):
            members, shared = [*members, number], common
            continue
        yield members, shared
        members, shared = [number], len(sequences[number])
    if members:
        yield members, shared


def _alike(a: list[int], b: list[int]) -> int:
    """The number of equal tokens at the beginning of both."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
