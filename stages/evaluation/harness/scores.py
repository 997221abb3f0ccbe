"""What the harness made of one item, as a score whose mean is the harness's own number.

The harness aggregates a list of values with a function; those of `KINDS` are means of numbers of single items, or the
exponential of one, so that intervals and gates can be had for them. Others (F1, BLEU) are numbers of whole suites.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from lm_eval.api.task import Task

    from stages.evaluation.harness.tasks import Tasks


def _brier(value: Any) -> tuple[float, float]:
    gold, probabilities = value
    return sum((p - (k == gold)) ** 2 for k, p in enumerate(probabilities)), 1.0


# aggregation of the harness -> score and weight of an item's value
KINDS: dict[str, Callable[[Any], tuple[float, float]]] = {
    "mean": lambda value: (float(value), 1.0),
    "perplexity": lambda value: (-value, 1.0),
    "weighted_perplexity": lambda value: (-value[0] / value[1], float(value[1])),
    "bits_per_byte": lambda value: (-value[0] / value[1] / math.log(2), float(value[1])),
    "brier_score": _brier,
}
LEVELS = ("perplexity", "weighted_perplexity")  # kinds whose number is the exponential of the mean


@dataclass(frozen=True)
class Metric:
    """A metric of the harness: its name there, the filter of answers that it reads, and how items become scores."""

    name: str
    filter: str
    kind: str
    higher_is_better: bool

    @property
    def key(self) -> str:
        """As the harness writes it."""
        return self.name if self.filter == "none" else f"{self.name},{self.filter}"

    @property
    def called(self) -> str:
        """As results call it: gates and intervals know what a perplexity is."""
        return "perplexity" if self.kind in LEVELS else self.name

    def length(self, choice: str) -> int:
        """What the metric divides the log-likelihood of a choice by."""
        return {"acc_norm": len(choice), "acc_bytes": len(choice.encode())}.get(self.name, 1)

    def of(self, sample: dict[str, Any]) -> tuple[float, float]:
        """Score and weight of one item."""
        return KINDS[self.kind](sample[self.name])


def metrics(task: "Task") -> list[Metric]:
    """The metrics of a task that are means over its items, as the task lists them."""
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    names = {function: name for name, function in AGGREGATION_REGISTRY.items()}
    found = []
    for name, function in task.aggregation().items():
        kind = names.get(function)
        if kind in KINDS:
            higher = bool(task.higher_is_better().get(name, True))
            found += [Metric(name, one.name, kind, higher) for one in task._filters]
    return found


def chosen(tasks: "Tasks", wanted: str) -> Metric:
    """The metric that is compared: `wanted`, written `acc` or `exact_match,strict-match`, or the first of all tasks.

    ConfigError where some task has no such metric.
    """
    known = {name: metrics(task) for name, task in tasks.tasks.items()}
    name, _, by = wanted.partition(",")
    first = next(iter(known.values()))
    for metric in first:
        if (not name or metric.name == name) and (not by or metric.filter == by):
            if lacking := [task for task, own in known.items() if metric not in own]:
                raise ConfigError(
                    f"metric: task {lacking[0]} has no {metric.key}, only {_listed(known[lacking[0]])}; the tasks of "
                    "a suite need a metric in common, so make a suite of each"
                )
            return metric
    what = f"metric={wanted}: " if wanted else "metric: "
    raise ConfigError(
        f"{what}task {next(iter(known))} has {_listed(first) or 'no metric that is a mean over its items'}; numbers of "
        "a whole set, such as F1 or BLEU, have no items that a gate could compare"
    )


def _listed(known: list[Metric]) -> str:
    return ", ".join(metric.key for metric in known)
