"""Raw records to rows of the contract, chunk by chunk, in all cores where there is enough to do."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline.errors import ConfigError, DataError
from stages.data import formats, readers, rows
from stages.data.processes import in_processes
from stages.data.readers import RowError
from stages.data.redaction import NOTHING, Redaction

RECORDS = 500  # in a chunk
ALONE = 40  # chunks before other processes are started: below, starting them costs more than they save
LINE = json.JSONEncoder(ensure_ascii=False, default=str)
SAMPLE = 200  # records that the layout is told from
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Plan:
    """What rows become, for a process that converts them."""

    form: str
    layout: str | None = None  # each row's own if None
    tags: tuple[str, ...] = ()  # of rows that have none
    redaction: Redaction = NOTHING
    columns: tuple[tuple[str, str], ...] = ()  # (field, the column that holds it)
    keep: tuple[str, ...] = ()  # columns that stay beside the fields of the form


@dataclass(frozen=True)
class Chunk:
    """Some records of one file, not parsed yet."""

    file: str
    records: list[tuple[int, Any]]
    cluster: str | None = None  # of rows that have none: the document they are part of


class Kept(NamedTuple):
    """A row of the contract, as its line of JSON, and what is counted of it."""

    line: int
    json: str
    key: int  # equal for equal content
    id: str | None  # where the user gave one
    cluster: str
    task: str
    tags: tuple[str, ...]
    repairs: tuple[str, ...]
    unused: tuple[str, ...]
    words: int


class Refused(NamedTuple):
    """A record that is no row of the contract."""

    line: int
    reason: str
    raw: Any  # None where it could not even be parsed
    code: str  # of the finding that tells of such rows


def plan(
    form: str, layout: str, tags: Iterable[str], chunks: Iterator[Chunk], columns: Mapping[str, str] = NONE
) -> tuple[Plan, Iterator[Chunk]]:
    """What the settings, and where they say auto the first records, make of the rows; and the chunks again.

    DataError when no record looks like any layout.
    """
    named = None if layout == formats.AUTO else formats.named(layout, None if form == formats.AUTO else form)
    renames = tuple(columns.items())
    if form != formats.AUTO:
        return Plan(form, named and named.name, tuple(tags), columns=renames), chunks
    if named:
        return Plan(named.form, named.name, tuple(tags), columns=renames), chunks
    first = next(chunks, None)
    found = formats.detect([renamed(value, renames) for value in parsed(first)]) if first else None
    if first and not found:
        raise DataError(unknown(first))
    form = found.layout.form if found else "text"
    return Plan(form, None, tuple(tags), columns=renames), chain([first] if first else [], chunks)


def parsed(chunk: Chunk) -> list[Any]:
    """The values of a chunk's first records."""
    parse = parser(chunk.file)
    return [parse(record) for _, record in chunk.records[:SAMPLE]]


def parser(file: str) -> Callable[[Any], Any]:
    """How the records of a file, or the rows of a builder, are parsed."""
    try:
        return readers.kind_of(file).parse
    except ConfigError:
        return readers.as_is


def unknown(chunk: Chunk) -> str:
    """What to say of a file of which no row looks like any layout."""
    line, record = chunk.records[0]
    value = parser(chunk.file)(record)
    shown = f"has the fields {', '.join(map(str, value))}" if isinstance(value, dict) else f"is {str(value)[:80]}"
    return (
        f"{chunk.file}, line {line}: the rows look like no known layout; the first {shown}. Rename its fields to those "
        "of a layout in docs/formats.md"
    )


def chunks(file: str, records: Iterable[tuple[int, Any]], cluster: str | None = None) -> Iterator[Chunk]:
    """The records in pieces."""
    rest = iter(records)
    while part := list(islice(rest, RECORDS)):
        yield Chunk(file, part, cluster)


def convert(chunk: Chunk, plan: Plan) -> list[Kept | Refused]:
    """Every record of the chunk as a row or with the reason why it is none."""
    layout = formats.named(plan.layout, plan.form) if plan.layout else None
    parse = parser(chunk.file)
    found: list[Kept | Refused] = []
    for line, record in chunk.records:
        raw = parse(record)
        try:
            found.append(_kept(chunk, line, raw, plan, layout))
        except RowError as error:
            shown = None if isinstance(raw, RowError) else plan.redaction.of(raw)[0]
            found.append(Refused(line, str(error), shown, error.code))
    return found


def renamed(raw: Any, columns: Iterable[tuple[str, str]]) -> Any:
    """The record with its columns under the names of their fields. RowError when it lacks one."""
    if not isinstance(raw, dict):
        return raw
    for field, column in columns:
        if column not in raw:
            raise RowError(f"has no column '{column}' for the field '{field}' (it has: {', '.join(raw) or 'none'})")
    taken = {column for _, column in columns}
    rest = {name: value for name, value in raw.items() if name not in taken}
    return {**rest, **{field: raw[column] for field, column in columns}}


def columns_of(raw: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """What stays of the record beside the fields of its form. RowError for one that is absent or no plain value."""
    for name in plan.keep:
        if name not in raw:
            raise RowError(f"has no column '{name}' to keep (it has: {', '.join(raw) or 'none'})")
        if not isinstance(raw[name], str | int | float | bool | None):
            raise RowError(f"'{name}' is kept, so it must be a text, a number, true or false, not {raw[name]!r}")
    return plan.redaction.of({name: raw[name] for name in plan.keep})[0]


def _kept(chunk: Chunk, line: int, raw: Any, plan: Plan, layout: formats.Layout | None) -> Kept:
    raw = renamed(raw, plan.columns)
    written = layout or rows.layout_of(raw, plan.form)
    row, repairs = rows.normalise(raw, plan.form, written, plan.redaction)
    if chunk.cluster and "cluster" not in written.labels(raw):
        row["cluster"] = chunk.cluster
    given = "id" in written.labels(raw)
    key = rows.content_key(row) if given or "category" in row else row["id"]  # which was made from the content
    origin = {"file": chunk.file, "line": line}
    whole = {**columns_of(raw, plan), "task": plan.form, "tags": list(plan.tags), **row, "origin": origin}
    return Kept(
        line,
        LINE.encode(whole),
        int(key, 16),
        row["id"] if given else None,
        row["cluster"],
        whole["task"],
        tuple(map(str, whole["tags"])),
        tuple(repairs),
        tuple(rows.unused_fields(raw, whole, written)),
        rows.words(row),
    )


def converted(chunks: Iterator[Chunk], plan: Plan) -> Iterator[tuple[Chunk, list[Kept | Refused]]]:
    """All chunks in their order; the first ones in this process, the others in as many as there are cores."""
    for chunk in islice(chunks, ALONE):
        yield chunk, convert(chunk, plan)
    more = next(chunks, None)
    if more is None:
        return
    everything = chain([more], chunks)
    cores = len(os.sched_getaffinity(0))
    if cores == 1:
        yield from ((chunk, convert(chunk, plan)) for chunk in everything)
        return
    with closing(in_processes(partial(convert, plan=plan), everything, cores)) as found:
        yield from found
