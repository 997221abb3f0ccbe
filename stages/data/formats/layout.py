"""A layout: one way in which files write rows, and the way from it to a form of the contract and back."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from stages.data.readers.errors import RowError

Row = dict[str, Any]
LABELS = ("id", "cluster", "task", "tags", "slices", "baselines", "category", "seen_category")  # beside the content


def labels(raw: Row) -> Row:
    """The fields beside the content that every row may have."""
    return {name: raw[name] for name in LABELS if name in raw}


@dataclass(frozen=True)
class Layout:
    """How a kind of file writes a row of `form`.

    `read` gives the row's content in that form, `write` a raw row with that content; both raise RowError.
    """

    name: str  # what `layout` of a data set names it by
    family: str  # the format as a person calls it
    form: str  # of the contract: chat, text, preference, ...
    fits: Callable[[Row], bool]  # whether a raw row is written like this, by its fields
    read: Callable[[Row], Row]
    write: Callable[[Row], Row]
    uses: tuple[str, ...]  # fields that `read` looks at
    labels: Callable[[Row], Row] = labels


def to_internal(raw: Row, layout: Layout) -> Row:
    """The row in its form, with all that the form has no place for under `extra`. RowError when it cannot be read."""
    content = layout.read(raw)
    again = {**_written(content, layout), **labels(raw)}
    extra = {name: value for name, value in raw.items() if name not in again or not same(value, again[name])}
    absent = [name for name in again if name not in raw]
    rest = {name: value for name, value in (("fields", extra), ("absent", absent)) if value}
    return {**content, **labels(raw), **({"extra": rest} if rest else {})}


def _written(content: Row, layout: Layout) -> Row:
    """The content as the layout writes it; nothing where a reader forgives what no writer does."""
    try:
        return layout.write(content)
    except RowError:
        return {}


def from_internal(row: Row, layout: Layout) -> Row:
    """The row as the layout writes it. Gives back exactly what `to_internal` was given, unless its content was changed.

    RowError when the layout has no way to say it.
    """
    content = {name: value for name, value in row.items() if name != "extra" and name not in LABELS}
    extra = row.get("extra", {})
    before = {**_written(content, layout), **labels(row), **extra.get("fields", {})}
    before = {name: value for name, value in before.items() if name not in extra.get("absent", [])}
    return before if _reads_as(before, content, layout) else {**before, **layout.write(content)}


def _reads_as(raw: Row, content: Row, layout: Layout) -> bool:
    try:
        return same(layout.read(raw), content)
    except RowError:
        return False


def same(one: Any, other: Any) -> bool:
    """Equal, also in type: 1 is not True."""
    return json.dumps(one, sort_keys=True, default=repr) == json.dumps(other, sort_keys=True, default=repr)


def has(raw: Row, *names: str) -> bool:
    return all(name in raw for name in names)


def first(raw: Row, names: Iterable[str]) -> str | None:
    """The first of these fields that the row has."""
    return next((name for name in names if name in raw), None)


def text(raw: Row, name: str) -> str:
    """A field that must hold text. RowError otherwise."""
    value = raw.get(name)
    if not isinstance(value, str):
        raise RowError(f"'{name}' must be a string, not {type(value).__name__}")
    if not value.strip():
        raise RowError(f"'{name}' is empty", "empty_turn")
    return value


def unsaid(layout: str, why: str) -> RowError:
    """A row that a layout has no way to write."""
    return RowError(f"cannot be written as {layout}: {why}")
