"""`show`, `explain` and `status --check`: what a chain is made from, why it runs again, whether it is whole."""

import os
import re

import pytest


@pytest.fixture
def built(journeyman):
    assert journeyman("run").code == 0
    return journeyman


def lines(text):
    """The lines of a tree, of which the ids are taken out."""
    shown = [line for line in text.splitlines() if "  HIT  " in line]
    return [re.sub(r"  HIT  [0-9a-f]{16}", "", line) for line in shown]


def test_show_draws_what_each_artifact_is_made_from_and_opens_it_once(built):
    assert lines(built("show").out)[-9:] == [
        "  eval_first  evaluate",
        "  ├─ model: first  toy",
        "  │  ├─ policy: base  base",
        "  │  └─ data.train: facts  prepare",
        "  └─ data.quiz: quiz  prepare",
        "  eval_second  evaluate",
        "  ├─ model: second  toy",
        "  │  └─ policy: first  toy (above)",
        "  └─ data.quiz: quiz  prepare",
    ]


def test_show_of_a_stage_has_its_numbers_and_its_tree(built):
    shown = built("show", "second").out
    assert "value         8" in shown
    assert lines(shown) == [
        "  second  toy",
        "  └─ policy: first  toy",
        "     ├─ policy: base  base",
        "     └─ data.train: facts  prepare",
    ]


def test_explain_names_the_cause_furthest_up_and_the_way_down_from_it(built, project):
    words = ("eval_second", "stages.second.train.beta=0.2", "stages.first.add=2")
    explained = built("explain", *words)
    shown = [line.strip() for line in explained.out.splitlines()[1:3]]
    assert shown == ["first cause: first: add: 1.0 -> 2.0 (first -> second -> eval_second)",
                     "also: second: train.beta: 0.1 -> 0.2"]  # fmt: skip
    found = built("explain", *words, "--json").json
    assert [cause["stage"] for cause in found["causes"]] == ["first", "second"]
    assert found["way"] == ["first", "second", "eval_second"]


def test_explain_goes_up_to_a_row_of_a_data_file(built, project):
    with (project.path / "facts.jsonl").open("a") as stream:
        stream.write('{"id": "b"}\n')
    found = built("explain", "eval_second", "--json").json
    assert [(cause["stage"], cause["key"]) for cause in found["causes"]] == [("facts", "data.facts.jsonl")]
    assert found["way"] == ["facts", "first", "second", "eval_second"]


def test_explain_says_when_no_key_is_the_cause(built, project):
    assert "nothing changed since the last run" in built("explain", "first").out
    forced = built("explain", "first", "--force", "first").out
    assert "forced" in forced and "no key and no input changed since the last run" in forced


def test_status_check_hashes_what_it_shows(built, project):
    assert built("status", "--check").code == 0
    (file,) = [path for path in project.store.glob("artifacts/toy/*/2*/model.txt") if path.read_text() == "8.0"]
    stat = file.stat()
    file.write_text("9.0")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # only reading it can tell
    assert built("status").code == 0
    checked = built("status", "--check", "--json")
    assert checked.code == 5
    damaged = {name: stage for name, stage in checked.json["stages"].items() if stage["status"] == "DAMAGED"}
    assert list(damaged) == ["second"] and "--force second" in damaged["second"]["reason"]
