"""Which items are taken, so that neither an answer's frequency nor its length tells whether it is right."""

import random
from collections.abc import Hashable, Iterable
from itertools import zip_longest
from typing import Any

from stages.data.legal.texts import round_robin
from stages.data.legal.wording import Item


def stratum(item: Item) -> Hashable:
    """What a task is balanced over: the rule or the kind of cell if it has one, and the right answer."""
    return item.slices.get("rule") or item.slices.get("cell") or "", item.label


def balanced(found: Iterable[Item], count: int | None, seed: int, equal: bool = False) -> list[Item]:
    """At most `count` items (None: all), the strata in turn.

    `equal`: each answer as often as the rarest one to its question.
    """
    strata: dict[Hashable, list[Item]] = {}
    for item in found:
        strata.setdefault(stratum(item), []).append(item)
    for key, part in strata.items():
        random.Random(f"{seed} {key}").shuffle(part)
    strata = _equal(strata) if equal else _nearly_equal(strata)
    return list(round_robin(list(strata.values()), seed))[:count]


def _equal(strata: dict[Any, list[Item]]) -> dict[Any, list[Item]]:
    """Each question's answers cut to the same number; a question with one answer only is left out."""
    sizes: dict[str, list[int]] = {}
    for (question, _), part in strata.items():
        sizes.setdefault(question, []).append(len(part))
    return {key: part[: min(sizes[key[0]])] for key, part in strata.items() if len(sizes[key[0]]) > 1}


def _nearly_equal(strata: dict[Any, list[Item]]) -> dict[Any, list[Item]]:
    """Yes and No of one rule in about equal number; a rule that all licences share keeps a few Yes."""

    def limit(question: str, label: str) -> int:
        other = {"Yes": "No", "No": "Yes"}.get(label)
        return len(strata.get((question, other), [])) + 6 if other and question else 10**9

    return {key: part[: limit(*key)] for key, part in strata.items()}


def even(found: list[Item], count: int, by_label: bool, longer_first: bool) -> list[Item]:
    """At most `count` items; right answers are longer than wrong ones as often as shorter, for each label if asked."""
    labels = sorted({x.label for x in found}) if by_label else [""]
    parts = [_alternating([x for x in found if not by_label or x.label == label], longer_first) for label in labels]
    size = min(map(len, parts), default=0)
    return [x for row in zip(*(part[:size] for part in parts), strict=True) for x in row][:count]


def answers_in_turn(found: list[Item]) -> list[Item]:
    """The items with their right answers in turn, so that every beginning holds each equally often."""
    parts = [[x for x in found if x.label == label] for label in sorted({x.label for x in found})]
    return [x for row in zip_longest(*parts) for x in row if x]


def _alternating(found: list[Item], longer_first: bool) -> list[Item]:
    """Items whose right answer is longer and shorter in turn, with those of equal length between; a surplus is cut."""
    longer = [x for x in found if _excess(x) > 0]
    shorter = [x for x in found if _excess(x) < 0]
    same = [x for x in found if _excess(x) == 0]
    turns = zip(longer, shorter, strict=False) if longer_first else zip(shorter, longer, strict=False)
    mixed = zip_longest([list(turn) for turn in turns], [[x] for x in same], fillvalue=[])
    return [x for pair, single in mixed for x in (*pair, *single)]


def _excess(item: Item) -> int:
    """Words by which the right answer is longer than the wrong one."""
    return len(item.answer.split()) - len(item.wrong.split())
