"""Tables: CSV and its like, spreadsheets, Parquet and Arrow."""

import csv
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from stages.data.readers.errors import RowError
from stages.data.readers.opening import LONGEST, Source, check_density, line_blocks, seekable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

DELIMITERS = (",", ";", "\t", "|")
ROWS = 512  # of a table taken at a time
LAST_ROW = 2**20  # of a sheet, as the format has it
WIDEST = 2**31  # bytes that the rows taken at a time may have if every one of them is as long as the longest
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
            _check_parts(source, file)
            sheet = openpyxl.load_workbook(file, read_only=True, data_only=True).worksheets[0]
            rows = _filled(source, sheet)
            _, header = next(rows, (0, ()))
            names = _names(source, [_cell(value) or "" for value in header])
            for number, values in rows:
                cells = [_cell(value) for value in values]
                yield number, dict(zip(names, cells + [None] * (len(names) - len(cells)), strict=False))
        except DataError:
            raise
        except Exception as error:  # openpyxl lets through whatever its zip and XML readers raise
            raise unreadable(source, "spreadsheet", error) from error


def _filled(source: Source, sheet: Any) -> Iterator[tuple[int, Any]]:
    """The rows that are not empty, by their number, which the file is free to make up."""
    for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
        if number > LAST_ROW:
            raise DataError(f"{source.path}: a sheet has at most {LAST_ROW} rows")
        if any_value(values):
            yield number, values


def _check_parts(source: Source, file: Any) -> None:
    """DataError where a part of the zip unpacks to what no sheet holds; no more than it says is unpacked."""
    with zipfile.ZipFile(file) as parts:
        for part in parts.infolist():
            check_density(source, part.file_size, part.compress_size)
            if part.file_size > 4 * LONGEST:
                raise DataError(
                    f"{source.path}: {part.filename} has {part.file_size >> 20} MiB; save it as CSV or Parquet"
                )
    file.seek(0)


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
            table = pq.ParquetFile(file)
            taken = _rows_at_a_time(source, table.metadata, file.seek(0, 2) or file.tell())
            yield from numbered(table.iter_batches(batch_size=taken), source, file)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise unreadable(source, "Parquet file", error) from error


def _rows_at_a_time(source: Source, metadata: "pq.FileMetaData", size: int) -> int:
    """How many rows fit, though each may repeat the longest value of its column. DataError for a bomb.

    A column that stores each of its values once can hold a long one that all rows refer to.
    """
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    check_density(source, max(metadata.num_rows, sum(one.total_uncompressed_size for one in columns)), size)
    longest = max((one.total_uncompressed_size for one in columns if one.has_dictionary_page), default=0)
    return max(1, min(ROWS, WIDEST // max(1, longest)))


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
