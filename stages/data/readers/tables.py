"""Tables: CSV and its like, spreadsheets, Parquet and Arrow."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from stages.data.readers.errors import RowError
from stages.data.readers.opening import LONGEST, Source, line_blocks, seekable

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = (",", ";", "\t", "|")
ROWS = 512  # of a table taken at a time
csv.field_size_limit(LONGEST)


def delimited(source: Source) -> Iterator[tuple[int, Any]]:
    """Rows of a CSV or TSV file, by the line on which each begins; every value is a string.

    The first line names the columns. Lines before it that begin with '#' are comments. The delimiter is the one of
    comma, semicolon, tab and bar that the first line has most of.
    """
    lines = _lines(source)
    number, header = next(((n, text) for n, text in lines if text.strip() and not text.startswith("#")), (0, ""))
    if not header:
        return
    table = csv.reader(
        chain([header], (text for _, text in lines)), delimiter=max(DELIMITERS, key=header.count), strict=True
    )
    names: Sequence[str] = ()
    while True:
        line = number + table.line_num
        try:
            values = next(table, None)
        except csv.Error as error:
            if "unexpected end" in str(error):
                yield source.broken(line, f", line {line}: a quoted value that begins here never ends", CLOSE)
                return
            yield line, RowError(f"not valid CSV ({error})")
            continue
        if values is None:
            return
        if not names:
            names = _names(source, values)
        elif values:
            yield line, _row(names, values)


CLOSE = "close its quote, or set `on_error: salvage` to keep what stands before it"


def _lines(source: Source) -> Iterator[tuple[int, str]]:
    for first, lines in line_blocks(source):
        for number, line in enumerate(lines, first):
            if isinstance(line, RowError):
                raise DataError(f"{source.path}, line {number}: {line}")
            yield number, line + "\n"


def _names(source: Source, values: Sequence[str]) -> list[str]:
    """The columns' names. One without a name is called after its place."""
    names = [value.strip() or f"column_{place}" for place, value in enumerate(values, 1)]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{source.path}: two columns are named '{name}'; rename one")
    return names


def _row(names: Sequence[str], values: Sequence[str]) -> Any:
    if len(values) != len(names):
        return RowError(f"has {len(values)} values, but the first line names {len(names)} columns")
    return dict(zip(names, values, strict=True))


def spreadsheet(source: Source) -> Iterator[tuple[int, Any]]:
    """Rows of the first sheet of an .xlsx file, as a CSV export of it would have them; empty rows are skipped."""
    import openpyxl

    with seekable(source) as file:
        try:
            sheet = openpyxl.load_workbook(file, read_only=True, data_only=True).worksheets[0]
            rows = ((i, values) for i, values in enumerate(sheet.iter_rows(values_only=True), 1) if any_value(values))
            _, header = next(rows, (0, ()))
            names = _names(source, [_cell(value) or "" for value in header])
            for number, values in rows:
                cells = [_cell(value) for value in values]
                yield number, dict(zip(names, cells + [None] * (len(names) - len(cells)), strict=False))
        except DataError:
            raise
        except Exception as error:  # openpyxl lets through whatever its zip and XML readers raise
            raise unreadable(source, "spreadsheet", error) from error


def any_value(values: Iterable[Any]) -> bool:
    return any(value is not None for value in values)


def _cell(value: Any) -> str | None:
    """A cell as text; a whole number has no decimals."""
    if value is None:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def parquet(source: Source) -> Iterator[tuple[int, Any]]:
    """Rows of a Parquet file, by their place from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with seekable(source) as file:
        try:
            yield from numbered(pq.ParquetFile(file).iter_batches(batch_size=ROWS), source, file)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise unreadable(source, "Parquet file", error) from error


def arrow(source: Source) -> Iterator[tuple[int, Any]]:
    """Rows of an Arrow file or stream, by their place from 1."""
    import pyarrow as pa

    with seekable(source) as file:
        try:
            whole = file.read(6) == b"ARROW1"
            file.seek(0)
            if whole:
                table = pa.ipc.open_file(file)
                batches = (table.get_batch(i) for i in range(table.num_record_batches))
            else:
                batches = iter(pa.ipc.open_stream(file))
            yield from numbered(batches, source, file)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise unreadable(source, "Arrow file", error) from error


def numbered(batches: "Iterable[pa.RecordBatch]", source: Source, file: Any) -> Iterator[tuple[int, Any]]:
    number = 1
    for batch in batches:
        batch.validate(full=True)  # a damaged file may point outside of its own memory
        for start in range(0, batch.num_rows, ROWS):
            yield from enumerate(batch.slice(start, ROWS).to_pylist(), number + start)
        number += batch.num_rows
        source.seen(file.tell())


def unreadable(source: Source, kind: str, error: Exception) -> DataError:
    words = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{source.path}: not a readable {kind} ({words}); write it again, or get the whole file")
