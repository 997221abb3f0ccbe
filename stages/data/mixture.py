"""Token-weighted mixtures of sources, exact to half a point, deterministic under a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import DataError
from stages.models.chat import Example

TOLERANCE = 0.005  # realised share against asked share
EXACT = 1000  # the last tokens of a budget, for which rows are chosen by their length
EXACT_ROWS = 200  # among how many rows


@dataclass(frozen=True)
class Source:
    """Tokenized rows and the share of the mixture's tokens that they shall make up."""

    name: str
    examples: Sequence[Example]
    share: float
    cuttable: bool = False  # plain text may be cut to fill the budget, a conversation may not


@dataclass
class Part:
    """What one source really gave."""

    asked: float
    realised: float
    tokens: int
    trained_tokens: int
    rows: int
    epochs: float  # rows drawn / rows there are; above 1 the source was repeated


def mix(sources: Sequence[Source], total: int, seed: int) -> tuple[list[Example], dict[str, Part]]:
    """Draw about `total` tokens, each source without replacement until it is used up, then again from its start.

    Returns the rows, shuffled, and one Part for each source with a share above 0. Raises DataError when a source is
    empty or its rows are too long for its budget, so that the realised share misses the asked one by over half a point.
    """
    used = [source for source in sources if source.share > 0]
    if abs(sum(source.share for source in used) - 1) > 1e-6:
        raise DataError(f"mixture shares add up to {sum(s.share for s in used):.4f}, not 1")
    drawn = {source.name: _draw(source, round(source.share * total), seed) for source in used if not source.cuttable}
    tokens = {name: sum(len(row.ids) for row in rows) for name, rows in drawn.items()}
    cuttable = sum(source.share for source in used if source.cuttable)
    if drawn and cuttable:  # whole rows miss their budget by a few tokens; what can be cut makes the shares right again
        total = round(sum(tokens.values()) / (1 - cuttable))
    drawn |= {source.name: _draw(source, round(source.share * total), seed) for source in used if source.cuttable}
    tokens = {name: sum(len(row.ids) for row in rows) for name, rows in drawn.items()}
    parts = {
        source.name: Part(
            asked=source.share,
            realised=tokens[source.name] / max(1, sum(tokens.values())),
            tokens=tokens[source.name],
            trained_tokens=sum(row.trained for row in drawn[source.name]),
            rows=len(drawn[source.name]),
            epochs=round(len(drawn[source.name]) / len(source.examples), 3),
        )
        for source in used
    }
    for name, part in parts.items():
        if abs(part.realised - part.asked) > TOLERANCE:
            raise DataError(
                f"mixture: {name} makes up {part.realised:.1%} of the tokens, asked {part.asked:.1%}: its rows do not "
                f"fit a budget of {round(part.asked * total)} tokens; raise max_tokens or shorten the rows"
            )
    rows = [row for source in used for row in drawn[source.name]]
    random.Random(seed).shuffle(rows)
    return rows, parts


def _draw(source: Source, budget: int, seed: int) -> list[Example]:
    """Rows of `source` in seeded order for `budget` tokens: all of them as often as they fit whole, then some once."""
    if not source.examples:
        raise DataError(f"mixture: {source.name} has no rows, but {source.share:.1%} of the tokens shall come from it")
    order = list(source.examples)
    random.Random(f"{seed}:{source.name}").shuffle(order)
    times, rest = divmod(budget, sum(len(row.ids) for row in order))
    rows = order * times + (_cut(order, rest) if source.cuttable else _nearest(order, rest))
    if not rows and not source.cuttable:
        raise DataError(
            f"mixture: no row of {source.name} is short enough for its {budget} tokens ({source.share:.1%} of all); "
            "raise max_tokens or shorten the rows"
        )
    return rows


def _cut(order: Sequence[Example], budget: int) -> list[Example]:
    """The first rows of `order`, the last one cut, so that they make up `budget` tokens (or one less)."""
    rows: list[Example] = []
    for row in order:
        if budget < 2:  # one token alone has nothing to be predicted from
            break
        rows.append(row if len(row.ids) <= budget else Example(row.ids[:budget], row.labels[:budget], cut=True))
        budget -= len(rows[-1].ids)
    return rows


def _nearest(order: Sequence[Example], budget: int) -> list[Example]:
    """Whole rows, each at most once: the first of `order`, then those whose sum comes nearest to what is left."""
    taken = 0
    while budget - len(order[taken].ids) >= EXACT:
        budget -= len(order[taken].ids)
        taken += 1
    return [*order[:taken], *_sum_to(order[taken:][:EXACT_ROWS], budget)]


def _sum_to(rows: Sequence[Example], budget: int) -> tuple[Example, ...]:
    """A choice of rows that makes up `budget` tokens, or the nearest sum there is: every sum is tried."""
    sums: dict[int, tuple[Example, ...]] = {0: ()}
    for row in rows:
        for total, chosen in list(sums.items()):
            more = total + len(row.ids)
            if total < budget and more not in sums:
                sums[more] = (*chosen, row)
        if budget in sums:
            break
    return sums[min(sums, key=lambda total: abs(total - budget))]
