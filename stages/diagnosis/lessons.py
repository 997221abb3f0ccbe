"""What a model was trained on, row by row: what is asked, what is answered, and the columns that slices are cut by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.context import Artifact
from stages.data.artifact import stream
from stages.data.said import texts

SHOWN = 2000  # characters of a prompt, as in the results of a suite


@dataclass(frozen=True)
class Lesson:
    """One training row. `answer` is empty for a document; of a preference it is the chosen one."""

    set: str
    prompt: str
    answer: str
    columns: Mapping[str, str]


def lessons(sets: Mapping[str, Artifact]) -> list[Lesson]:
    """The training rows of these data sets, name -> artifact."""
    return [_lesson(name, row) for name, artifact in sets.items() for row in stream(artifact)]


def _lesson(name: str, row: Mapping[str, Any]) -> Lesson:
    turns, answers = texts(row)
    columns = {**row, **(row.get("slices") or {})}
    plain = {key: str(value) for key, value in columns.items() if isinstance(value, str | int) and key != "text"}
    return Lesson(name, "\n".join(turns)[:SHOWN], answers[0] if answers else "", plain)
