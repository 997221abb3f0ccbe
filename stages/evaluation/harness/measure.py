"""`harness`: a task of lm-evaluation-harness, with items, prompts and scores as the harness has them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.judging.statistics import Items, estimate
from stages.evaluation.harness.asking import Answered, ask, check_unchanged
from stages.evaluation.harness.scores import Metric, chosen, metrics
from stages.evaluation.harness.tasks import load
from stages.evaluation.measurement import PROMPT_SHOWN, Measurement, Row, Scored, at_least, scored

if TYPE_CHECKING:
    from lm_eval.api.task import Task

    from stages.models.chain import Policy

LOG_LIKELIHOOD, CUT, WEIGHT = "log_likelihood", "cut", " weight"  # of the values of an item; the last ends a name


@dataclass(frozen=True)
class HarnessParams:
    tasks: str = ""  # a task, group or tag of the harness, or the path of a task file or of a folder with some
    metric: str = ""  # of the harness: acc_norm, or with a filter exact_match,strict-match; empty = the task's first
    num_fewshot: int = at_least(-1, -1)  # examples before each item; -1 = as the task says
    chat_template: bool = False  # prompts as the user's turn, examples as turns before it; off: texts as they are

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("tasks: name a task of the harness, or give the path of a task file")


class Harness(Measurement):
    """Score: the item's value of the metric, whose mean (or perplexity) is the harness's own number."""

    params, fields, brings_items = HarnessParams, ("task", "place"), True

    def items(self, params: HarnessParams) -> dict[str, Any]:
        return {"kind": "harness", "tasks": params.tasks, "metric": params.metric, "num_fewshot": params.num_fewshot}

    def metric(self, params: HarnessParams) -> tuple[str, bool]:
        metric = chosen(load(params.tasks, params.num_fewshot), params.metric)
        return metric.called, metric.higher_is_better

    def run(self, policy: "Policy", rows: list[Row], params: HarnessParams, micro_batch: int) -> list[Scored]:
        tasks = load(params.tasks, params.num_fewshot)
        metric = chosen(tasks, params.metric)
        check_unchanged(tasks, rows)
        answered = ask(policy, tasks, rows, params.chat_template, micro_batch)
        return [_result(row, answered[row["task"], row["place"]], metric, tasks.tasks[row["task"]]) for row in rows]

    def details(self, items: list[Scored], params: HarnessParams) -> dict[str, Any]:
        """The task's further metrics, where its items come from, and how many prompts were too long."""
        tasks = load(params.tasks, params.num_fewshot)
        own = chosen(tasks, params.metric)
        others = [metric for metric in metrics(next(iter(tasks.tasks.values()))) if metric != own]
        cut = sum(item.values[CUT] for item in items)
        lost = f"{cut:.0f} of {len(items)} prompts were longer than the model reads and lost their beginning"
        return {
            "metrics": {metric.key: number for metric in others if (number := _number(metric, items))},
            "remarks": [*tasks.origins(), *([lost] if cut else [])],
        }


def _result(row: Row, answered: Answered, metric: Metric, task: "Task") -> Scored:
    sample = answered.samples[metric.filter]
    score, weight = metric.of(sample)
    values = {CUT: float(answered.cut), **_likelihood(sample, task)}
    for other in metrics(task):
        if other != metric:
            values[other.key], own = other.of(answered.samples[other.filter])
            values |= {other.key + WEIGHT: own} if own != 1 else {}
    prompt = sample["arguments"][0][0][-PROMPT_SHOWN:]
    answer, reference = _told(sample, metric, task)
    return scored(row, score, weight=weight, prompt=prompt, answer=answer, reference=reference, values=values)


def _likelihood(sample: dict[str, Any], task: "Task") -> dict[str, float]:
    """The log-likelihood of what should follow; nothing where the model writes."""
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return {LOG_LIKELIHOOD: sample["resps"][0][0]}
    place = _gold(sample, task) if task.OUTPUT_TYPE == "multiple_choice" else 0
    return (
        {} if task.OUTPUT_TYPE == "generate_until" or place is None else {LOG_LIKELIHOOD: sample["resps"][place][0][0]}
    )


def _gold(sample: dict[str, Any], task: "Task") -> int | None:
    """The place of the right choice; None where several are right, or none."""
    right, choices = (
        task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"],
        _choices(sample, task),
    )
    place = choices.index(right) if right in choices else right
    return place if isinstance(place, int) and 0 <= place < len(choices) else None


def _choices(sample: dict[str, Any], task: "Task") -> list[str]:
    return task.doc_to_choice(sample["doc"])


def _told(sample: dict[str, Any], metric: Metric, task: "Task") -> tuple[str, str]:
    """What the model answered, and what is right, for a person to read."""
    if task.OUTPUT_TYPE == "multiple_choice":
        choices, gold = _choices(sample, task), _gold(sample, task)
        compared = [sample["resps"][k][0][0] / metric.length(choice) for k, choice in enumerate(choices)]
        return choices[compared.index(max(compared))], str(sample["target"]) if gold is None else choices[gold]
    if task.OUTPUT_TYPE == "generate_until":
        return str(sample["filtered_resps"][0]), str(sample["target"])
    told = f"log-likelihood {_likelihood(sample, task)[LOG_LIKELIHOOD]:.3f}"
    return told, str(sample["target"]) if task.OUTPUT_TYPE == "loglikelihood" else ""


def _number(metric: Metric, items: list[Scored]) -> dict[str, Any]:
    """A further metric of the suite with its interval; nothing where some item has none."""
    if not all(metric.key in item.values for item in items):
        return {}
    scores = np.array([item.values[metric.key] for item in items])
    weights = np.array([item.values.get(metric.key + WEIGHT, 1.0) for item in items])
    found = estimate(
        Items([item.item for item in items], [item.cluster for item in items], scores, weights), metric.called
    )
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
