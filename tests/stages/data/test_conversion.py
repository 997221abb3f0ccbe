"""Conversion: every record is accounted for, in one process or in many, and what holds the rows stays small."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from stages.data import conversion
from stages.prepare import Outcome, PrepareConfig, collect, gather

GOOD = {  # form -> a row of it, made different by a number
    "chat": lambda i: {"instruction": f"Question {i}?", "output": "Yes."},
    "text": lambda i: {"text": f"Document {i}."},
    "preference": lambda i: {"prompt": f"Question {i}?", "chosen": "Yes.", "rejected": "No."},
    "label": lambda i: {"prompt": f"Question {i}?", "completion": "Yes.", "label": i % 2 == 0},
    "ranking": lambda i: {"prompt": f"Question {i}?", "answers": ["Yes.", "No."]},
    "votes": lambda i: {"prompt": f"Question {i}?", "a": "Yes.", "b": "No.", "winner": "b", "judge": "j"},
    "prompt": lambda i: {"prompt": f"Question {i}?"},
}
FAULTS = {  # what a row can be, from the good one
    "good": lambda row: row,
    "padded": lambda row: {key: f" {value}\r\n" if isinstance(value, str) else value for key, value in row.items()},
    "empty": lambda row: {**row, next(iter(row)): " "},
    "wrong": lambda row: {**row, next(iter(row)): 7},
    "other": lambda row: {"something": "else"},
    "none": lambda row: {},
}
WRITERS = {
    ".jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    ".json": lambda rows: json.dumps(rows).encode(),
    ".csv": lambda rows: delimited(rows),
    ".parquet": lambda rows: parquet(rows),
}


def delimited(rows):
    out = io.StringIO()
    writer = csv.DictWriter(out, sorted({key for row in rows for key in row} or {"x"}), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: json.dumps(v) if isinstance(v, list) else v for key, v in row.items()} for row in rows)
    return out.getvalue().encode()


def parquet(rows):
    out, names = io.BytesIO(), sorted({key for row in rows for key in row} or {"x"})
    cells = {name: [json.dumps(row.get(name)) if name in row else None for row in rows] for name in names}
    pq.write_table(pa.table(cells), out)
    return out.getvalue()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(list(GOOD)),
    ending=st.sampled_from(list(WRITERS)),
    kinds=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(FAULTS))), min_size=1, max_size=30),
    on_error=st.sampled_from(["reject", "salvage"]),
)
def test_every_row_read_is_kept_repaired_or_rejected(tmp_path, form, ending, kinds, on_error):
    made = [FAULTS[fault](GOOD[form](number)) for number, fault in kinds]
    path = tmp_path / f"a{ending}"
    path.write_bytes(WRITERS[ending](made))
    outcome = Outcome()
    try:
        gather(PrepareConfig(files=[str(path)], format=form, on_error=on_error), outcome)
    except DataError as error:
        assert "no row is left" in str(error) or "is empty" in str(error)
    kept = len(outcome.kept) - outcome.repaired
    assert kept + outcome.repaired + len(outcome.rejected) == outcome.read
    if not (ending == ".csv" and {} in made):  # a row of nothing is a blank line there
        assert outcome.read == len(made)
    if ending in (".jsonl", ".json"):
        good = {number for number, fault in kinds if fault in ("good", "padded")}
        assert len(outcome.kept) == len(good)


@pytest.fixture
def many(tmp_path):
    path = tmp_path / "many.jsonl"
    with path.open("w") as file:
        for i in range(3000):
            row = {"instruction": f"Question {i % 2900}?", "output": "Yes. " if i % 7 else "No."}
            file.write((json.dumps(row) if i % 100 else "{broken") + "\n")
    return PrepareConfig(files=[str(path)], on_error="reject")


def test_many_processes_give_the_same_rows_in_the_same_order(many, monkeypatch):
    alone = collect(many)
    monkeypatch.setattr(conversion, "ALONE", 1)
    monkeypatch.setattr(conversion.os, "sched_getaffinity", lambda _: {0, 1, 2})
    together = collect(many)
    assert together.kept == alone.kept and together.rejected == alone.rejected
    assert together.reasons == alone.reasons and len(alone.rejected) == 30 + len(
        [row for row in alone.rejected if row["code"] == "exact_duplicates"]
    )


def test_an_error_in_another_process_arrives(many, monkeypatch):
    monkeypatch.setattr(conversion, "ALONE", 0)
    monkeypatch.setattr(conversion.os, "sched_getaffinity", lambda _: {0, 1})
    many.layout = "no_such_layout"
    chunks = conversion.chunks(many.files[0], [(1, '{"text": "x"}')])
    with pytest.raises(Exception, match="unknown layout"):
        list(conversion.converted(chunks, conversion.Plan("chat", "no_such_layout")))


def test_the_format_is_told_from_the_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(WRITERS[".jsonl"]([GOOD["preference"](i) for i in range(3)]))
    assert collect(PrepareConfig(files=[str(path)], format="auto")).format == "preference"
    assert collect(PrepareConfig(files=[str(path)], format="auto", layout="prompt")).format == "prompt"
    path.write_text('{"colour": "red"}\n')
    with pytest.raises(DataError, match=r"look like no known layout; the first has the fields colour"):
        collect(PrepareConfig(files=[str(path)], format="auto"))


def test_a_row_that_is_not_written_in_the_layout_that_was_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(WRITERS[".jsonl"]([GOOD["chat"](1), {"prompt": "Hi", "response": "Hello"}]))
    with pytest.raises(DataError, match=r"line 2: is not written as alpaca \(it has: prompt, response\)"):
        collect(PrepareConfig(files=[str(path)], layout="alpaca"))


def test_rows_of_one_document_in_a_folder_are_one_cluster(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("One.\n\nTwo.\n")
    (tmp_path / "docs" / "b.md").write_text("Three.")
    kept = collect(PrepareConfig(files=[str(tmp_path / "docs")], format="text")).kept
    assert [row["cluster"] for row in kept] == [str(tmp_path / "docs" / name) for name in ("a.txt", "a.txt", "b.md")]


def test_every_row_says_where_it_came_from(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "One."}\n\n{"text": "Two."}\n')
    kept = collect(PrepareConfig(files=[str(path)], format="text")).kept
    assert [row["origin"] for row in kept] == [{"file": str(path), "line": 1}, {"file": str(path), "line": 3}]


def test_a_salvage_keeps_what_stands_before_the_break(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(WRITERS[".json"]([GOOD["text"](i) for i in range(9)])[:-30])
    outcome = collect(PrepareConfig(files=[str(path)], format="text", on_error="salvage"))
    assert len(outcome.kept) == 7 and outcome.reasons == {"rejected: broken": 1}
    for on_error in ("refuse", "reject"):
        with pytest.raises(DataError, match="breaks at byte"):
            collect(PrepareConfig(files=[str(path)], format="text", on_error=on_error))
