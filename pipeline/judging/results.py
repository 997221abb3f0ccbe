"""Stored results of one evaluated model: its summary, and its items suite by suite."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.judging.statistics import Items


class Results:
    """The results of one evaluated model, read when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder) / "results"

    @cached_property
    def summary(self) -> dict[str, dict[str, Any]]:
        return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))

    @cached_property
    def _items(self) -> dict[str, Items]:
        from pyarrow import parquet

        columns = ["suite", "item", "cluster", "score", "weight"]
        # read_table would import pyarrow.dataset and so pandas: a quarter of a second of a run with nothing to do
        table = parquet.ParquetFile(self.folder / "items.parquet").read(columns=columns)
        suites = table.column("suite").to_pylist()
        places: dict[str, list[int]] = {}
        for i, suite in enumerate(suites):
            places.setdefault(suite, []).append(i)
        ids, clusters = table.column("item").to_pylist(), table.column("cluster").to_pylist()
        scores, weights = table.column("score").to_numpy(), table.column("weight").to_numpy()
        return {
            suite: Items([ids[i] for i in at], [clusters[i] for i in at], scores[at], weights[at])
            for suite, at in places.items()
        }

    def items(self, suite: str) -> Items:
        return self._items[suite]
