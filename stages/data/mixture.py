"""Token-weighted mixtures of sources, exact to half a point, deterministic under a seed.

Of a source only the token counts of its rows are held until rows are chosen; then it is read again for those.
"""

import random
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pipeline.errors import DataError
from stages.data import shares
from stages.models.chat import Example

TOLERANCE = 0.005  # realised share against asked share
EXACT = 1000  # the last tokens of a budget, for which rows are chosen by their length
EXACT_ROWS = 200  # among how many rows


@dataclass
class Source:
    """Tokenized rows and the share of the mixture's tokens that they shall make up."""

    name: str
    examples: Iterable[Example]  # read twice, the same rows each time
    share: float = 0.0  # set by `mix_sets`, where it follows from the sizes of all sources
    cuttable: bool = False  # plain text may be cut to fill the budget, a conversation may not
    part: str = ""  # what it is counted under, where several sources make up one; its name if empty
    tags: frozenset[str] = frozenset()  # of its rows: those that have a floor or a cap

    @cached_property
    def tokens(self) -> Sequence[int]:
        """Tokens of each row."""
        return array("L", (len(example.ids) for example in self.examples))


class Pick(NamedTuple):
    """A row of a source by its place, and how many of its tokens are taken."""

    row: int
    tokens: int


@dataclass
class Part:
    """What one source really gave."""

    asked: float
    realised: float
    tokens: int
    trained_tokens: int
    rows: int
    epochs: float  # rows drawn / rows there are; above 1 the source was repeated


@dataclass
class TagPart:
    """What the rows with one tag really gave, over all sources."""

    floor: float
    cap: float
    realised: float
    tokens: int
    rows: int
    epochs: float  # as of a Part


def mix(sources: Sequence[Source], total: int, seed: int) -> tuple[list[Example], dict[str, Part]]:
    """Draw about `total` tokens, each source without replacement until it is used up, then again from its start.

    Returns the rows, shuffled, and one Part for each source with a share above 0. Raises DataError when a source is
    empty or its rows are too long for its budget, so that the realised share misses the asked one by over half a point.
    """
    used = [source for source in sources if source.share > 0]
    taken = _take(used, total, seed)
    return _shuffled(taken, seed), _parts(used, taken)


def mix_sets(
    asked: shares.Mixture, sources: Mapping[shares.Cell, Source], at_most: int, seed: int
) -> tuple[list[Example], dict[str, Part], dict[str, TagPart]]:
    """The mixture that a configuration asks for: rows, shuffled, their Parts, and one for each tag it speaks of.

    `at_most`: tokens, 0 = no limit. Sets the sources' shares. Raises DataError as `mix` does, for floors and caps that
    cannot hold, and when they do not hold to half a point.
    """
    tokens = {cell: sum(source.tokens) for cell, source in sources.items()}
    wanted = shares.of_cells(asked, tokens)
    for cell, source in sources.items():
        source.share = wanted[cell]
    used = [source for source in sources.values() if source.share > 0]
    taken = _take(used, shares.total(asked, wanted, tokens, at_most), seed)
    return _shuffled(taken, seed), _parts(used, taken), _tag_parts(asked, used, taken)


def _take(sources: Sequence[Source], total: int, seed: int) -> dict[str, list[Example]]:
    picks = choose(sources, total, seed)
    return {source.name: _read(source, picks[source.name]) for source in sources}


def _shuffled(taken: Mapping[str, Sequence[Example]], seed: int) -> list[Example]:
    rows = [row for part in taken.values() for row in part]
    random.Random(seed).shuffle(rows)
    return rows


def choose(sources: Sequence[Source], total: int, seed: int) -> dict[str, list[Pick]]:
    """Which rows of each source make up the mixture; DataError as in `mix`."""
    if abs(sum(source.share for source in sources) - 1) > 1e-6:
        raise DataError(f"mixture shares add up to {sum(s.share for s in sources):.4f}, not 1")
    whole = [source for source in sources if not source.cuttable]
    rest = [source for source in sources if source.cuttable]
    picks = {source.name: _draw(source, round(source.share * total), seed) for source in whole}
    _refuse_empty(whole, picks, total)
    if whole and rest:  # whole rows miss their budget by a few tokens; what can be cut makes the shares right again
        total = round(sum(map(_tokens, picks.values())) / (1 - sum(source.share for source in rest)))
    picks |= {source.name: _draw(source, round(source.share * total), seed) for source in rest}
    _refuse_misses(sources, picks, total)
    return picks


def _refuse_empty(sources: Sequence[Source], picks: dict[str, list[Pick]], total: int) -> None:
    """DataError for a part of which no row is short enough."""
    for name, members in _by_part(sources).items():
        asked = sum(source.share for source in members)
        if not any(picks[source.name] for source in members):
            raise DataError(
                f"mixture: no row of {name} is short enough for its {round(asked * total)} tokens ({asked:.1%} of "
                "all); raise max_tokens or shorten the rows"
            )


def _refuse_misses(sources: Sequence[Source], picks: dict[str, list[Pick]], total: int) -> None:
    """DataError for a part that is over half a point larger or smaller than asked."""
    realised = max(1, sum(map(_tokens, picks.values())))
    for name, members in _by_part(sources).items():
        asked = sum(source.share for source in members)
        found = sum(_tokens(picks[source.name]) for source in members) / realised
        if abs(found - asked) > TOLERANCE:
            raise DataError(
                f"mixture: {name} makes up {found:.1%} of the tokens, asked {asked:.1%}: its rows do not "
                f"fit a budget of {round(asked * total)} tokens; raise max_tokens or shorten the rows"
            )


def _tokens(picks: Sequence[Pick]) -> int:
    return sum(pick.tokens for pick in picks)


def _by_part(sources: Sequence[Source]) -> dict[str, list[Source]]:
    parts: dict[str, list[Source]] = {}
    for source in sources:
        parts.setdefault(source.part or source.name, []).append(source)
    return parts


def _read(source: Source, picks: Sequence[Pick]) -> list[Example]:
    """The picked rows, in the order of the picks; one that was picked again is the same object again."""
    wanted = {pick.row for pick in picks}
    found = {row: example for row, example in enumerate(source.examples) if row in wanted}
    return [_beginning(found[pick.row], pick.tokens) for pick in picks]


def _beginning(example: Example, tokens: int) -> Example:
    if tokens == len(example.ids):
        return example
    return Example(example.ids[:tokens], example.labels[:tokens], cut=True)


def _parts(sources: Sequence[Source], taken: dict[str, list[Example]]) -> dict[str, Part]:
    """Part -> what its sources gave."""
    everything = sum(len(row.ids) for rows in taken.values() for row in rows)
    parts = {}
    for name, members in _by_part(sources).items():
        rows = [row for source in members for row in taken[source.name]]
        tokens = sum(len(row.ids) for row in rows)
        parts[name] = Part(
            asked=sum(source.share for source in members),
            realised=tokens / max(1, everything),
            tokens=tokens,
            trained_tokens=sum(row.trained for row in rows),
            rows=len(rows),
            epochs=round(len(rows) / sum(len(source.tokens) for source in members), 3),
        )
    return parts


def _tag_parts(
    asked: shares.Mixture, sources: Sequence[Source], taken: Mapping[str, Sequence[Example]]
) -> dict[str, TagPart]:
    """Tag -> what its rows gave. DataError for a floor or a cap that is missed by over half a point."""
    everything = sum(len(row.ids) for rows in taken.values() for row in rows)
    parts = {}
    for tag in sorted(asked.tags):
        members = [source for source in sources if tag in source.tags]
        rows = [row for source in members for row in taken[source.name]]
        tokens = sum(len(row.ids) for row in rows)
        floor, cap, realised = asked.floors.get(tag, 0.0), asked.caps.get(tag, 1.0), tokens / max(1, everything)
        if not floor - TOLERANCE <= realised <= cap + TOLERANCE:
            raise DataError(
                f"mixture: rows tagged `{tag}` make up {realised:.1%} of the tokens, asked {floor:.1%} to {cap:.1%}: "
                "they do not fit their budget; raise max_tokens or shorten the rows"
            )
        there = sum(len(source.tokens) for source in members)
        parts[tag] = TagPart(floor, cap, realised, tokens, len(rows), round(len(rows) / max(1, there), 3))
    return parts


def _draw(source: Source, budget: int, seed: int) -> list[Pick]:
    """Rows of `source` in seeded order for `budget` tokens: all of them as often as they fit whole, then some once."""
    if not source.tokens:
        raise DataError(f"mixture: {source.name} has no rows, but {source.share:.1%} of the tokens shall come from it")
    order = [Pick(row, tokens) for row, tokens in enumerate(source.tokens)]
    random.Random(f"{seed}:{source.name}").shuffle(order)
    times, rest = divmod(budget, sum(source.tokens))
    return order * times + (_cut(order, rest) if source.cuttable else _nearest(order, rest))


def _cut(order: Sequence[Pick], budget: int) -> list[Pick]:
    """The first rows of `order`, the last one cut, so that they make up `budget` tokens (or one less)."""
    picks: list[Pick] = []
    for pick in order:
        if budget < 2:  # one token alone has nothing to be predicted from
            break
        picks.append(Pick(pick.row, min(pick.tokens, budget)))
        budget -= picks[-1].tokens
    return picks


def _nearest(order: Sequence[Pick], budget: int) -> list[Pick]:
    """Whole rows, each at most once: the first of `order`, then those whose sum comes nearest to what is left."""
    taken = 0
    while budget - order[taken].tokens >= EXACT:
        budget -= order[taken].tokens
        taken += 1
    return [*order[:taken], *_sum_to(order[taken:][:EXACT_ROWS], budget)]


def _sum_to(rows: Sequence[Pick], budget: int) -> tuple[Pick, ...]:
    """A choice of rows that makes up `budget` tokens, or the nearest sum there is: every sum is tried."""
    sums: dict[int, tuple[Pick, ...]] = {0: ()}
    for row in rows:
        for total, chosen in list(sums.items()):
            more = total + row.tokens
            if total < budget and more not in sums:
                sums[more] = (*chosen, row)
        if budget in sums:
            break
    return sums[min(sums, key=lambda total: abs(total - budget))]
