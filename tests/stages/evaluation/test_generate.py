"""Generate and check: answers meet their own item's check."""

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from stages.evaluation import forward
from stages.evaluation.generate import Generate, GenerateParams
from stages.evaluation.measurement import Scored


def test_each_answer_meets_its_own_check(policy, questions, monkeypatch):
    asked = []

    def scripted(policy, prompts, max_new_tokens, micro_batch):
        asked.append((len(prompts), max_new_tokens, micro_batch))
        return [f"answer {k}" for k in range(len(prompts))]

    monkeypatch.setattr(forward, "greedy", scripted)
    rows = [{**row, "task": "count", "check": {"type": "numeric", "answer": k % 3}} for k, row in enumerate(questions)]
    found = Generate().run(policy, rows, GenerateParams(max_new_tokens=7), 2)
    assert [item.score for item in found] == [1, 1, 1, 0, 0] and asked == [(5, 7, 2)]
    assert found[1].answer == "answer 1" and found[1].reference == "numeric answer=1"
    assert found[1].slices == {"task": "count"} and found[1].prompt == "May I sell it?"


def test_a_real_model_answers_within_its_tokens(policy, questions):
    rows = [{**row, "check": {"type": "words", "max": 100}} for row in questions]
    found = Generate().run(policy, rows, GenerateParams(max_new_tokens=3), 0)
    assert all(len(policy.tokenizer.encode(item.answer)) <= 6 for item in found)


def test_a_broken_check_names_its_item():
    with pytest.raises(DataError, match="item g: check: type 'exakt' is unknown"):
        Generate().check({"id": "g", "prompt": [], "check": {"type": "exakt"}}, GenerateParams())


def test_sampled_answers_count_by_the_share_that_is_right_and_are_the_same_each_time(policy, questions):
    rows = [{**row, "check": {"type": "contains", "all": ["a"]}} for row in questions]
    asked = GenerateParams(max_new_tokens=6, temperature=1.0, samples=4)
    one, other = (Generate().run(policy, rows, asked, 0) for _ in range(2))
    assert one == other and {item.score * 4 % 1 for item in one} == {0}
    assert any(0 < item.score < 1 for item in one)


def test_several_greedy_answers_would_be_one():
    with pytest.raises(ConfigError, match="samples=2: greedy answers are all the same; set temperature"):
        GenerateParams(samples=2)


def answered(*scores):
    return [Scored(f"i{k}", f"i{k}", score) for k, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "remark"),
    [
        ((0.5, 0.5, 0.5, 0.5), "100% of the variance of single answers is between draws for one prompt"),
        ((0, 1, 0, 1), "0% of the variance"),
        ((1, 1, 1), "every answer to every prompt got the same score"),
    ],
)
def test_sampled_answers_say_where_their_variance_is(scores, remark):
    (found,) = Generate().details(answered(*scores), GenerateParams(temperature=1.0, samples=4))["remarks"]
    assert found.startswith(remark)


def test_what_draws_leave_of_the_variance_follows_from_their_number():
    """Half within prompts, half between: the mean of four draws keeps an eighth within, a fifth of what is left."""
    rng = np.random.default_rng(0)
    right = rng.binomial(4, rng.beta(0.5, 0.5, 20000)) / 4  # intra-class correlation 1 / (1 + 0.5 + 0.5)
    (found,) = Generate().details(answered(*right), GenerateParams(temperature=1.0, samples=4))["remarks"]
    assert found.startswith("50% of the variance") and found.endswith("4 draws for each leave 20%")


def test_one_answer_for_each_prompt_has_no_such_variance():
    assert Generate().details(answered(1, 0), GenerateParams()) == {}
