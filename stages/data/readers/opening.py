"""Bytes and text of a file, block by block: compressed or not, never more of it in memory than a block and a line."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipeline.errors import ConfigError, DataError
from stages.data.readers.errors import RowError

if TYPE_CHECKING:
    import pyarrow as pa

CODECS = {".gz": "gzip", ".zst": "zstd"}
BLOCK = 2**20
PACKAGE = "package:"  # begins the name of a file that an installed package carries
LONGEST = 2**28  # bytes of one line or record
UNPACKED = 2**30  # bytes that a file may always unpack to
DENSEST = 250  # times its size that a larger one may: text packs ten times, the emptiest of tables a hundred times
SALVAGE = "on_error: salvage"


@dataclass(frozen=True)
class Source:
    """One file to read. `salvage`: where it breaks, yield a RowError and end, instead of refusing the file."""

    path: str
    salvage: bool = False
    seen: Callable[[int], None] = lambda count: None  # told how many bytes of the file were read, each time some were

    @property
    def codec(self) -> str | None:
        return CODECS.get(Path(self.path).suffix)

    def broken(self, record: int, message: str, remedy: str = "") -> tuple[int, RowError]:
        """A break that ends the file. DataError, or for a salvage the last row."""
        if self.salvage:
            return record, RowError(message)
        raise DataError(f"{self.path}{message if message[0] == ',' else ': ' + message}; {remedy or SALVAGED}")


SALVAGED = f"get the whole file, or set `{SALVAGE}` to keep what stands before the break"


class Broken(Exception):
    """The file cannot be decompressed any further."""


def on_disk(name: str) -> str:
    """Where a file is: `package:DISTRIBUTION/PATH` is one that an installed package carries. ConfigError without it."""
    if not name.startswith(PACKAGE):
        return name
    package, _, path = name.removeprefix(PACKAGE).partition("/")
    try:
        return str(distribution(package).locate_file(path))
    except PackageNotFoundError:
        raise ConfigError(f"{name}: the package '{package}' is not installed; install it, or correct `files`") from None


def raw_file(source: Source) -> "pa.NativeFile":
    """The file as it is on disk, for readers that seek. ConfigError when it cannot be opened."""
    import pyarrow as pa

    try:
        path = on_disk(source.path)
        with open(path, "rb"):  # the system's own words: Arrow wraps them in others
            return pa.OSFile(path, "rb")
    except OSError as error:
        raise ConfigError(f"{source.path}: {error.strerror}; correct the path in `files`") from error


def seekable(source: Source) -> IO[bytes] | Any:
    """The content as a file that can seek; compressed ones are unpacked to a temporary file."""
    import tempfile

    if source.codec is None:
        return raw_file(source)
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (the reader closes it)
    try:
        for block in blocks(source):
            unpacked.write(block)
    except Broken as error:
        raise DataError(f"{source.path}: {error}; get the whole file") from None
    unpacked.seek(0)
    return unpacked


def check_density(source: Source, unpacked: int, packed: int) -> None:
    """DataError for a file that unpacks to far more than data does: it would fill the memory or the disk."""
    if unpacked > UNPACKED and unpacked > DENSEST * packed:
        raise DataError(
            f"{source.path}: its {packed} bytes unpack to over {unpacked >> 20} MiB, which is no data but a bomb; if "
            "it is yours, unpack it or split it"
        )


def blocks(source: Source) -> Iterator[bytes]:
    """The decompressed bytes. Broken when the compressed stream is damaged or ends too early, DataError for a bomb."""
    done = 0
    with raw_file(source) as raw:
        stream = _decompressed(raw, source)
        while True:
            try:
                block = _read(stream, BLOCK)
            except OSError as error:
                yield from _last_bytes(source, done)
                raise Broken(f"its {source.codec} data cannot be unpacked after byte {raw.tell()} ({error})") from None
            source.seen(raw.tell())
            if not block:
                return
            done += len(block)
            check_density(source, done, raw.tell())
            yield block


def _read(stream: "pa.NativeFile", count: int) -> bytes:
    """The next bytes, at most so many. `stream.read` never frees the memory that it asked for when a read fails."""
    room = memoryview(bytearray(count))
    return bytes(room[: stream.readinto(room)])


def _decompressed(raw: "pa.NativeFile", source: Source) -> "pa.NativeFile":
    import pyarrow as pa

    return pa.CompressedInputStream(raw, source.codec) if source.codec else raw


def _last_bytes(source: Source, done: int) -> Iterator[bytes]:
    """What can still be unpacked after `done` bytes: a read that fails gives nothing of what it had."""
    tail = bytearray()
    with raw_file(source) as raw:
        stream = _decompressed(raw, source)
        left = done
        while left:
            left -= len(_read(stream, min(left, BLOCK)))
        try:
            while byte := _read(stream, 1):
                tail += byte
        except OSError:
            pass
    yield bytes(tail)


def line_blocks(source: Source) -> Iterator[tuple[int, list[str | RowError]]]:
    """(number of the first line, lines without their ends), a block's lines at a time.

    DataError names the first byte that is not UTF-8; a salvage has a RowError in place of that line. A byte order mark
    is dropped.
    """
    number, start, carry = 1, 0, b""
    try:
        for block in blocks(source):
            whole, newline, rest = block.rpartition(b"\n")
            if not newline:
                carry = _longer(source, carry, block, number)
                continue
            data = carry + whole
            lines = decoded(source, data, number, start)
            yield number, lines
            number, start, carry = number + len(lines), start + len(data) + 1, rest
    except Broken as error:
        if carry:
            yield number, decoded(source, carry, number, start)
            number += 1
        yield number, [source.broken(number, str(error))[1]]
        return
    yield number, decoded(source, carry, number, start)


def _longer(source: Source, carry: bytes, block: bytes, number: int) -> bytes:
    if len(carry) > LONGEST:
        raise DataError(
            f"{source.path}, line {number}: longer than {LONGEST >> 20} MiB without a line end; is this really a "
            "file of lines?"
        )
    return carry + block


def decoded(source: Source, data: bytes, number: int, start: int) -> list[str | RowError]:
    """The lines of `data`, which begins at byte `start` with line `number`."""
    if start == 0:
        data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return list(data.decode().split("\n"))
    except UnicodeDecodeError:
        return [_line(source, line, number + i, data, start) for i, line in enumerate(data.split(b"\n"))]


def _line(source: Source, line: bytes, number: int, data: bytes, start: int) -> str | RowError:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if source.salvage:
            return RowError(f"byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8")
        raise not_utf8(source, data, start, number) from None


def not_utf8(source: Source, data: bytes, start: int, number: int | None = None) -> DataError:
    """The refusal of a file whose bytes from `start` on, `data`, are not all UTF-8."""
    try:
        data.decode()
        raise AssertionError("these bytes are UTF-8")
    except UnicodeDecodeError as error:
        where = number or data[: error.start].count(b"\n") + 1
        kind = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin1"
        return DataError(
            f"{source.path}, line {where}: byte {start + error.start} (0x{data[error.start]:02x}) is not UTF-8; "
            f"save the file as UTF-8, for example: iconv -f {kind} -t utf-8 {source.path}"
        )
