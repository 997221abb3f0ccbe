"""Data files made to fill memory or disk, and folders that lead elsewhere: refused, with little memory.

The list is that of docs/security.md.
"""

import gzip
import json
import resource
import zipfile

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline.errors import ConfigError, DataError
from stages.data import readers
from stages.data.readers import opening

MIB = 2**20


@pytest.fixture
def small(monkeypatch):
    """The bounds a thousandth of what they are, so that no test has to write gigabytes."""
    monkeypatch.setattr(opening, "UNPACKED", opening.UNPACKED >> 10)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compressed_zeros(path, codec):
    if codec == "gz":
        with gzip.open(path, "wb") as file:
            for _ in range(64):
                file.write(b"\n" * MIB)
    else:
        path.write_bytes(zstandard.compress(b"\n" * 64 * MIB))


@pytest.mark.parametrize("codec", ["gz", "zst"])
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "txt", "parquet", "xlsx"])
def test_a_compressed_bomb_is_stopped_while_it_unpacks(small, tmp_path, codec, ending):
    path = tmp_path / f"bomb.{ending}.{codec}"
    compressed_zeros(path, codec)
    with pytest.raises(DataError, match="is no data but a bomb"):
        list(readers.read(str(path)))


def sheet(path, part, content):
    """A workbook with one part replaced."""
    openpyxl.Workbook().save(path.with_name("plain.xlsx"))
    with zipfile.ZipFile(path.with_name("plain.xlsx")) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != part:
                new.writestr(name, old.read(name))
        new.writestr(part, content)


SHEET = "xl/worksheets/sheet1.xml"
OPEN = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
CELL = '<row r="{0}"><c r="A{0}" t="inlineStr"><is><t>{1}</t></is></c></row>'
CLOSE = "</sheetData></worksheet>"
LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))


def test_a_zip_bomb_in_a_spreadsheet_is_refused_before_it_is_unpacked(small, tmp_path):
    sheet(tmp_path / "bomb.xlsx", "xl/sharedStrings.xml", b" " * 64 * MIB)
    before = peak()
    with pytest.raises(DataError, match="is no data but a bomb"):
        list(readers.read(str(tmp_path / "bomb.xlsx")))
    assert peak() - before < 32 * MIB


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (OPEN + CELL.format(1, "text") + CELL.format(10**15, "far") + CLOSE, "at most"),
        (f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]>' + OPEN + CELL.format(1, "&l9;") + CLOSE, "not a readable"),
        (
            '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + OPEN + CELL.format(1, "&e;") + CLOSE,
            "not a read",
        ),
    ],
    ids=["a row without end", "a billion laughs", "a foreign file"],
)
def test_a_hostile_sheet_is_refused(tmp_path, content, said):
    sheet(tmp_path / "bad.xlsx", SHEET, content)
    with pytest.raises(DataError, match=said):
        list(readers.read(str(tmp_path / "bad.xlsx")))


def test_a_table_of_repeats_is_read_a_few_rows_at_a_time(tmp_path):
    """5,000 rows of one text of 4 MiB are 2 MB on disk; 512 of them at a time would be 2 GiB."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 600, pa.int32()), pa.array(["a" * 64 * MIB]))
    pq.write_table(
        pa.table({"text": text}), tmp_path / "repeats.parquet", compression="zstd", dictionary_pagesize_limit=2**30
    )
    before = peak()
    rows = readers.read(str(tmp_path / "repeats.parquet"))
    assert len(next(rows)[1]["text"]) == 64 * MIB
    assert peak() - before < 8 * 2**30


def test_a_parquet_bomb_is_refused_by_its_footer(small, tmp_path):
    pq.write_table(
        pa.table({"text": ["a" * 8 * MIB] * 8}), tmp_path / "b.parquet", compression="zstd", use_dictionary=False
    )
    before = peak()
    with pytest.raises(DataError, match="is no data but a bomb"):
        list(readers.read(str(tmp_path / "b.parquet")))
    assert peak() - before < 32 * MIB


def test_dense_files_of_the_usual_kind_are_read(small, tmp_path):
    """Boilerplate that packs to a hundredth."""
    row = json.dumps({"text": "Keep the notice. " * 20})
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
        file.writelines(f'{row[:-2]} {i}"}}\n' for i in range(8000))
    assert len(list(readers.read(str(tmp_path / "rows.jsonl.gz")))) == 8000


# -- links ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("named", ["data", "data/*.jsonl", "data/**/*.jsonl", "data/in*/*.jsonl"])
def test_a_link_out_of_a_data_folder_is_refused(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private.jsonl").write_text('{"text": "private"}\n')
    (tmp_path / "data" / "inner").mkdir(parents=True)
    for folder in ("data", "data/inner"):
        (tmp_path / folder / "own.jsonl").write_text('{"text": "own"}\n')
        (tmp_path / folder / "link.jsonl").symlink_to(tmp_path / "private.jsonl")
    with pytest.raises(ConfigError, match=r"is a link to .*private.jsonl, outside data"):
        readers.expand(named)


def test_links_within_a_folder_and_links_that_a_person_names_are_followed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "own.jsonl").write_text('{"text": "own"}\n')
    (tmp_path / "data" / "again.jsonl").symlink_to("own.jsonl")
    (tmp_path / "named.jsonl").symlink_to(tmp_path / "data" / "own.jsonl")
    assert len(readers.expand(str(tmp_path / "data"))) == 2
    assert readers.expand(str(tmp_path / "named.jsonl")) == [str(tmp_path / "named.jsonl")]


def test_a_datasets_folder_cannot_name_files_outside(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"text": ["own"]}).save_to_disk(tmp_path / "saved")
    assert len(list(readers.read(str(tmp_path / "saved")))) == 1
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../private.arrow"}]
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match="outside the folder"):
        list(readers.read(str(tmp_path / "saved")))
