"""Classification: the model gives one of the item's labels, by choice or in its own words."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from stages.evaluation.bases import base_of, base_option
from stages.evaluation.constraints.base import named
from stages.evaluation.intervals import Places, clustered
from stages.evaluation.measurement import Measurement, Row, Scored, scored

if TYPE_CHECKING:
    from stages.models.chain import Policy

NO_LABEL = "(no label)"
SCORES = ("precision", "recall", "f1")
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass
class ClassificationParams:
    base: str = base_option("choice")  # the most likely label; generate: the label that the answer names
    base_params: dict = field(default_factory=dict)  # of that measurement

    def __post_init__(self) -> None:
        base_of(self.base, self.base_params)
        if self.base_params.get("temperature"):
            raise ConfigError("base_params.temperature: labels are read from greedy answers; remove it")


class Classification(Measurement):
    """Share of the items whose label is found. The details have precision, recall and F1: macro, weighted, per class.

    A written answer names a label when just one of the item's labels is in it; else it counts as one of no class.
    """

    params, fields = ClassificationParams, ("prompt", "labels", "label")

    def metric(self, params: ClassificationParams) -> tuple[str, bool]:
        return "accuracy", True

    def check(self, row: Row, params: ClassificationParams) -> None:
        if len(row["labels"]) < 2 or row["label"] not in row["labels"]:
            raise DataError(f"item {row['id']}: `labels` are at least two texts, and `label` is one of them")

    def run(self, policy: "Policy", rows: list[Row], params: ClassificationParams, micro_batch: int) -> list[Scored]:
        label = most_likely if params.base == "choice" else written
        return [
            scored(row, float(said == row["label"]), answer=said, reference=row["label"])
            for row, said in zip(rows, label(policy, rows, params, micro_batch), strict=True)
        ]

    def details(self, items: list[Scored], params: ClassificationParams) -> dict[str, Any]:
        return {"metrics": further(items), "remarks": remarks(items)}


def most_likely(policy: "Policy", rows: list[Row], params: ClassificationParams, micro_batch: int) -> list[str]:
    base, of_base = base_of(params.base, params.base_params)
    asked = [{**row, "choices": row["labels"], "answer": row["labels"].index(row["label"])} for row in rows]
    return [item.answer for item in base.run(policy, asked, of_base, micro_batch)]


def written(policy: "Policy", rows: list[Row], params: ClassificationParams, micro_batch: int) -> list[str]:
    """The label that each answer names; where that is not one, the answer itself after NO_LABEL."""
    from stages.evaluation.generate import answers_of

    _, of_base = base_of(params.base, params.base_params)
    answers = answers_of(policy, rows, of_base.max_new_tokens, micro_batch)
    found = [named(row["labels"], answer) for row, answer in zip(rows, answers, strict=True)]
    return [
        labels[0] if len(labels) == 1 else f"{NO_LABEL} {answer}" for labels, answer in zip(found, answers, strict=True)
    ]


def further(items: list[Scored]) -> dict[str, Any]:
    """Precision, recall and F1 with intervals over resampled clusters."""
    labels, truth, said = coded(items)
    clusters = [item.cluster for item in items]

    def interval(average: str, score: int) -> dict[str, Any]:
        def statistic(places: Places) -> float:
            return averaged(confusion(truth[places], said[places], len(labels)), average)[score]

        return clustered(statistic, clusters)

    averages = {f"{name}_{average}": interval(average, k)
                for average in ("macro", "weighted") for k, name in enumerate(SCORES)}  # fmt: skip
    single = {f"{name} {label}": interval(str(place), k)
              for place, label in enumerate(labels) for k, name in enumerate(SCORES)}  # fmt: skip
    return averages | single


def coded(items: list[Scored]) -> tuple[list[str], Counts, Counts]:
    """Labels that are right or given for an item, and both for each item by their place; no label is the last place."""
    given = [None if item.answer.startswith(NO_LABEL) else item.answer for item in items]
    labels = sorted({item.reference for item in items} | {label for label in given if label is not None})
    place = {label: k for k, label in enumerate(labels)} | {None: len(labels)}
    return labels, np.array([place[item.reference] for item in items]), np.array([place[label] for label in given])


def confusion(truth: Counts, said: Counts, labels: int) -> Counts:
    """Items by right label and given one: shape (labels, labels + 1), the last column for no label."""
    flat = np.bincount(truth * (labels + 1) + said, minlength=labels * (labels + 1))
    return flat.reshape(labels, labels + 1)


def averaged(table: Counts, average: str) -> Floats:
    """Precision, recall and F1 as scikit-learn has them, 0 where nothing divides: macro, weighted, or of one label."""
    hits, support, given = table.diagonal(), table.sum(axis=1), table.sum(axis=0)[:-1]
    parts = [(hits, given), (hits, support), (2 * hits, given + support)]
    scores = np.array([a / np.maximum(b, 1) for a, b in parts])
    if average == "macro":
        return scores[:, given + support > 0].mean(axis=1)
    return scores @ (support / support.sum()) if average == "weighted" else scores[:, int(average)]


def remarks(items: list[Scored]) -> list[str]:
    """What is mistaken for what most often, and how many answers name no label."""
    lost = sum(item.answer.startswith(NO_LABEL) for item in items)
    mistaken = Counter((item.reference, item.answer) for item in items
                       if not item.score and not item.answer.startswith(NO_LABEL)).most_common(1)  # fmt: skip
    told = [f"Mistaken most often: {right} for {said} ({count} of {len(items)})." for (right, said), count in mistaken]
    return told + ([f"{lost} of {len(items)} answers name no label or several; they count as wrong."] if lost else [])
