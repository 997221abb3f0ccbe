"""A trainer's batch, padded or packed, as one row of tokens without padding, and where its supervised tokens are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.kernels.tree import Family, Tree

IGNORE = -100
SHARED_FROM = 8  # tokens; a shorter prompt (a BOS) saves less than attention between its many answers costs


@dataclass(frozen=True)
class Sequence:
    """One sequence of a batch, from (row, column) on: the offsets that are trained, and what is predicted there."""

    row: int
    column: int
    ids: list[int]
    supervised: list[int]
    targets: list[int]  # the tokens themselves, unless somebody's labels are others

    @property
    def prompt(self) -> tuple[int, ...]:
        """What comes before the first trained token."""
        return tuple(self.ids[: self.supervised[0]])

    @property
    def answer(self) -> list[int]:
        """From the first trained token on; the last trained one predicts nothing and is left out."""
        return self.ids[self.supervised[0] : self.supervised[-1]]

    @property
    def kin(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sequences that have this in common go together: the prompt, and where that is short the answer too."""
        return self.prompt, () if len(self.prompt) >= SHARED_FROM else tuple(self.answer)


@dataclass(frozen=True)
class Row:
    """T tokens to run, and the N supervised tokens: after which of the T each is predicted, and where it stood."""

    ids: Tensor  # (1, T)
    tree: Tree
    after: Tensor  # (N,) in 0..T
    targets: Tensor  # (N,) token ids
    place: tuple[Tensor, Tensor]  # (N,) row and column in the batch, columns counted from the second token


def sequences(
    ids: Tensor, labels: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None
) -> Iterator[Sequence]:
    """The sequences of a batch that train something: rows without their padding, packed rows cut at position 0.

    As in Transformers, positions divide a row only where there is no mask.
    """
    tokens, wanted = ids.tolist(), labels.tolist()
    for row, (line, trained) in enumerate(zip(tokens, wanted, strict=True)):
        for start, stop in _spans(row, len(line), attention_mask, position_ids):
            supervised = [i for i in range(1, stop - start) if trained[start + i] != IGNORE]
            if supervised:
                targets = [trained[start + i] for i in supervised]
                yield Sequence(row, start, line[start:stop], supervised, targets)


def _spans(row: int, length: int, attention_mask: Tensor | None, position_ids: Tensor | None) -> list[tuple[int, int]]:
    if attention_mask is not None:
        kept = attention_mask[row].nonzero()[:, 0]
        return [(int(kept[0]), int(kept[-1]) + 1)] if len(kept) else []
    if position_ids is None:
        return [(0, length)]
    starts = (position_ids[row] == 0).nonzero()[:, 0].tolist()
    return list(zip(starts, [*starts[1:], length], strict=True))


def lay_out(batch: list[Sequence], device: torch.device) -> Row:
    """Sequences with the same prompt, unless it is short, become one family, in the order in which prompts first come.

    Equal answers to one prompt are one: computed once, and alike to the last bit. A batch without any sequence becomes
    one token that trains nothing, so that a loss of zero still has a gradient.
    """
    kin: dict[Any, list[Sequence]] = {}
    for sequence in batch:
        kin.setdefault(sequence.kin, []).append(sequence)
    ids: list[int] = []
    families: list[Family] = []
    found: list[tuple[int, int, int, int]] = []
    for members in kin.values():
        prompt, start = members[0].prompt, len(ids)
        ids += prompt
        begins: dict[tuple[int, ...], int] = {}  # an answer -> where it is in the row
        for member in members:
            answer = tuple(member.answer)
            if answer not in begins:
                begins[answer] = len(ids)
                ids += answer
            found += _predictions(member, start, begins[answer])
        families.append(_family(start, len(prompt), list(map(len, begins))))
    if not batch:
        ids, families = [0], [Family(0, 1)]
    after, targets, rows, columns = torch.tensor(found, device=device).view(-1, 4).long().unbind(1)
    return Row(torch.tensor([ids], device=device), Tree(tuple(families), device), after, targets, (rows, columns))


def _predictions(member: Sequence, prompt: int, answer: int) -> Iterator[tuple[int, int, int, int]]:
    """For each trained token: after which token of the row it is predicted, what, and its place in the batch.

    `prompt` and `answer` say where in the row the two parts of the sequence begin.
    """
    length = member.supervised[0]
    for i, target in zip(member.supervised, member.targets, strict=True):
        after = prompt + i - 1 if i <= length else answer + i - 1 - length
        yield after, target, member.row, member.column + i - 1


def _family(start: int, prompt: int, answers: list[int]) -> Family:
    if len(answers) == 1:
        return Family(start, prompt + answers[0])
    return Family(start, prompt, tuple(length for length in answers if length))
