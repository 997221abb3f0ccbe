"""Mutated files of every container and layout through the readers and `prepare`: nothing may come out but what is said.

python scripts/fuzz_readers.py [--files 10000] [--seed 0] [--out benchmarks/fuzz_readers.json]

Each file is a good one with bytes flipped, cut, doubled, moved or replaced, or with values of its rows swapped for
others. Accepted are rows, RowErrors, ConfigError and DataError. A run over `--seconds` per file counts as a hang.
"""

import argparse
import csv
import gzip
import io
import json
import os
import platform
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipeline.errors import ConfigError, DataError
from stages.data import formats
from stages.data.inspect import inspect
from stages.data.readers import RowError, read

TURNS = [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello"}]
ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "alpaca": lambda i: {"id": f"r{i}", "instruction": f"Sum up {i}", "input": "A text.", "output": "Short."},
    "sharegpt": lambda i: {"conversations": [{"from": "human", "value": f"Hi {i}"}, {"from": "gpt", "value": "Yes"}]},
    "messages": lambda i: {"messages": [{"role": "system", "content": f"No. {i}"}, *TURNS], "tools": [{"name": "f"}]},
    "prompt_completion": lambda i: {"prompt": f"Hi {i}", "completion": "Hello"},
    "hh": lambda i: {side: f"\n\nHuman: Hi {i}\n\nAssistant: {side}" for side in ("chosen", "rejected")},
    "preference": lambda i: {"prompt": TURNS[:1], "chosen": f"Yes {i}", "rejected": "No"},
    "kto": lambda i: {"prompt": f"Hi {i}", "completion": "Hello", "label": i % 2 == 0},
    "ranking": lambda i: {"prompt": f"Hi {i}", "answers": ["best", "middle", "worst"]},
    "votes": lambda i: {"prompt": f"Hi {i}", "completion_a": "x", "completion_b": "y", "preference": "a", "judge": "j"},
    "labelstudio": lambda i: {
        "id": i,
        "data": {"prompt": f"Hi {i}", "items": [{"id": "x", "body": "one"}, {"id": "y", "body": "two"}]},
        "annotations": [{"completed_by": 1, "result": [{"type": "ranker", "value": {"ranker": ["y", "x"]}}]}],
    },
    "argilla": lambda i: {
        "fields": {"prompt": f"Hi {i}", "response_1": "one", "response_2": "two"},
        "responses": {"preference": [{"value": "response_1", "user_id": "u"}]},
    },
    "text": lambda i: {"text": f"A document of some words, number {i}."},
}
ODD = [
    None,
    True,
    -1,
    1e308,
    10**30,
    "",
    " ",
    "\x00",
    "\ud83d",
    "nan",
    "x" * 2000,
    [],
    {},
    [[]],
    [None],
    {"role": None},
]
BYTES = [b"\x00", b"\xff\xfe", b'"', b"[" * 500, b"{", b"}", b"\r", b"\n\n", b"\\u12", b","]


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def array(rows: list[Any]) -> bytes:
    return json.dumps(rows, indent=1).encode()


def delimited(rows: list[Any]) -> bytes:
    out, flat = io.StringIO(), [{k: cell(v) for k, v in row.items()} for row in rows]
    writer = csv.DictWriter(out, sorted({key for row in flat for key in row} or {"x"}))
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue().encode(errors="replace")


def cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def table(rows: list[Any]) -> pa.Table:
    names = sorted({key for row in rows for key in row} or {"x"})
    cells = {n: [cell(row.get(n)).encode(errors="replace").decode() for row in rows] for n in names}
    return pa.table(cells)


def parquet(rows: list[Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(table(rows), out)
    return out.getvalue()


def arrow(rows: list[Any]) -> bytes:
    out, made = io.BytesIO(), table(rows)
    with pa.ipc.new_file(out, made.schema) as writer:
        writer.write_table(made)
    return out.getvalue()


def spreadsheet(rows: list[Any]) -> bytes:
    book, out, made = openpyxl.Workbook(), io.BytesIO(), table(rows)
    book.active.append(made.column_names)
    for row in made.to_pylist():
        book.active.append([openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub("", value) for value in row.values()])
    book.save(out)
    return out.getvalue()


def text(rows: list[Any]) -> bytes:
    return "\n\n".join(cell(row) for row in rows).encode()


CONTAINERS: dict[str, Callable[[list[Any]], bytes]] = {
    ".jsonl": jsonl,
    ".json": array,
    ".csv": delimited,
    ".tsv": delimited,
    ".parquet": parquet,
    ".arrow": arrow,
    ".xlsx": spreadsheet,
    ".txt": text,
    ".md": text,
}
PACKED = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def mutated_rows(rows: list[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    """The rows with some of their values, at any depth, swapped for odd ones."""
    return [mutated_value(row, rng) if rng.random() < 0.5 else row for row in rows]


def mutated_value(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value:
        name = rng.choice(list(value))
        if rng.random() < 0.2:
            return {key: item for key, item in value.items() if key != name}
        return {**value, name: mutated_value(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], mutated_value(value[place], rng), *value[place + 1 :]]
    return rng.choice(ODD)


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes with up to eight changes."""
    made = bytearray(data)
    for _ in range(rng.randrange(1, 9)):
        at, end = sorted(rng.randrange(len(made) + 1) for _ in range(2))
        change = rng.randrange(6)
        if change == 0 and made:
            made[min(at, len(made) - 1)] ^= 1 << rng.randrange(8)
        elif change == 1:
            del made[at:]
        elif change == 2:
            del made[at : min(end, at + 40)]
        elif change == 3:
            made[at:at] = made[at : min(end, at + 200)]
        elif change == 4:
            made[at:at] = rng.choice(BYTES)
        elif change == 5:
            made[at : at + 4] = rng.randbytes(4)
    return bytes(made)


def made_file(folder: Path, number: int, seed: int) -> Path:
    """The file of that number: the same ones for the same seed."""
    rng = random.Random(f"{seed}/{number}")
    rows = [ROWS[rng.choice(list(ROWS))](i) for i in range(rng.randrange(1, 12))]
    if rng.random() < 0.7:
        make = ROWS[rng.choice(list(ROWS))]
        rows = [make(i) for i in range(rng.randrange(1, 12))]
    ending, packed = rng.choice(list(CONTAINERS)), rng.choice(["", "", "", ".gz", ".zst"])
    if rng.random() < 0.5:
        rows = mutated_rows(rows, rng)
    data = CONTAINERS[ending](rows)
    if rng.random() < 0.4:
        data = mutated_bytes(data, rng)
    data = PACKED[packed](data)
    if rng.random() < 0.5:
        data = mutated_bytes(data, rng)
    path = folder / f"f{number % 50}{ending}{packed}"
    path.write_bytes(data)
    return path


def tried(path: Path, salvage: bool, seconds: int) -> tuple[str, ...]:
    """What came of inspecting and of reading it: 'rows', 'ConfigError', 'DataError'; or else 'hang' or 'crash: ...'."""
    signal.alarm(seconds)
    try:
        return told(lambda: inspected(path, salvage)), told(lambda: each_written_again(path, salvage))
    except TimeoutError:
        return ("hang",)
    except Exception as error:
        return (f"crash: {type(error).__name__}: {error}",)
    finally:
        signal.alarm(0)


def told(action: Callable[[], None]) -> str:
    try:
        action()
    except (ConfigError, DataError) as error:
        return type(error).__name__
    return "rows"


def inspected(path: Path, salvage: bool) -> None:
    found = inspect(str(path), salvage=salvage)
    if found.rows_kept + found.rows_repaired + found.rows_rejected != found.rows_read:
        raise AssertionError("rows are missing")
    json.dumps(found.json())


def each_written_again(path: Path, salvage: bool) -> None:
    for _, raw in read(str(path), salvage):
        written_again(raw)


def written_again(raw: Any) -> None:
    """A row goes to its form and back; only a RowError may come of it."""
    layout = formats.find(raw) if isinstance(raw, dict) else None
    if layout:
        try:
            if not formats.layout.same(formats.from_internal(formats.to_internal(raw, layout), layout), raw):
                raise AssertionError(f"{layout.name} lost something of {raw!r}")
        except RowError:
            pass


def late(*_: object) -> None:
    raise TimeoutError


def fuzz(files: int, seed: int, seconds: int = 10) -> dict[str, Any]:
    """What came of so many files, with the numbers of those that crashed or hung."""
    signal.signal(signal.SIGALRM, late)
    counts: Counter[str] = Counter()
    bad = []
    longest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(files):
            path = made_file(Path(folder), number, seed)
            begin = time.perf_counter()
            results = tried(path, number % 2 == 0, seconds)
            longest = max(longest, time.perf_counter() - begin)
            counts.update(result.partition(":")[0] for result in results)
            if len(results) == 1:
                bad.append({"number": number, "file": path.name, "result": results[0]})
            path.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "files": files,
        "seed": seed,
        "results": dict(counts),
        "bad": bad[:20],
        "longest_seconds": round(longest, 2),
        "peak_mib": round(peak / 2**20),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = fuzz(options.files, options.seed, options.seconds)
    found["date"] = datetime.now(UTC).date().isoformat()
    found["hardware"] = {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine()}
    found["packages"] = {"pyarrow": pa.__version__, "python": platform.python_version()}
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
