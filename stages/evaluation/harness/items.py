"""Items of tasks as rows of a data set: what is measured on them, and what the check for leaks compares."""

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from stages.evaluation.harness.tasks import reason
from stages.evaluation.measurement import Row

if TYPE_CHECKING:
    from lm_eval.api.task import Task

    from stages.evaluation.harness.tasks import Tasks

FEWEST_WORDS = 3  # of a column that counts as a part of the question
OWN = {  # fields of a row with a meaning of their own: no column of an item takes their place
    "id", "task", "place", "slices", "origin", "tags", "baselines", "messages", "prompt", "text", "answers", "answer",
    "choices", "check", "chosen", "rejected", "completion", "a", "b",
}  # fmt: skip


def rows(tasks: "Tasks") -> Iterator[Row]:
    """One row for each item of each task: names, slices, what it asks and answers, and its plain columns."""
    for name, task in tasks.tasks.items():
        group = {"group": tasks.groups[name]} if name in tasks.groups else {}
        for place, doc in enumerate(task.eval_docs):
            yield {
                **_plain(doc),
                **_said(name, task, place, doc),
                "id": item_id(name, place, doc), "task": name, "place": place, "slices": group,
                "origin": {"file": f"task {name}", "line": place + 1},
            }  # fmt: skip


def item_id(task: str, place: int, doc: Any) -> str:
    """Names the item and its content, so that results on changed data are never paired."""
    text = json.dumps(doc, sort_keys=True, default=str, ensure_ascii=True)
    return f"{task}:{place}:{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _said(name: str, task: "Task", place: int, doc: Any) -> Row:
    try:
        return said(task, doc)
    except Exception as error:  # templates of the task meet values that nobody has looked at
        raise DataError(f"task {name}, item {place + 1}: the task cannot read it: {reason(error)}") from error


def _plain(doc: Any) -> Row:
    """The columns of an item that can be slices; `cluster` says which items share a source."""
    values = doc.items() if isinstance(doc, dict) else ()
    found = {key: value for key, value in values if isinstance(value, bool | int | float | str) and key not in OWN}
    return {**found, "cluster": str(found["cluster"])} if "cluster" in found else found


def said(task: "Task", doc: Any) -> Row:
    """What the item asks and its right answers, or its text where it asks nothing."""
    choices = task.doc_to_choice(doc) if task.get_config("doc_to_choice") is not None else []
    question, target = task.doc_to_text(doc), task.doc_to_target(doc)
    answers = [_written(one, choices) for one in (target if isinstance(target, list) else [target])]
    asked = _asked(doc, _written(question, choices))
    answers = [answer for answer in answers if answer.strip()]
    if not asked:
        return {"text": "\n".join(answers)}
    return {"prompt": [{"role": "user", "content": asked}], "answers": answers}


def _written(value: Any, choices: list[str]) -> str:
    """A text, or the choice whose number it is."""
    inside = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices)
    return str(choices[value]) if inside else str(value)


def _asked(doc: Any, question: str) -> str:
    """The question as its columns have it, without what a template puts around them; else as it is written."""
    texts = [text for text in (doc.values() if isinstance(doc, dict) else ()) if isinstance(text, str)]
    inside = {text.strip(): question.find(text) for text in texts if len(text.split()) >= FEWEST_WORDS}
    parts = sorted((place, text) for text, place in inside.items() if place >= 0)
    return "\n".join(text for _, text in parts) or question.strip()
