"""Readers: lines and their numbers, and what is said of a file that cannot be read."""

import pytest

from pipeline.errors import ConfigError, DataError
from stages.data.readers import RowError, read


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
