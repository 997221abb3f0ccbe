"""The answers that earn 0 on average: whose they are, how many, and that they end."""

import pytest

from stages.models.chain import load_policy
from stages.rewards.normalise import Normalise, usual_answers

PROMPTS = [[5, 6, 7], [8, 9, 10], [5, 6, 7]]
CHOSEN = [[20, 2], [21, 22, 2], [23, 2]]


@pytest.fixture(scope="module")
def policy(sft):
    return load_policy(sft.artifact, sft.ctx.lineage, device="cpu")


def test_chosen_answers_are_those_of_the_first_pairs(policy):
    usual, said = usual_answers(policy, PROMPTS, CHOSEN, Normalise("chosen", count=2), seed=1)
    assert usual == [[5, 6, 7, 20, 2], [8, 9, 10, 21, 22, 2]]
    assert said["count"] == 2 and "cut" not in said and said["reward"] == "(raw - mean) / scale"


def test_the_policy_answers_each_prompt_equally_often_and_every_answer_ends(policy, tokenizer):
    usual, said = usual_answers(policy, PROMPTS, CHOSEN, Normalise(count=6, max_new_tokens=5), seed=1)
    assert [ids[:3] for ids in usual] == [PROMPTS[0]] * 3 + [PROMPTS[1]] * 3  # the third prompt is the first again
    assert all(ids[-1] == tokenizer.eos_token_id and 4 <= len(ids) <= 3 + 5 + 1 for ids in usual)
    assert tokenizer.eos_token_id not in [token for ids in usual for token in ids[3:-1]]
    assert said["cut"] == sum(len(ids) == 3 + 5 + 1 for ids in usual) and said["count"] == 6
    assert len({tuple(ids) for ids in usual}) > 2  # drawn, not the most probable one each time


def test_no_more_answers_than_asked_for(policy):
    for count in (2, 3, 5):
        usual, said = usual_answers(policy, PROMPTS, CHOSEN, Normalise(count=count, max_new_tokens=2), seed=1)
        assert len(usual) == said["count"] == count


def test_they_are_drawn_under_the_seed(policy):
    drawn = [
        usual_answers(policy, PROMPTS, CHOSEN, Normalise(count=4, max_new_tokens=6), seed)[0] for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
