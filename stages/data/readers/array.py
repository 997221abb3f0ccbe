"""JSON files: an array of rows, read one row at a time; also values one after the other, and an object around rows."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from pipeline.errors import DataError
from stages.data.readers.opening import LONGEST, Broken, Source, blocks, not_utf8

SPACE = re.compile(r"[ \t\n\r]*")
NEAR_END = 16  # an error so near the end of what was read may be a word or an escape cut in two
DECODER = json.JSONDecoder()


class Unfinished(Exception):
    """No whole value stands here; `at`: letters from the start of the window."""

    def __init__(self, message: str, at: int, ended: bool) -> None:
        super().__init__(message)
        self.at = at
        self.ended = ended  # the file ends inside the value


class Window:
    """The part of the file's text that is not used up yet, which grows as needed."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.blocks = blocks(source)
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text = ""
        self.at = 0  # letters of `text` that are used up
        self.bytes = 0  # before `text`
        self.fed = 0  # bytes read
        self.line = 1  # of the beginning of `text`
        self.ended: str | None = None  # why there is no more: "" at the end of the file, or what is broken

    def grow(self) -> None:
        """Take in as much again as there is, at least a block; what is used up is let go."""
        used = self.text[: self.at]
        self.bytes += len(used.encode())
        self.line += used.count("\n")
        parts, self.at = [self.text[self.at :]], 0
        wanted = max(1, len(parts[0]))
        while wanted > 0 and self.ended is None:
            parts.append(self._more())
            wanted -= len(parts[-1])
        self.text = "".join(parts)

    def _more(self) -> str:
        try:
            block = next(self.blocks, None)
        except Broken as error:
            self.ended = str(error)
            return ""
        if block is None:
            self.ended = ""
            return ""
        if self.fed == 0 and block.startswith(codecs.BOM_UTF8):
            block, self.fed, self.bytes = block[3:], 3, 3
        cut = self.decoder.getstate()[0]  # the first bytes of a letter, from the block before
        try:
            return self.decoder.decode(block)
        except UnicodeDecodeError:
            self.ended = "it is not UTF-8"
            if self.source.salvage:
                return ""
            raise not_utf8(self.source, cut + block, self.fed - len(cut)) from None
        finally:
            self.fed += len(block)

    def peek(self) -> str:
        """The next letter that is no white space, '' at the end."""
        while True:
            self.at = SPACE.match(self.text, self.at).end()
            if self.at < len(self.text) or self.ended is not None:
                return self.text[self.at : self.at + 1]
            self.grow()

    def value(self) -> Any:
        """The next JSON value. Unfinished when there is none."""
        self.peek()
        while True:
            try:
                found, end = DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                self._need_more(error)
                continue
            except (RecursionError, ValueError) as error:  # nested too deeply, or a number of over 4300 digits
                raise Unfinished(f"{error}", self.at, False) from None
            if end < len(self.text) or self.ended is not None:
                self.at = end
                return found
            self.grow()  # a number may go on

    def _need_more(self, error: json.JSONDecodeError) -> None:
        open_end = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - NEAR_END
        if not open_end or self.ended is not None or len(self.text) - self.at > LONGEST:
            raise Unfinished(error.msg, error.pos, open_end and self.ended is not None) from None
        self.grow()

    def place(self, at: int) -> tuple[int, int]:
        """(line, byte) of a letter of the window, from 1 and from 0."""
        before = self.text[:at]
        return self.line + before.count("\n"), self.bytes + len(before.encode())


def read(source: Source) -> Iterator[tuple[int, Any]]:
    """Rows by their place in the file, from 1."""
    window = Window(source)
    first = window.peek()
    if first == "[":
        yield from _array(window)
    elif first == "{":
        yield from _objects(window)
    elif first or window.ended:
        yield _broken(window, 1, Unfinished("neither an array nor an object", window.at, False))


def _array(window: Window) -> Iterator[tuple[int, Any]]:
    window.at += 1
    number = 1
    if window.peek() == "]":
        window.at += 1
    else:
        while True:
            try:
                value = window.value()
                after = window.peek()
                if after not in (",", "]"):
                    raise Unfinished("Expecting ',' delimiter", window.at, not after)
            except Unfinished as error:
                yield _broken(window, number, error)
                return
            window.at += 1
            yield number, value
            number += 1
            if after == "]":
                break
    if window.peek():
        yield _broken(window, number, Unfinished("something follows the array's end", window.at, False))


def _objects(window: Window) -> Iterator[tuple[int, Any]]:
    """Values one after the other (JSON Lines with the ending .json), or one object that holds the rows."""
    try:
        first = window.value()
    except Unfinished as error:
        yield _broken(window, 1, error)
        return
    if not window.peek():
        yield from enumerate(_rows_in(window.source, first), 1)
        return
    yield 1, first
    number = 2
    while window.peek():
        try:
            value = window.value()
        except Unfinished as error:
            yield _broken(window, number, error)
            return
        yield number, value
        number += 1


def _rows_in(source: Source, document: dict[str, Any]) -> list[Any]:
    """The one list of objects in it, such as `questions` of {"about": {...}, "questions": [{...}, ...]}."""
    lists = [v for v in document.values() if isinstance(v, list) and v and all(isinstance(x, dict) for x in v)]
    if len(lists) != 1:
        raise DataError(
            f"{source.path}: holds a JSON dict with {len(lists)} lists of rows, but must be an array of rows: "
            "[{...}, ...], or an object with exactly one"
        )
    return lists[0]


def _broken(window: Window, number: int, error: Unfinished) -> tuple[int, Any]:
    _, begins = window.place(window.at)
    line, byte = window.place(len(window.text) if error.ended else error.at)
    why = window.ended or ("the file ends inside a row" if error.ended else str(error))
    message = f"not valid JSON: breaks at byte {byte} ({why}), in row {number}, which begins at byte {begins}"
    if window.source.salvage:
        return window.source.broken(number, f"{message}; it and all that follows is lost")
    kept = f"get the whole file, or set `on_error: salvage` to keep the {number - 1} whole rows before it"
    return window.source.broken(number, f", line {line}: {message}", kept)
