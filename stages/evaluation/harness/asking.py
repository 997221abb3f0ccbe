"""Asking a model the items of tasks through the harness's own evaluation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import JourneymanError, StageFailed
from stages.evaluation.harness.items import item_id
from stages.evaluation.harness.tasks import SEED, Tasks, quiet, reason
from stages.evaluation.measurement import Row

if TYPE_CHECKING:
    from stages.models.chain import Policy


@dataclass
class Answered:
    """One item as the harness has seen it: what it logs, by filter of answers, and whether a prompt was cut."""

    samples: dict[str, dict[str, Any]]
    cut: bool


def check_unchanged(tasks: Tasks, rows: list[Row]) -> None:
    """StageFailed where the items are no longer those that were prepared: results would not be comparable."""
    for name in {row["task"] for row in rows}:
        docs = list(tasks.tasks[name].eval_docs) if name in tasks.tasks else []
        for row in (row for row in rows if row["task"] == name):
            place = row["place"]
            if place >= len(docs) or item_id(name, place, docs[place]) != row["id"]:
                raise StageFailed(
                    f"the items of task {name} have changed since they were prepared: {row['id']} is another; prepare "
                    "them anew with --force SUITE_items"
                )


def ask(
    policy: "Policy", tasks: Tasks, rows: list[Row], chat_template: bool, micro_batch: int
) -> dict[tuple[str, int], Answered]:
    """(task, place) -> what the harness makes of the model's answers to these rows."""
    from lm_eval.evaluator import evaluate

    from stages.evaluation.harness.model import PolicyLM

    places: dict[str, list[int]] = {}
    for row in rows:
        places.setdefault(row["task"], []).append(row["place"])
    wanted = {name: tasks.tasks[name] for name in places}
    for task in wanted.values():
        task.set_fewshot_seed(SEED)
    model = PolicyLM(policy, micro_batch)
    try:
        with quiet():
            results = evaluate(
                model, {"tasks": wanted}, samples={name: sorted(own) for name, own in places.items()},
                bootstrap_iters=0, apply_chat_template=chat_template, fewshot_as_multiturn=chat_template,
            )  # fmt: skip
    except JourneymanError:
        raise
    except Exception as error:  # templates, filters and metrics of tasks are not ours
        raise StageFailed(f"the harness fails on {', '.join(wanted)}: {reason(error)}") from error
    found: dict[tuple[str, int], Answered] = {}
    for name, samples in results["samples"].items():
        for sample in samples:
            answered = found.setdefault((name, sample["doc_id"]), Answered({}, False))
            answered.samples[sample["filter"]] = sample
            answered.cut = any(arguments[0] in model.cut for arguments in sample["arguments"])
    return found
