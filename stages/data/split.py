"""Deterministic choices: which side a group falls on, and an order whose every beginning stands for the whole."""

import hashlib
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Optional, TypeVar

from pipeline.errors import ConfigError, DataError

METHODS = ("holdout", "kfold")

Row = TypeVar("Row")


@dataclass
class Split:
    """Which rows are held out. A group is never divided: all its rows are trained on, or all are held out."""

    method: str = (
        "holdout"  # holdout: a share of the groups; kfold: fold number `fold` of `k`, the others are trained on
    )
    share: Optional[float] = (
        None  # holdout: of the groups, as `holdout` of the data set, which is read where this is null
    )
    k: int = 5  # kfold: number of folds; each row is held out in exactly one of them
    fold: Optional[int] = None  # kfold: from 0 to k - 1; null: `run` makes a chain for each fold and one summary
    group_by: str = "cluster"  # field whose equal values stay together; slices.author looks into an object


def check(split: Split) -> None:
    """ConfigError for a split that cannot be made of any rows."""
    if split.method not in METHODS:
        raise ConfigError(f"split.method={split.method} is unknown; use {' or '.join(METHODS)}")
    if split.share is not None and (split.method == "kfold" or not 0 <= split.share <= 1):
        raise ConfigError(f"split.share={split.share}: a share from 0 to 1 of method holdout; kfold holds out 1 / k")
    if split.method == "holdout" and split.fold is not None:
        raise ConfigError(f"split.fold={split.fold}: only kfold has folds; set split.method=kfold or take fold out")
    if split.k < 2 or not 0 <= (split.fold or 0) < split.k:
        raise ConfigError(f"split.fold={split.fold} of k={split.k}: k must be 2 or more and fold from 0 to k - 1")
    if split.method == "kfold" and split.fold is None:
        raise ConfigError(f"split.fold: one artifact holds out one fold; give its number, from 0 to {split.k - 1}")


def sides(
    rows: Sequence[dict[str, Any]], split: Split, seed: int, share: float = 0.0
) -> dict[str, list[dict[str, Any]]]:
    """The rows of `train` and of `heldout`, in their order. `share`: of the groups, where the split names none.

    DataError when a row has no such group, or when there are fewer groups than folds.
    """
    groups = [group_of(row, split.group_by) for row in rows]
    out = held(Counter(groups), split, seed, share)
    return {
        "train": [row for row, group in zip(rows, groups, strict=True) if group not in out],
        "heldout": [row for row, group in zip(rows, groups, strict=True) if group in out],
    }


def held(sizes: Mapping[str, int], split: Split, seed: int, share: float = 0.0) -> set[str]:
    """The groups that are held out. `sizes`: group -> rows."""
    if split.method == "kfold":
        place = folds(sizes, split.k, seed, split.group_by)
        return {group for group, fold in place.items() if fold == split.fold}
    share = share if split.share is None else split.share
    return {group for group in sizes if in_heldout(group, share, seed)}


def first(sizes: Mapping[str, int], fraction: float, seed: int) -> set[str]:
    """The groups in seeded order up to where `fraction` of all rows is nearest: at least one, if there is any.

    `sizes`: group -> rows. Nested: those of a smaller fraction are among those of a larger one.
    """
    order = sorted(sizes, key=lambda name: (unit("fraction", seed, name), name))
    sums = list(accumulate(sizes[name] for name in order))
    wanted = fraction * sum(sizes.values())
    count = min(range(len(order)), key=lambda place: abs(sums[place] - wanted), default=-1) + 1
    return set(order[:count])


def group_of(row: Mapping[str, Any], field: str) -> str:
    """The row's value of a (dotted) field. DataError when it has none or it is no plain value."""
    value: Any = row
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(value, str | int) or value == "":
        raise DataError(
            f"split.group_by={field}: row '{row.get('id')}' has {'none' if value is None else repr(value)} there; give "
            "every row a text or a whole number in it, or group by another field (cluster is always there)"
        )
    return str(value)


def folds(sizes: Mapping[str, int], k: int, seed: int, field: str = "cluster") -> dict[str, int]:
    """Group -> its fold. `sizes`: group -> rows. The largest group first, each to the fold with the fewest rows.

    So folds differ by at most the rows of one group. Groups of one size come in seeded order. Depends on the groups
    and their sizes alone, not on the order of rows. DataError when there are fewer groups than folds.
    """
    if len(sizes) < k:
        raise DataError(
            f"split.k={k}: there are {len(sizes)} groups (by `{field}`), and each fold needs at least one; lower k, or "
            "set split.group_by to a field with more values"
        )
    rows, place = [0] * k, {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], unit("fold", seed, name), name)):
        place[group] = min(range(k), key=lambda fold: (rows[fold], fold))
        rows[place[group]] += sizes[group]
    return place


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
