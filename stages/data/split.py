"""Deterministic choices: which side a cluster falls on, and an order whose every beginning stands for the whole."""

import hashlib
import random
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

Row = TypeVar("Row")


def unit(*parts: Hashable) -> float:
    """A number in [0, 1) that depends on nothing but `parts`: the same on every machine and in every process."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def in_heldout(cluster: str, share: float, seed: int) -> bool:
    """Whether the cluster is held out; `share` of all clusters are, whatever the order or number of rows."""
    return unit("holdout", seed, cluster) < share


def interleave(parts: Iterable[Sequence[Row]], seed: int) -> list[Row]:
    """All rows, mixed so that every beginning holds each part in about its share of the whole.

    Row i of a part of n gets the place (i + random) / n; the order inside a part is kept.
    """
    rng = random.Random(seed)
    placed = [
        ((i + rng.random()) / len(part), number, i, row)
        for number, part in enumerate(parts)
        for i, row in enumerate(part)
    ]
    return [row for *_, row in sorted(placed, key=lambda item: item[:3])]
