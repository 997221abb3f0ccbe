"""Preference accuracy: per token or as a sum, and ties."""

import pytest

from pipeline.errors import DataError
from stages.evaluation.preference import Preference, PreferenceParams
from stages.models.chat import answer_ids, prompt_ids

ANSWERS = [
    "Yes.",
    "No, not without the source code and the notice.",
    "MIT",
    "Keep it.",
    "The licence allows you to use it.",
]


@pytest.fixture
def rows(questions):
    return [{**row, "chosen": ANSWERS[k], "rejected": ANSWERS[k - 1]} for k, row in enumerate(questions)]


@pytest.mark.parametrize("normalise", ["tokens", "none"])
def test_the_likelier_answer_wins(policy, reference, rows, normalise):
    for row, item in zip(rows, Preference().run(policy, rows, PreferenceParams(normalise), 0), strict=True):
        values = []
        for side in ("chosen", "rejected"):
            ids = answer_ids(policy.tokenizer, row[side])
            total = sum(reference(policy, prompt_ids(policy.tokenizer, row["prompt"]), ids))
            values.append(total / len(ids) if normalise == "tokens" else total)
        assert item.score == float(values[0] > values[1])
        assert item.answer == row["chosen" if item.score else "rejected"] and item.reference == row["chosen"]


def test_normalising_by_tokens_takes_the_advantage_from_short_answers(policy, questions):
    long = "You must give the source code to those who receive the program, and keep the notice."
    rows = [{**row, "chosen": long, "rejected": "zq"} for row in questions]
    by_sum = Preference().run(policy, rows, PreferenceParams("none"), 0)
    assert all(item.score == 0 for item in by_sum)


def test_equal_answers_tie(policy, questions):
    found = Preference().run(
        policy, [{**row, "chosen": "Yes.", "rejected": "Yes."} for row in questions], PreferenceParams(), 0
    )
    assert [item.score for item in found] == [0.5] * 5


def test_an_empty_answer_is_refused():
    with pytest.raises(DataError, match="item p: `chosen` and `rejected` are not empty"):
        Preference().check({"id": "p", "prompt": [], "chosen": "a", "rejected": ""}, PreferenceParams())
