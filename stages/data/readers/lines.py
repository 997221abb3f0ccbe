"""Files of lines: JSON Lines, paragraphs of plain text, Markdown documents."""

import json
from collections.abc import Iterator
from typing import Any

from stages.data.readers.errors import RowError
from stages.data.readers.opening import Source, line_blocks


def jsonl(source: Source) -> Iterator[tuple[int, Any]]:
    """The lines that are not blank, not parsed yet: `parse` can do that in another process."""
    for first, lines in line_blocks(source):
        for number, line in enumerate(lines, first):
            if isinstance(line, RowError) or (not line.isspace() and line):
                yield number, line


def parse(line: Any) -> Any:
    """The JSON value of a line, or a RowError."""
    if isinstance(line, RowError):
        return line
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return RowError(f"not valid JSON ({error.msg} at column {error.colno}); each line must be one object")
    except RecursionError:
        return RowError("not readable: lists or objects nested too deeply")
    except ValueError as error:  # a number of more than 4300 digits
        return RowError(f"not readable ({error})")


def paragraphs(source: Source) -> Iterator[tuple[int, Any]]:
    """One row for each block between blank lines."""
    block: list[str] = []
    start = 0
    for number, line in _lines(source):
        if isinstance(line, RowError):
            yield number, line
            continue
        if block and block[-1] == "":  # a blank line ends a paragraph, unless nothing but it is left of the file
            yield from _paragraph(start, block[:-1])
            block = []
        if line or block:
            start = start if block else number
            block.append(line)
    yield from _paragraph(start, block)


def _paragraph(start: int, block: list[str]) -> Iterator[tuple[int, Any]]:
    text = "\n".join(block)
    if text.strip():
        yield start, {"text": text}


def document(source: Source) -> Iterator[tuple[int, Any]]:
    """The whole file as one row."""
    lines = []
    for number, line in _lines(source):
        if isinstance(line, RowError):
            yield number, line
        else:
            lines.append(line)
    yield from _paragraph(1, lines)


def _lines(source: Source) -> Iterator[tuple[int, str | RowError]]:
    for first, lines in line_blocks(source):
        for number, line in enumerate(lines, first):
            yield number, line if isinstance(line, RowError) else line.removesuffix("\r")
