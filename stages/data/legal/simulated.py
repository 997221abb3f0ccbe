"""Votes of annotators who do not exist: each prefers the better answer of a pair as often as its accuracy says.

So what a model of annotators should find is known. Nobody has judged these pairs; names and the attribution say so.
"""

import random
from collections.abc import Iterable, Iterator
from typing import Any

NAME = "simulated_{}"


def accuracies(annotators: int, best: float, worst: float) -> dict[str, float]:
    """Name -> how often this annotator prefers the better answer, evenly spread from `best` to `worst`."""
    step = (best - worst) / max(1, annotators - 1)
    return {NAME.format(number + 1): best - number * step for number in range(annotators)}


def voted(
    rows: Iterable[dict[str, Any]], accuracy: dict[str, float], each: int, ties: float, seed: int
) -> Iterator[dict[str, Any]]:
    """Preference rows as rows of format votes: `each` annotators judge a pair, whose better answer stands anywhere.

    `ties`: how often an annotator sees no difference.
    """
    for row in rows:
        rng = random.Random(f"{seed} {row['id']}")
        better = rng.choice("ab")
        sides = dict(zip((better, _other(better)), (row["chosen"], row["rejected"]), strict=True))
        said = {key: value for key, value in row.items() if key not in ("chosen", "rejected")}
        names = sorted(rng.sample(sorted(accuracy), each))
        yield {**said, **sides, "votes": [_vote(name, accuracy[name], better, ties, rng) for name in names]}


def _vote(name: str, accuracy: float, better: str, ties: float, rng: random.Random) -> dict[str, str]:
    if rng.random() < ties:
        return {"by": name, "prefers": "tie"}
    return {"by": name, "prefers": better if rng.random() < accuracy else _other(better)}


def _other(side: str) -> str:
    return "b" if side == "a" else "a"
