"""Forced choice: each way to normalise against the plain log-likelihoods."""

import pytest

from pipeline.errors import DataError
from stages.evaluation.choice import Choice, ChoiceParams
from stages.models.chat import prompt_ids


def user(text):
    return [{"role": "user", "content": text}]


CHOICES = ["Copyleft", "Copyleft Limited", "Public Domain", "MIT"]


@pytest.fixture
def rows(questions):
    return [{**row, "choices": CHOICES, "answer": k % 4} for k, row in enumerate(questions)]


def by_hand(policy, reference, row, params):
    """Index of the best choice from one plain pass for each."""
    values = []
    for choice in row["choices"]:
        ids = policy.tokenizer.encode(choice, add_special_tokens=False)
        ids = [*ids, policy.tokenizer.eos_token_id] if params.end_of_turn else ids
        value = sum(reference(policy, prompt_ids(policy.tokenizer, row["prompt"]), ids))
        prior = sum(reference(policy, prompt_ids(policy.tokenizer, user(params.prior_prompt)), ids))
        by = {"none": value, "tokens": value / len(ids), "bytes": value / len(choice.encode()), "prior": value - prior}
        values.append(by[params.normalise])
    return values.index(max(values))


@pytest.mark.parametrize("end_of_turn", [True, False])
@pytest.mark.parametrize("normalise", ["none", "tokens", "bytes", "prior"])
def test_the_likeliest_choice_is_the_answer(policy, reference, rows, normalise, end_of_turn):
    params = ChoiceParams(normalise=normalise, end_of_turn=end_of_turn, prior_prompt="May I?")
    found = Choice().run(policy, rows, params, 0)
    for row, item in zip(rows, found, strict=True):
        best = by_hand(policy, reference, row, params)
        assert item.answer == CHOICES[best] and item.reference == CHOICES[row["answer"]]
        assert item.score == float(best == row["answer"])


def test_the_prior_prompt_is_read(policy, rows):
    likely = [
        [item.answer for item in Choice().run(policy, rows, ChoiceParams("prior", prompt), 0)]
        for prompt in ("Answer:", "Which licence is this?", "May I sell it?")
    ]
    assert likely[0] != likely[1] or likely[1] != likely[2]


def test_without_the_end_of_turn_a_longer_choice_never_beats_its_own_beginning(policy, rows):
    rows = [{**row, "choices": CHOICES[:2], "answer": 0} for row in rows]
    found = Choice().run(policy, rows, ChoiceParams(end_of_turn=False), 0)
    assert all(item.answer == "Copyleft" for item in found)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"choices": ["a"]}, "at least two different"),
        ({"choices": ["a", "a"]}, "at least two different"),
        ({"choices": ["a", ""]}, "at least two different"),
        ({"answer": 2}, "index of the right choice, 0 to 1"),
        ({"answer": "a"}, "index of the right choice"),
    ],
)
def test_items_that_cannot_be_answered_are_refused(broken, message):
    row = {"id": "x", "prompt": user("?"), "choices": ["a", "b"], "answer": 0, **broken}
    with pytest.raises(DataError, match=f"item x: .*{message}"):
        Choice().check(row, ChoiceParams())
