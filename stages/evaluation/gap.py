"""The gap between items like those in training and items unlike them: `outside` of a suite."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from stages.evaluation.intervals import Places, clustered, mean_of
from stages.evaluation.measurement import Row, Scored


def is_outside(slices: dict[str, Any], outside: Sequence[str]) -> bool:
    """Whether any of the slices `column=value` is the item's."""
    own = {f"{column}={str(value).lower() if isinstance(value, bool) else value}" for column, value in slices.items()}
    return not own.isdisjoint(outside)


def check_outside(name: str, rows: list[Row], outside: Sequence[str]) -> None:
    """Raise DataError where a suite's items do not fall on both sides."""
    found = {is_outside(row.get("slices", {}), outside) for row in rows}
    if outside and found != {True, False}:
        side = "no item" if found == {False} else "every item"
        columns = sorted({f"{k}={v}" for row in rows for k, v in row.get("slices", {}).items()})
        known = ", ".join(columns[:12]) or "none"
        raise DataError(f"suite {name}: outside: {side} is of {', '.join(outside)}; slices of its items: {known}")


def gap(items: list[Scored], outside: Sequence[str], metric: str) -> dict[str, Any]:
    """`inside`, `outside` and `gap` = outside - inside, each with its interval; a cluster may have items of both.

    Of perplexity only the gap, which is relative: 0.2 is 20 % higher outside.
    """
    out = np.array([is_outside(item.slices, outside) for item in items])
    sums = np.array([[item.score * item.weight, item.weight] for item in items])
    level = np.exp if metric == "perplexity" else float

    def value(places: Places, side: bool) -> float:
        total = sums[places[out[places] == side]].sum(axis=0)
        return float(level(total[0] / total[1])) if total[1] else float("nan")

    def difference(places: Places) -> float:
        inner, outer = value(places, False), value(places, True)
        return outer / inner - 1 if metric == "perplexity" else outer - inner

    clusters = [item.cluster for item in items]
    if metric == "perplexity":
        return {"gap": clustered(difference, clusters)}
    sides = {name: _side(items, out == side) for name, side in (("inside", False), ("outside", True))}
    found = clustered(difference, clusters)
    if found["low"] == found["high"]:  # no item differs from the others of its side: a bootstrap has no spread
        low, high = (sides["outside"][a] - sides["inside"][b] for a, b in (("low", "high"), ("high", "low")))
        found = {**found, "low": low, "high": high}
    return {**sides, "gap": found}


def _side(items: list[Scored], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    own = [item for item, taken in zip(items, chosen, strict=True) if taken]
    return mean_of([item.score for item in own], [item.cluster for item in own])
