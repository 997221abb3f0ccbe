"""Read a user's files into raw rows, whatever their container: lines, arrays, tables, folders, data sets of the hub.

Every reader yields `(line, row)`, where `line` is the line or the record's number, and `row` is the parsed value, or a
RowError that says what is wrong there. Nothing holds more than a part of a file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, DataError
from stages.data.readers import array, folders, lines, tables
from stages.data.readers.errors import RowError
from stages.data.readers.opening import CODECS, Source, on_disk

__all__ = ["RowError", "Source", "endings", "expand", "kind_of", "on_disk", "read", "records"]


def as_is(row: Any) -> Any:
    return row


@dataclass(frozen=True)
class Reader:
    """`records` finds where rows are; `parse` makes a row of each, in another process where that helps."""

    records: Callable[[Source], Iterator[tuple[int, Any]]]
    parse: Callable[[Any], Any] = as_is


JSONL = Reader(lines.jsonl, lines.parse)
READERS = {
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".json": Reader(array.read),
    ".csv": Reader(tables.delimited),
    ".tsv": Reader(tables.delimited),
    ".xlsx": Reader(tables.spreadsheet),
    ".parquet": Reader(tables.parquet),
    ".arrow": Reader(tables.arrow),
    ".txt": Reader(lines.paragraphs),
    ".md": Reader(lines.document),
}
SAVED, HUB = Reader(folders.saved), Reader(folders.hub)


def endings() -> list[str]:
    """All endings that can be read."""
    return [*READERS, *(ending + codec for codec in CODECS for ending in READERS)]


def kind_of(name: str) -> Reader:
    """The reader of a file, a `datasets` folder or a hub id. ConfigError for an unknown ending."""
    if name.startswith("hub:"):
        folders.pinned(name)
        return HUB
    if folders.is_saved(name):
        return SAVED
    path = Path(name)
    ending = Path(path.stem).suffix if path.suffix in CODECS else path.suffix
    if ending not in READERS:
        raise ConfigError(
            f"{name}: cannot read files ending in '{ending}'; use {', '.join(READERS)}, also with {' or '.join(CODECS)}"
        )
    return READERS[ending]


def expand(name: str) -> list[str]:
    """The files that an entry of `files` means: itself, or what is in a folder or fits a pattern."""
    return folders.expand(name, endings())


def records(source: Source) -> Iterator[tuple[int, Any]]:
    """The file's records, for `kind_of(source.path).parse`. ConfigError: not there; DataError: not readable."""
    found = kind_of(source.path).records(source)
    first = next(found, None)
    if first is None:
        raise DataError(f"{source.path}: the file is empty; put at least one row into it or take it out of `files`")
    return chain([first], found)


def read(path: str, salvage: bool = False) -> Iterator[tuple[int, Any]]:
    """Rows of the file with their line numbers. ConfigError: not there or unknown ending; DataError: not readable."""
    parse = kind_of(path).parse
    return ((line, parse(record)) for line, record in records(Source(path, salvage)))
