"""A prepared data set is read with the place of every row."""

import json

import pytest

from pipeline.context import Artifact
from pipeline.errors import DataError
from stages.data.artifact import located, rows, without


@pytest.fixture
def made(tmp_path):
    (tmp_path / "data").mkdir()
    row = {"id": "x", "text": "One.", "origin": {"file": "a.jsonl", "line": 7}}
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(row) + "\n")
    return Artifact("id", "prepare", "mine", tmp_path, "digest")


def test_a_row_comes_with_its_file_and_line(made):
    (found,) = located(made)
    assert (found.row["text"], found.file, found.line) == ("One.", "a.jsonl", 7)
    assert rows(made) == [found.row]


def test_rows_are_found_by_their_place(made):
    lines = [json.dumps({"id": f"é{i}", "origin": {"file": "a.jsonl", "line": 2 * i}}) + "\n" for i in range(9)]
    (made.path / "data" / "train.jsonl").write_text("".join(lines))
    found = located(made)
    everything = list(found)
    assert [each.line for each in everything] == [0, 2, 4, 6, 8, 10, 12, 14, 16] and len(found) == 9
    assert found[8] == found[-1] == everything[8] and found[3].row["id"] == "é3"
    assert found[2:5] == everything[2:5] and found[::4] == everything[::4] and found[20:] == []
    with pytest.raises(IndexError):
        found[9]


def test_rows_can_be_left_out_in_several_goes(made):
    file = made.path / "data" / "train.jsonl"
    file.write_text(
        "".join(json.dumps({"id": name, "text": name, "origin": {"file": "a", "line": 1}}) + "\n" for name in "abc")
    )
    (made.path / "data" / "heldout.jsonl").write_text(file.read_text())
    fewer = without(without(made, ["a"]), ["b"])
    assert [row["id"] for row in rows(fewer)] == ["c"] and fewer.id == made.id
    assert [each.row["id"] for each in located(fewer)] == ["c"] == [located(fewer)[0].row["id"]]
    assert [row["id"] for row in rows(fewer, "heldout")] == ["a", "b", "c"]  # only what is trained on
    assert without(made, ()) is made


def test_a_part_that_the_set_does_not_have(made):
    with pytest.raises(DataError, match="mine has no heldout part"):
        located(made, "heldout")
