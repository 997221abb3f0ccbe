"""Rehearsal beside the reward: documents and conversations whose likelihood is part of the loss, so that the policy
keeps what no reward speaks of (PPO-ptx of Ouyang et al. 2022, arXiv 2203.02155, equation 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from pipeline.context import Context
from pipeline.errors import DataError
from stages.data import artifact
from stages.data.tokenized import Tokenized
from stages.models.chat import IGNORE, Example
from stages.rl.actor import Actor
from stages.training import run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Rehearsal:
    """Sources of rehearsed rows, which take turns, and how many rows go with each optimizer step."""

    sources: Sequence[Sequence[Example]]
    rows: int
    coef: float
    seed: int

    def drawn(self, update: int, step: int) -> list[Example]:
        """The rows of one optimizer step; they depend on the seed and these numbers alone."""
        place = numpy.random.default_rng((self.seed, update, step, 1))
        turns = (self.sources[(step * self.rows + i) % len(self.sources)] for i in range(self.rows))
        return [source[int(place.integers(len(source)))] for source in turns]

    def losses(
        self, actor: Actor, drawn: list[Example], micro_batch: int, place: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        """`coef` times the mean negative log-likelihood of the rows' trained tokens, in parts to sum.

        `place`: of this process among those that share the parts.
        """
        tokens = sum(len(example.labels[1:]) - example.labels[1:].count(IGNORE) for example in drawn)
        for at in range(0, len(drawn), micro_batch)[place[0] :: place[1]]:
            part = drawn[at : at + micro_batch]
            log_probs = actor.likelihood([example.ids for example in part])
            trained = torch.zeros_like(log_probs)
            for i, example in enumerate(part):
                wanted = torch.tensor(example.labels[1:], device=trained.device) != IGNORE
                trained[i, : len(wanted)] = wanted.to(trained.dtype)
            yield -self.coef * (log_probs * trained).sum() / tokens


def read(ctx: Context, tokenizer: "PreTrainedTokenizerBase") -> Rehearsal | None:
    """The rows of all roles of `data` but `train`; None where nothing is rehearsed."""
    config, sources = ctx.config, []
    if not config.train.rehearsal_coef:
        return None
    for role, source in run.training_sets(ctx).items():
        if role == "train":
            continue
        rows = Tokenized(tokenizer, partial(artifact.stream, source), config.max_length)
        sources.append([example for example in rows if any(label != IGNORE for label in example.labels[1:])])
        if not sources[-1]:
            raise DataError(f"data.{role}: {source.stage} has no row that trains anything within max_length")
        ctx.log(f"rehearsal: {len(sources[-1])} rows of {source.stage}")
    return Rehearsal(sources, config.train.rehearsal_rows, config.train.rehearsal_coef, config.seed)
