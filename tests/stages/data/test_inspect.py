"""`data inspect`: what is said of a file, and with which exit code."""

import json

import pytest

from pipeline.cli import main

KEYS = {"path", "format", "layout", "rows_read", "rows_kept", "rows_repaired", "rows_rejected", "findings", "sample"}


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """said(content, words...) -> (exit code, JSON document) of an inspection of a.jsonl with these rows."""
    monkeypatch.chdir(tmp_path)

    def call(rows, *words, name="a.jsonl"):
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
        code = main(["data", "inspect", name, "--json", *words])
        return code, json.loads(capsys.readouterr().out)

    return call


GOOD = [{"instruction": f"Name the colour number {i}.", "output": f"It is colour {i}, of course."} for i in range(4)]


def test_a_good_file(said):
    code, found = said(GOOD)
    assert code == 0 and found.keys() >= KEYS
    assert (found["format"], found["layout"], found["form"], found["rows_read"], found["rows_kept"]) == (
        "alpaca", "alpaca", "chat", 4, 4,
    )  # fmt: skip
    assert found["sample"][0] == (
        "<|im_start|>user\nName the colour number 0.<|im_end|>\n"
        "<|im_start|>assistant\nIt is colour 0, of course.<|im_end|>\n"
    )


def test_rows_that_cannot_be_used_are_counted_and_shown_and_end_with_code_4(said):
    code, found = said([*GOOD, "{broken", {"instruction": " ", "output": "x"}, {"instruction": "a ", "output": "b"}])
    assert code == 4
    assert (found["rows_read"], found["rows_kept"], found["rows_repaired"], found["rows_rejected"]) == (7, 4, 1, 2)
    errors = {each["code"]: each for each in found["findings"] if each["level"] == "error"}
    assert {code: (each["count"], each["examples"][0]["line"]) for code, each in errors.items()} == {
        "unreadable_row": (1, 5),
        "empty_turn": (1, 6),
    }


def test_the_layout_and_the_format_can_be_named(said):
    raw = [{"prompt": "Hi", "response": "Hello", "label": True}]
    assert said(raw)[1]["layout"] == "kto"
    assert said(raw, "format=chat")[1]["layout"] == "prompt_completion"
    assert said(raw, "layout=prompt")[1]["form"] == "prompt"
    assert said(raw, "layout=hh")[0] == 4
    code, found = said(raw, "limit=3")
    assert code == 2 and "format, layout and on_error" in found["error"]


def test_a_broken_file_is_an_error_unless_it_is_salvaged(said):
    code, found = said(['[{"text": "one"}, {"text": '], name="a.json")
    assert code == 4 and "breaks at byte" in found["error"]
    code, found = said(['[{"text": "one"}, {"text": '], "on_error=salvage", name="a.json")
    assert code == 4 and (found["rows_kept"], found["rows_rejected"]) == (1, 1)


def test_what_no_layout_fits(said):
    code, found = said([{"colour": "red"}])
    assert code == 4 and "look like no known layout" in found["error"]


def test_a_file_that_is_not_there(capsys):
    assert main(["data", "inspect", "nowhere.jsonl"]) == 2
    assert "nowhere.jsonl: No such file or directory" in capsys.readouterr().err


def test_the_same_for_people(said, capsys):
    said(GOOD)
    assert main(["data", "inspect", "a.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "a.jsonl: alpaca (layout alpaca, format chat)" in out and "4 rows read: 4 kept" in out


@pytest.mark.parametrize("words", [[], ["inspect"], ["look", "a.jsonl"]])
def test_what_data_takes(words, capsys):
    assert main(["data", *words]) == 2
    assert "data inspect FILE" in capsys.readouterr().err


def test_preferences_show_both_answers(said):
    _, found = said([{"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}])
    assert found["sample"][0].endswith("--- chosen\nHello\n--- rejected\nGo away")
