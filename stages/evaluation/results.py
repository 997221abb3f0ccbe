"""What an evaluation leaves behind under `results/`.

`items.parquet`, `summary.json`, `samples.json`, and `routing.json` where a suite asks for a threshold.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StageFailed
from pipeline.judging.statistics import Items, estimate
from stages.evaluation.measurement import Scored

SAMPLES = 3


@dataclass
class SuiteResult:
    """One suite measured on one model."""

    name: str
    measure: str
    metric: str
    higher_is_better: bool
    items: list[Scored]
    details: dict[str, Any] = field(default_factory=dict)  # as `Measurement.details` describes it

    def finite(self) -> None:
        """Raise StageFailed for a score that is no number: a broken model must not look like a bad one."""
        for item in self.items:
            if not math.isfinite(item.score):
                raise StageFailed(
                    f"suite {self.name}: item {item.item} has score {item.score}; the model's weights are broken"
                )


def write(results: list[SuiteResult], out: Path) -> dict[str, float]:
    """Write the files under `out/results`; return the metrics {suite: value}."""
    folder = out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        result.finite()
    _write_items(results, folder / "items.parquet")
    summary = {result.name: summarise(result) for result in results}
    files = {"summary": summary, "samples": {r.name: samples(r.items) for r in results}}
    if routing := {r.name: r.details["routing"] for r in results if "routing" in r.details}:
        files["routing"] = routing
    for name, content in files.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return {name: suite["value"] for name, suite in summary.items()}


def _write_items(results: list[SuiteResult], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [(result.name, item) for result in results for item in result.items]
    columns: dict[str, Any] = {"suite": [name for name, _ in rows]}
    for column in ("item", "cluster", "score", "weight"):
        columns[column] = [getattr(item, column) for _, item in rows]
    for column in ("slices", "values"):
        columns[column] = [json.dumps(getattr(item, column), ensure_ascii=False, sort_keys=True) for _, item in rows]
    for column in ("prompt", "answer", "reference"):
        columns[column] = [getattr(item, column) for _, item in rows]
    kinds = {"score": pa.float64(), "weight": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
    parquet.write_table(pa.table(columns, schema=schema), path, compression="zstd")


def summarise(result: SuiteResult) -> dict[str, Any]:
    """The suite's value with its interval, baselines on the same items, and every slice."""
    found = estimate(_items(result.items), result.metric)
    return {
        "measure": result.measure,
        "metric": result.metric,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "clusters": found.clusters,
        "higher_is_better": result.higher_is_better,
        "baselines": baselines(result.items),
        "slices": {name: _slice(items, result.metric) for name, items in slices(result.items).items()},
        "details": result.details,
    }


def _items(items: list[Scored]) -> Items:
    return Items(
        [item.item for item in items],
        [item.cluster for item in items],
        np.array([item.score for item in items], dtype=np.float64),
        np.array([item.weight for item in items], dtype=np.float64),
    )


def _slice(items: list[Scored], metric: str) -> dict[str, Any]:
    found = estimate(_items(items), metric)
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def slices(items: list[Scored]) -> dict[str, list[Scored]]:
    """Items by `column=value`, in the order of the names."""
    found: dict[str, list[Scored]] = {}
    for item in items:
        for column, value in item.slices.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found.setdefault(f"{column}={text}", []).append(item)
    return dict(sorted(found.items()))


def baselines(items: list[Scored]) -> dict[str, float]:
    """Each rule of thumb's mean score over the items that carry it."""
    names = sorted({name for item in items for name in item.baselines})
    scores = {name: [item.baselines[name] for item in items if name in item.baselines] for name in names}
    return {name: sum(values) / len(values) for name, values in scores.items()}


def samples(items: list[Scored]) -> list[dict[str, Any]]:
    """Three items spread over the suite: the same ones for every model."""
    shown = [items[i] for i in sorted({k * (len(items) - 1) // (SAMPLES - 1) for k in range(SAMPLES)})]
    return [{key: getattr(item, key) for key in ("item", "prompt", "answer", "reference", "score")} for item in shown]
