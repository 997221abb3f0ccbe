"""Readers: lines and their numbers, and what is said of a file that cannot be read."""

import csv
import gzip
import io
import json
import tracemalloc
from contextlib import suppress
from types import SimpleNamespace

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.errors import ConfigError, DataError
from stages.data.readers import RowError, expand, opening, read


def test_json_lines_keep_their_line_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two"}\n')
    assert list(read(str(path))) == [(1, {"text": "one"}), (3, {"text": "two"})]


def test_a_broken_line_is_yielded_as_an_error_and_reading_goes_on(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": \n{"text": "three"}\n')
    rows = list(read(str(path)))
    assert isinstance(rows[1][1], RowError) and rows[1][0] == 2 and "column" in str(rows[1][1])
    assert rows[2] == (3, {"text": "three"})


def test_a_line_separator_inside_a_string_does_not_end_the_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one\u2028two"}\n', encoding="utf-8")
    assert list(read(str(path))) == [(1, {"text": "one\u2028two"})]


def test_a_json_array(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "one"}, {"text": "two"}]')
    assert [row["text"] for _, row in read(str(path))] == ["one", "two"]


@pytest.mark.parametrize(("content", "says"), [('{"a": 1}', "must be an array"), ("[1,", "line 1: not valid JSON")])
def test_a_json_file_that_is_no_array(tmp_path, content, says):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=says):
        list(read(str(path)))


def test_paragraphs_of_a_text_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("first\nstill first\n\n\n\nsecond\n")
    assert list(read(str(path))) == [(1, {"text": "first\nstill first"}), (6, {"text": "second\n"})]


def test_a_byte_that_is_not_utf8_is_named_with_line_and_offset(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "ok"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: byte 28 \(0xe9\) is not UTF-8; save the file as UTF-8"):
        read(str(path))


def test_a_byte_order_mark_is_no_content(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\n')
    assert list(read(str(path))) == [(1, {"text": "one"})]


def test_an_empty_file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n \n")
    with pytest.raises(DataError, match="the file is empty"):
        read(str(path))


@pytest.mark.parametrize(("name", "says"), [("gone.jsonl", "No such file"), ("rows.xml", "cannot read files ending")])
def test_a_file_that_is_not_there_or_of_unknown_kind(tmp_path, name, says):
    with pytest.raises(ConfigError, match=says):
        read(str(tmp_path / name))


# -- containers: the same rows, however they are kept -----------------------------------------------------------------
ROWS = [{"prompt": f"Question {i}?", "response": f"Answer\n{i}, ünd \u2028 \U0001f600"} for i in range(1200)]


def csv_bytes(delimiter=","):
    out = io.StringIO()
    writer = csv.DictWriter(out, ["prompt", "response"], delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def parquet_bytes():
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out, row_group_size=100)
    return out.getvalue()


def arrow_bytes(kind):
    out, table = io.BytesIO(), pa.Table.from_pylist(ROWS)
    with kind(out, table.schema) as writer:
        writer.write_table(table, 100)
    return out.getvalue()


def spreadsheet_bytes():
    book, out = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["prompt", "response"])
    for row in ROWS:
        book.active.append(list(row.values()))
    book.save(out)
    return out.getvalue()


CONTAINERS = {
    "a.jsonl": lambda: "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "a.ndjson": lambda: "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode(),
    "a.json": lambda: json.dumps(ROWS, indent=1, ensure_ascii=False).encode(),
    "lines.json": lambda: "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "object.json": lambda: json.dumps({"about": {"name": "mine"}, "years": [1, 2], "rows": ROWS}).encode(),
    "a.csv": csv_bytes,
    "a.tsv": lambda: csv_bytes("\t"),
    "semicolons.csv": lambda: b"# made by hand\n" + csv_bytes(";"),
    "a.parquet": parquet_bytes,
    "a.arrow": lambda: arrow_bytes(pa.ipc.new_file),
    "stream.arrow": lambda: arrow_bytes(pa.ipc.new_stream),
    "a.xlsx": spreadsheet_bytes,
}


def frames(data):
    """Zstandard in two frames, as parallel compressors write it."""
    return zstandard.compress(data[: len(data) // 2]) + zstandard.compress(data[len(data) // 2 :])


@pytest.mark.parametrize(("ending", "packed"), [("", bytes), (".gz", gzip.compress), (".zst", frames)])
@pytest.mark.parametrize("name", CONTAINERS)
def test_the_same_rows_in_every_container(tmp_path, name, ending, packed):
    path = tmp_path / (name + ending)
    path.write_bytes(packed(CONTAINERS[name]()))
    assert [row for _, row in read(str(path))] == ROWS


def test_a_row_of_csv_is_known_by_the_line_on_which_it_begins(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('# version 2\nid,text\n1,"two\nlines"\n2,one\n3,too,many\n')
    rows = list(read(str(path)))
    assert rows[:2] == [(3, {"id": "1", "text": "two\nlines"}), (5, {"id": "2", "text": "one"})]
    assert rows[2][0] == 6 and "has 3 values" in str(rows[2][1])


@pytest.mark.parametrize(
    ("content", "says"),
    [("a,a\n1,2\n", "two columns are named 'a'"), ('a\nx\n"y\nz\n', "line 3: a quoted value that begins here never")],
)
def test_a_csv_file_that_cannot_be_read(tmp_path, content, says):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=says):
        list(read(str(path)))


def test_a_markdown_file_is_one_document(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("# Title\n\nText.\n")
    assert list(read(str(path))) == [(1, {"text": "# Title\n\nText.\n"})]


def test_a_folder_is_its_files_in_order(tmp_path):
    for name in ("b/two.md", "a.txt", ".hidden/x.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert expand(str(tmp_path)) == [str(tmp_path / "a.txt"), str(tmp_path / "b/two.md")]
    assert expand(f"{tmp_path}/**/*.md") == [str(tmp_path / "b/two.md")]
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"photo\.png: cannot read files of this kind .* by a pattern"):
        expand(str(tmp_path))
    with pytest.raises(ConfigError, match="no file is there"):
        expand(f"{tmp_path}/*.csv")


def test_a_datasets_folder(tmp_path):
    import datasets

    part = datasets.Dataset.from_list(ROWS)
    part.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": part, "test": part.select(range(3))}).save_to_disk(tmp_path / "two")
    assert [row for _, row in read(str(tmp_path / "one"))] == ROWS
    assert [line for line, _ in read(str(tmp_path / "two"))] == list(range(1, 1204))


def test_a_data_set_of_the_hub_is_named_by_its_commit(monkeypatch):
    import datasets

    asked = []

    def load(name, config, revision):
        asked.append((name, config, revision))
        return datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    commit = "0123456789" * 4
    assert [row for _, row in read(f"hub:org/name@{commit}/main")] == ROWS
    assert asked == [("org/name", "main", commit)]
    for name in ("hub:org/name", "hub:org/name@main", f"hub:org/name@{commit[:7]}"):
        with pytest.raises(ConfigError, match="is named by its commit"):
            read(name)


def test_a_data_set_of_the_hub_without_a_connection(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="not in the local cache, and the hub cannot be asked"):
        read("hub:org/no-such-data@" + "0" * 40)


# -- broken files -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cut", [1, 2, 500, 1500, 60_000])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_cut_array_is_refused_at_its_byte_and_salvaged_up_to_it(tmp_path, cut, indent):
    path, data = tmp_path / "a.json", json.dumps(ROWS, indent=indent, ensure_ascii=False).encode()
    path.write_bytes(data[:cut])
    with pytest.raises(DataError, match=r"not valid JSON: breaks at byte \d+ .*on_error: salvage"):
        list(read(str(path)))
    *whole, (number, broken) = read(str(path), salvage=True)
    assert [row for _, row in whole] == ROWS[: len(whole)] and number == len(whole) + 1
    assert isinstance(broken, RowError) and "is lost" in str(broken)
    closed = data[:cut].rstrip(b", \n").decode(errors="ignore")
    with suppress(ValueError):  # where the cut is between two rows, all of them are there
        assert len(json.loads(closed + "]")) == len(whole)


def test_the_byte_where_a_file_ends_too_early(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "ä"},\n {"text": "o')
    with pytest.raises(
        DataError, match=r"line 2: .*breaks at byte 29 \(the file ends .* row 2, which begins at byte 18"
    ):
        list(read(str(path)))


def test_a_fault_inside_an_array_is_named_by_its_byte(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"b": x}, {"c": 3}]' + " " * 100)
    with pytest.raises(DataError, match=r"breaks at byte 17 .* row 2"):
        list(read(str(path)))
    assert [line for line, _ in read(str(path), salvage=True)] == [1, 2]


@pytest.mark.parametrize(("ending", "packed"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_cut_compressed_file_is_refused_and_salvaged(tmp_path, ending, packed):
    data = packed(CONTAINERS["a.jsonl"]())
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(data[: len(data) * 9 // 10])
    with pytest.raises(DataError, match="cannot be unpacked after byte"):
        list(read(str(path)))
    whole = [row for _, row in read(str(path), salvage=True) if not isinstance(row, RowError)]
    assert whole == ROWS[: len(whole)] and (ending == ".zst" or len(whole) > 600)


@pytest.mark.parametrize(("ending", "packed"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_nothing_stays_behind_of_damaged_compressed_files(tmp_path, ending, packed):
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(packed(CONTAINERS["a.jsonl"]())[:-20])
    list(read(str(path), salvage=True))
    tracemalloc.start()
    for _ in range(20):
        list(read(str(path), salvage=True))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2**20


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "stream.arrow", "a.xlsx"])
def test_a_cut_table_is_refused(tmp_path, name):
    path, data = tmp_path / name, CONTAINERS[name]()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="not a readable"):
        list(read(str(path)))


def test_a_salvage_sets_lines_aside_that_are_not_utf8(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "ok"}\n{"text": "caf\xe9"}\n{"text": "too"}\n')
    rows = dict(read(str(path), salvage=True))
    assert rows[1] == {"text": "ok"} and rows[3] == {"text": "too"} and "0xe9" in str(rows[2])


def test_a_file_that_an_installed_package_carries(tmp_path, monkeypatch):
    (tmp_path / "quiz").mkdir()
    (tmp_path / "quiz" / "items.jsonl").write_text('{"text": "one"}\n')
    installed = {"acme-quiz": SimpleNamespace(locate_file=tmp_path.joinpath)}
    monkeypatch.setattr(opening, "distribution", installed.__getitem__)
    name = "package:acme-quiz/quiz/items.jsonl"
    assert expand(name) == [name] and list(read(name)) == [(1, {"text": "one"})]
    with pytest.raises(ConfigError, match=r"package:acme-quiz/quiz/item.jsonl: No such file or directory"):
        list(read("package:acme-quiz/quiz/item.jsonl"))


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(ConfigError, match=r"package:no-such/a.jsonl: the package 'no-such' is not installed"):
        list(read("package:no-such/a.jsonl"))


def test_what_json_cannot_hold_is_an_error_of_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("[" * 100_000 + "\n" + "9" * 5000 + '\n{"text": "fine"}\n')
    rows = dict(read(str(path)))
    assert "nested too deeply" in str(rows[1]) and isinstance(rows[2], RowError) and rows[3] == {"text": "fine"}


def test_only_a_part_of_a_file_is_held(tmp_path):
    """64 MB are read while less than 16 are allocated."""
    path, row = tmp_path / "a.json", json.dumps({"text": "x" * 1000})
    path.write_text("[" + ",\n".join([row] * 64_000) + "]")
    tracemalloc.start()
    count = sum(1 for _ in read(str(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 64_000 and peak < 16e6
