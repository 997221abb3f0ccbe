"""scripts/refusal_agreement.py: labels read from CSV, shares against references."""

import importlib.util
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
    assert list(script.labelled(file)) == [(True, True), (False, False)]


def test_shares_equal_the_library(script):
    pairs = [(True, True)] * 5 + [(True, False)] * 3 + [(False, True)] * 2 + [(False, False)] * 7
    people, found = zip(*pairs, strict=True)
    measured = script.agreement(pairs)
    assert measured["agreement"] == pytest.approx(accuracy_score(people, found), abs=1e-4)
    assert measured["precision"] == pytest.approx(precision_score(people, found), abs=1e-4)
    assert measured["recall"] == pytest.approx(recall_score(people, found), abs=1e-4)
    assert measured["low"] < measured["agreement"] < measured["high"]
