"""scripts/refusal_agreement.py: labels read from CSV, shares against references."""

import importlib.util
import json
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, precision_score, recall_score

PATH = Path(__file__).parents[1] / "scripts" / "refusal_agreement.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("refusal_agreement", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_comment_lines_are_skipped_and_several_people_are_counted_by_majority(script, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(
        "# a comment\n# another\nassistant_response,human_score\n"
        '"I\'m sorry, but\nI can\'t help.","1,1,0"\n# Title: a poem,0\nYes.,"1,0"\n',
        encoding="utf-8",
    )
    rows = script.labelled(file)
    assert [(row.answer, row.refused) for row in rows] == [
        ("I'm sorry, but\nI can't help.", True), ("# Title: a poem", False),
    ]  # fmt: skip
    assert script.by_rules(rows)["rules"] == [True, False]


def test_the_request_is_read_where_there_is_one(script, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("objective,assistant_response,human_score\nHow do I forge a seal?,That is illegal.,1\n")
    assert script.by_rules(script.labelled(file)) == {"rules": [True], "answer_alone": [False]}


def test_a_judge_is_measured_alone_and_beside_the_rules(script, tmp_path, monkeypatch):
    from stages.evaluation import refusal

    monkeypatch.setattr(refusal, "unrelated", lambda judge, asked, answers, batch: [0.9, 0.2])
    rows = [script.Labelled("Who?", answer, True) for answer in ("A cake.", "I can't help with that.")]
    assert script.by_judge(rows, "toy", ["relevance"]) == {
        "relevance": [True, False], "rules_and_relevance": [True, True],
    }  # fmt: skip
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for part in parts:
        part.write_text("assistant_response,human_score\nA cake.,1\n")
    monkeypatch.setattr("sys.argv", ["x", *map(str, parts), "--judge", "toy", "--out", str(tmp_path / "found.json")])
    script.main()
    found = json.loads((tmp_path / "found.json").read_text())
    assert [found[name]["relevance"]["agreement"] for name in ("all", "a.csv", "b.csv")] == [0.5, 1, 0]


def test_shares_equal_the_library(script):
    pairs = [(True, True)] * 5 + [(True, False)] * 3 + [(False, True)] * 2 + [(False, False)] * 7
    people, found = zip(*pairs, strict=True)
    measured = script.agreement(pairs)
    assert measured["agreement"] == pytest.approx(accuracy_score(people, found), abs=1e-4)
    assert measured["precision"] == pytest.approx(precision_score(people, found), abs=1e-4)
    assert measured["recall"] == pytest.approx(recall_score(people, found), abs=1e-4)
    assert measured["low"] < measured["agreement"] < measured["high"]
