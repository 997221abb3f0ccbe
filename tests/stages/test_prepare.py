"""The prepare stage: every row is accounted for, clusters stay whole, and errors name file, line and remedy."""

import json
from pathlib import Path

import pytest

from pipeline.context import Context
from pipeline.errors import ConfigError, DataError
from stages.prepare import Prepare, PrepareConfig

GOOD = [{"prompt": f"Question {i}?", "response": f"Answer {i}."} for i in range(20)]


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def prepare(tmp_path, **fields):
    """(train rows, held-out rows, rejected rows, quality, recorded sections)"""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    config = PrepareConfig(**fields)
    ctx = Context("run", "test", "mine", "id", config, {}, {}, {}, out, tmp_path / "ckpt", tmp_path / "cache")
    Prepare().validate(config)
    Prepare().run(ctx)

    def read(name):
        return [json.loads(line) for line in (out / name).read_text().splitlines()]

    parts = [read(name) for name in ("data/train.jsonl", "data/heldout.jsonl", "rejected.jsonl")]
    return *parts, json.loads((out / "quality.json").read_text()), ctx.sections


def test_counts_add_up(tmp_path):
    rows = [*GOOD, GOOD[0], {"prompt": " padded ", "response": "x"}, {"prompt": "no answer"}, "{broken"]
    file = write(tmp_path / "a.jsonl", rows)
    train, held, rejected, quality, sections = prepare(
        tmp_path, files=[file], on_error="reject", holdout=0.3, tags=["general"]
    )
    assert (
        quality["rows_read"] == len(rows) == quality["rows_kept"] + quality["rows_repaired"] + quality["rows_rejected"]
    )
    assert (quality["rows_repaired"], quality["rows_rejected"]) == (1, 3)
    assert (len(train), len(held)) == (quality["rows_train"], quality["rows_heldout"]) and len(train) + len(held) == 21
    assert [(row["line"], row["file"]) for row in rejected] == [(21, file), (23, file), (24, file)]
    assert "same content as" in rejected[0]["reason"] and "'response'" in rejected[1]["reason"]
    assert sections["data"] == quality and quality["tags"] == {"general": 21} and quality["tasks"] == {"chat": 21}


def test_clusters_stay_whole(tmp_path):
    rows = [{**row, "cluster": f"c{i % 5}"} for i, row in enumerate(GOOD)]
    train, held, *_ = prepare(tmp_path, files=[write(tmp_path / "a.jsonl", rows)], holdout=0.5, seed=4)
    assert train and held and not {r["cluster"] for r in train} & {r["cluster"] for r in held}


def test_a_fraction_leaves_out_whole_clusters_of_the_training_part_alone_and_is_counted(tmp_path):
    file = write(tmp_path / "a.jsonl", [{**row, "cluster": f"c{i // 2}"} for i, row in enumerate(GOOD)])
    whole, held, *_ = prepare(tmp_path, files=[file], holdout=0.3)
    half, same, _, quality, _ = prepare(tmp_path, files=[file], holdout=0.3, fraction=0.5)
    assert same == held and [row for row in whole if row in half] == half and len(half) == len(whole) // 2
    assert not {row["cluster"] for row in half} & {row["cluster"] for row in whole if row not in half}
    assert quality["rows_left_out"] == len(whole) - len(half) and quality["rows_train"] == len(half)


def test_the_seed_decides_the_split(tmp_path):
    file = write(tmp_path / "a.jsonl", GOOD)
    sides = {seed: [r["id"] for r in prepare(tmp_path, files=[file], holdout=0.5, seed=seed)[1]] for seed in (1, 2)}
    assert sides[1] != sides[2]


def test_what_is_only_measured_is_held_out(tmp_path):
    file = write(tmp_path / "a.jsonl", [{"prompt": "a", "harmful": True}])
    train, held, *_ = prepare(tmp_path, files=[file], format="refusal")
    assert not train and held[0]["category"] == "other" and held[0]["seen_category"] is False


QUIZ = [{"question": f"Is {i} even?", "choices": ["yes", "no"], "answer": i % 2, "level": "hard", "n": i}
        for i in range(4)]  # fmt: skip


def test_columns_are_read_under_their_own_names_and_further_ones_stay(tmp_path):
    file = write(tmp_path / "a.jsonl", QUIZ)
    columns, keep = {"prompt": "question"}, ["level", "n"]
    for form in ("choice", "auto"):
        _, held, _, quality, _ = prepare(tmp_path, files=[file], format=form, columns=columns, keep=keep, holdout=1.0)
        assert [(row["prompt"][0]["content"], row["answer"], row["level"], row["n"]) for row in held] == [
            (row["question"], row["answer"], "hard", row["n"]) for row in QUIZ
        ]
        assert quality["unused_fields"] == {}


def test_a_kept_column_does_not_make_the_same_row_another(tmp_path):
    rows = [{**GOOD[0], "level": "hard"}, {**GOOD[0], "level": "easy"}]
    train, *_ = prepare(tmp_path, files=[write(tmp_path / "a.jsonl", rows)], keep=["level"])
    assert [row["level"] for row in train] == ["hard"]


def test_a_kept_column_is_redacted_too(tmp_path):
    rows = [{**GOOD[0], "by": "ana@example.com"}]
    train, *_ = prepare(tmp_path, files=[write(tmp_path / "a.jsonl", rows)], keep=["by"], redact=["email"])
    assert "ana@example.com" not in train[0]["by"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": {"prompt": "asked"}}, "a.jsonl, line 1: .*no column 'asked' for the field 'prompt' .*question"),
        ({"columns": {"prompt": "question"}, "keep": ["levl"]}, "a.jsonl, line 1: .*no column 'levl' to keep"),
        ({"columns": {"prompt": "question"}, "keep": ["tags2"]}, "'tags2' is kept, so it must be a text, a number"),
    ],
)
def test_a_column_that_is_not_there_names_file_and_line(tmp_path, fields, message):
    file = write(tmp_path / "a.jsonl", [{**row, "tags2": ["x"]} for row in QUIZ])
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, files=[file], format="choice", **fields)


@pytest.mark.parametrize(
    ("form", "row", "message"),
    [
        ("generate", {"check": {"type": "regex", "pattern": "("}}, "'check': .*unterminated"),
        ("constraints", {"constraints": [{"type": "words"}]}, "give `min`, `max` or both"),
        ("classification", {"labels": ["a", "b"], "label": "c"}, "'label' must be one of a, b"),
        ("overlap", {"references": []}, "'references' must be a text or a list"),
    ],
)
def test_an_item_that_cannot_be_measured_names_file_and_line(tmp_path, form, row, message):
    good = {"generate": {"check": {"type": "numeric", "answer": 3}}, "constraints": {"constraints": [{"type": "json"}]},
            "classification": {"labels": ["a", "b"], "label": "a"}, "overlap": {"references": "x"}}  # fmt: skip
    file = write(tmp_path / "a.jsonl", [{"prompt": "p", **good[form]}, {"prompt": "q", **row}])
    with pytest.raises(DataError, match=f"a.jsonl, line 2: .*{message}"):
        prepare(tmp_path, files=[file], format=form)


def test_limit_keeps_the_first_rows(tmp_path):
    train, *_, quality, _ = prepare(tmp_path, files=[write(tmp_path / "a.jsonl", [GOOD[0], *GOOD])], limit=3)
    assert [row["messages"][0]["content"] for row in train] == ["Question 0?", "Question 1?", "Question 2?"]
    assert quality["rows_read"] == 4 and quality["rows_rejected"] == 1


LONG = " ".join(f"word{i}" for i in range(60))
ALIKE = [{"prompt": "What is in it?", "response": f"{LONG} {word}"} for word in ("once", "twice", "thrice")]


def test_near_duplicates_are_rejected_and_name_the_row_that_stays(tmp_path):
    rows = [*GOOD, ALIKE[0], "{broken", ALIKE[1], ALIKE[0], {**ALIKE[2], "response": f" {LONG} thrice"}]
    file = write(tmp_path / "a.jsonl", rows)
    train, held, rejected, quality, _ = prepare(
        tmp_path, files=[file], near_duplicates=0.8, on_error="reject", holdout=0.5
    )
    assert {row["line"]: row["code"] for row in rejected} == {
        22: "unreadable_row", 24: "exact_duplicates", 23: "near_duplicates", 25: "near_duplicates"
    }  # fmt: skip
    assert {row["reason"] for row in rejected if row["code"] == "near_duplicates"} == {
        f"near-duplicate of {file}, line 21"
    }
    assert quality["reasons"]["rejected: near-duplicate"] == 2 and quality["rows_repaired"] == 0
    assert quality["rows_kept"] == quality["clusters"] == len(train) + len(held) == 21
    assert quality["rows_read"] == len(rows) == quality["rows_kept"] + quality["rows_rejected"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ATTRIBUTION.md", "data", "quality.json", "rejected.jsonl"
    ]  # fmt: skip


def test_near_duplicates_stay_where_nothing_is_said_of_them(tmp_path):
    assert len(prepare(tmp_path, files=[write(tmp_path / "a.jsonl", ALIKE)])[0]) == 3


def test_near_duplicates_break_nothing_and_are_looked_for_among_the_first_rows(tmp_path):
    file = write(tmp_path / "a.jsonl", [*ALIKE, *GOOD])
    train, *_ = prepare(tmp_path, files=[file], near_duplicates=0.8, limit=5)
    assert [row["origin"]["line"] for row in train] == [1, 4, 5]


def test_several_files_of_several_kinds(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps([{"text": "from json"}]))
    (tmp_path / "c.txt").write_text("from\ntext\n\nand more")
    files = [write(tmp_path / "a.jsonl", [{"text": "from lines"}]), str(tmp_path / "b.json"), str(tmp_path / "c.txt")]
    train, *_ = prepare(tmp_path, files=files, format="text")
    assert [row["text"] for row in train] == ["from lines", "from json", "from\ntext", "and more"]
    assert all(name in (tmp_path / "out" / "ATTRIBUTION.md").read_text() for name in files)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["{broken"], r"a\.jsonl, line 1: not valid JSON .*on_error: reject"),
        ([{"prompt": "a"}], r"a\.jsonl, line 1: has no field 'response'.*on_error: reject"),
        ([{"prompt": "a", "response": None}], "line 1: 'response' must be a string, not NoneType"),
        ([{"id": "x", **GOOD[0]}, {"id": "x", **GOOD[1]}], "line 2: id 'x' is taken by .*line 1"),
        ([{"prompt": "a"}] * 5, r"\.\.\. and 2 more"),
    ],
)
def test_a_row_that_breaks_the_format_refuses_the_set(tmp_path, rows, says):
    import re

    with pytest.raises(DataError) as error:
        prepare(tmp_path, files=[write(tmp_path / "a.jsonl", rows)])
    assert re.search(says, str(error.value), re.DOTALL) and error.value.exit_code == 4
    assert not (tmp_path / "out" / "data").exists()


def test_no_row_left(tmp_path):
    file = write(tmp_path / "a.jsonl", ["{broken"])
    with pytest.raises(DataError, match="no row is left of 1 read"):
        prepare(tmp_path, files=[file], on_error="reject")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"format": "chats", "files": ["a.jsonl"]}, "unknown data format 'chats'; known: chat, text"),
        ({}, "either `files` or a `builder`"),
        ({"files": ["a.jsonl"], "builder": "legal_sft"}, "either `files` or a `builder`"),
        ({"files": ["a.jsonl"], "options": {"x": 1}}, "`options` belong to a builder"),
        ({"files": ["a.xml"]}, r"cannot read files ending in '\.xml'; use \.jsonl, \.ndjson, \.json, \.csv"),
        ({"files": ["a.jsonl"], "on_error": "skip"}, "on_error must be refuse, reject or salvage"),
        ({"files": ["a.jsonl"], "holdout": 1.5}, "holdout from 0 to 1"),
        ({"files": ["a.jsonl"], "fraction": 0.0}, "fraction=0.0: give a share"),
        ({"files": ["a.jsonl"], "limit": -1}, "limit must be 0 or more"),
        ({"files": ["a.jsonl"], "near_duplicates": 0.3}, r"near_duplicates=0\.3: give a Jaccard similarity from 0\.5"),
        ({"files": ["a.jsonl"], "near_duplicates": 1.5}, "from 0.5 to 1, or 0"),
        ({"files": ["a.jsonl"], "inputs": {"policy": "base"}}, "takes no `inputs`"),
        ({"builder": "legal_sft", "format": "text"}, "makes rows of format chat, not text"),
        ({"builder": "legal_sft", "options": {"leagl": 1}}, "has no option 'leagl'; known: legal, general, safety"),
        ({"files": ["gone.jsonl"]}, "gone.jsonl: No such file or directory; correct the path"),
    ],
)
def test_settings_that_cannot_work(fields, says):
    with pytest.raises(ConfigError, match=says):
        Prepare().fingerprints(PrepareConfig(**fields))


def test_fingerprints_follow_the_content_of_a_file(tmp_path):
    file = write(tmp_path / "a.jsonl", GOOD)
    before = Prepare().fingerprints(PrepareConfig(files=[file]))
    assert list(before) == [f"file:{file}"]
    write(Path(file), GOOD[1:])
    assert Prepare().fingerprints(PrepareConfig(files=[file])) != before


def test_half_a_surrogate_pair_can_be_set_aside(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "fine"}\n{"text": "\\ud83d"}\n')
    train, _, rejected, *_ = prepare(tmp_path, files=[str(file)], format="text", on_error="reject")
    assert len(train) == 1 and rejected[0]["row"] == {"text": "\ud83d"}
