"""The stored results of one model, read as failures: of every item of a suite a number from 0 (right) to 1."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

Floats = NDArray[np.float64]
WORST = 0.75  # quantile of the losses from which an item of an unbounded metric counts as failed
COLUMNS = ["suite", "item", "cluster", "score", "slices", "prompt", "answer", "reference"]


@dataclass(frozen=True)
class Suite:
    """One suite of one model, n items. `failed`: shape (n,), between 0 and 1. `bar`: see `failures`."""

    name: str
    metric: str
    ids: list[str]
    clusters: list[str]
    failed: Floats
    columns: list[dict[str, str]]  # of each item: declared column -> value
    prompts: list[str] = field(repr=False)
    answers: list[str] = field(repr=False)
    references: list[str] = field(repr=False)
    bar: float | None = None

    @property
    def meaning(self) -> str:
        """What a failure is, for people."""
        if self.bar is None:
            return f"1 - {self.metric} of an item, or {self.metric} itself where lower is better"
        return f"an item with a {self.metric} loss above {self.bar:.3g}, which a quarter of the items have"


def read(evaluation: Path, like: Mapping[str, Suite] | None = None) -> dict[str, Suite]:
    """All suites of an evaluation artifact. `like`: another model's, whose bars and order of items are used.

    DataError when that one was measured on other items.
    """
    from pyarrow import parquet

    folder = evaluation / "results"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rows = parquet.read_table(folder / "items.parquet", columns=COLUMNS).to_pylist()
    by_suite: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_suite.setdefault(row["suite"], []).append(row)
    return {name: _suite(name, found, summary[name], (like or {}).get(name)) for name, found in by_suite.items()}


def _suite(name: str, rows: list[dict[str, Any]], summary: Mapping[str, Any], like: Suite | None) -> Suite:
    if like is not None:
        place = {row["item"]: row for row in rows}
        if place.keys() != set(like.ids):
            raise DataError(f"suite {name}: a point of the learning curve was measured on other items; build it anew")
        rows = [place[item] for item in like.ids]
    scores = np.array([row["score"] for row in rows], dtype=float)
    failed, bar = failures(scores, summary["metric"], summary["higher_is_better"], like.bar if like else None)
    told = {key: [row[key] or "" for row in rows] for key in ("item", "cluster", "prompt", "answer", "reference")}
    columns = [{key: _value(value) for key, value in json.loads(row["slices"]).items()} for row in rows]
    return Suite(
        name, summary["metric"], told["item"], told["cluster"], failed, columns, told["prompt"], told["answer"],
        told["reference"], bar,
    )  # fmt: skip


def failures(
    scores: Floats, metric: str, higher_is_better: bool, bar: float | None = None
) -> tuple[Floats, float | None]:
    """Failures between 0 and 1, and the loss above which an item has failed where scores are no shares.

    Scores within -1 and 1 are shares: what is missing to 1, or what there is of something bad (a won item counts as 0).
    Losses without an upper end, such as nats per token, fail above `bar`, or above their own third quartile.
    """
    loss = -scores if higher_is_better else scores
    if bar is None and metric != "perplexity" and bool((np.abs(scores) <= 1).all()):
        return np.clip(1 + loss if higher_is_better else loss, 0.0, 1.0), None
    bar = float(np.quantile(loss, WORST)) if bar is None else bar
    return (loss > bar).astype(float), bar


def _value(value: Any) -> str:
    """As the slices of `summary.json` are named."""
    return str(value).lower() if isinstance(value, bool) else str(value)
