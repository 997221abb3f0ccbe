"""Read a user's files into raw rows: JSON Lines, a JSON array, or plain text.

Every reader yields `(line, row)`, where `row` is the parsed value, or a RowError that says what is wrong on that line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, DataError


class RowError(Exception):
    """One row cannot be used; the message says why and what to do."""


def read(path: str) -> Iterator[tuple[int, Any]]:
    """Rows of the file with their line numbers. ConfigError: not there or unknown ending; DataError: not readable."""
    ending = Path(path).suffix
    if ending not in READERS:
        raise ConfigError(f"{path}: cannot read files ending in '{ending}'; use {', '.join(READERS)}")
    text = decode(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty; put at least one row into it or take it out of `files`")
    return READERS[ending](path, text)


def decode(path: str) -> str:
    """The file's text. DataError names the first byte that is not UTF-8. A byte order mark is dropped."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; correct the path in `files`") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: byte {error.start} (0x{data[error.start]:02x}) is not UTF-8; "
            f"save the file as UTF-8, for example: iconv -f latin1 -t utf-8 {path}"
        ) from None


def read_jsonl(path: str, text: str) -> Iterator[tuple[int, Any]]:
    """One JSON value a line; blank lines are skipped."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            yield (
                number,
                RowError(f"not valid JSON ({error.msg} at column {error.colno}); each line must be one object"),
            )


def read_json(path: str, text: str) -> Iterator[tuple[int, Any]]:
    """A JSON array of rows; the number of a row is its place in the array, from 1."""
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}); it must be one array") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a JSON {type(rows).__name__}, but must be an array of rows: [{{...}}, ...]")
    yield from enumerate(rows, 1)


def read_text(path: str, text: str) -> Iterator[tuple[int, Any]]:
    """Paragraphs: one row for each block between blank lines."""
    line = 1
    for block in text.replace("\r\n", "\n").split("\n\n"):
        if block.strip():
            yield line + len(block) - len(block.lstrip("\n")), {"text": block}
        line += block.count("\n") + 2


READERS = {".jsonl": read_jsonl, ".json": read_json, ".txt": read_text}
