"""Forward passes: shared, batched and cut to what is read, they equal one plain pass for each sequence."""

import pytest
import torch

from pipeline.errors import DataError
from stages.evaluation import forward
from stages.kernels import prefill
from stages.models.chat import answer_ids

ANSWERS = ["Yes.", "No, not without the source code.", "MIT"]


@pytest.fixture(params=["policy", "capped"])
def any_policy(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("micro_batch", [0, 1, 2])
def test_continuations_equal_a_plain_pass(any_policy, reference, questions, micro_batch):
    prompts = forward.prompts_of(any_policy, questions)
    counts = [1, 2, 3, 2, 1]  # items differ in how many continuations they have
    answers = [[answer_ids(any_policy.tokenizer, text) for text in ANSWERS[:count]] for count in counts]
    found = forward.continuation_log_probs(any_policy, prompts, answers, micro_batch)
    expected = [[sum(reference(any_policy, p, a)) for a in own] for p, own in zip(prompts, answers, strict=True)]
    assert [len(own) for own in found] == counts
    for own, plain in zip(found, expected, strict=True):
        assert own == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize("micro_batch", [0, 1, 2])
def test_token_log_probs_equal_a_plain_pass(any_policy, reference, questions, micro_batch):
    sequences = forward.prompts_of(any_policy, questions)
    for batch in prefill.batches([len(s) for s in sequences], micro_batch, "cpu"):
        with torch.inference_mode():
            found = forward.token_log_probs(any_policy, [sequences[i] for i in batch])
        for i, values in zip(batch, found, strict=True):
            assert values.tolist() == pytest.approx(reference(any_policy, sequences[i][:1], sequences[i][1:]), abs=1e-5)


def test_only_the_positions_that_are_read_reach_the_output_layer(policy, questions):
    seen = []
    hook = policy.model.get_output_embeddings().register_forward_hook(lambda m, a, out: seen.append(out.shape[1]))
    prompts = forward.prompts_of(policy, questions)
    answers = [[answer_ids(policy.tokenizer, text) for text in ANSWERS]] * len(prompts)
    forward.continuation_log_probs(policy, prompts, answers, 0)
    hook.remove()
    assert sum(seen) == sum(len(answer) for own in answers for answer in own)


def test_prompts_of_one_token_and_identical_prompts_work(policy, reference):
    for prompts in ([[5], [6]], [[5, 6, 7], [5, 6, 7]]):
        found = forward.continuation_log_probs(policy, prompts, [[[8, 9]], [[9]]], 0)
        assert found[0][0] == pytest.approx(sum(reference(policy, prompts[0], [8, 9])), abs=1e-5)
        assert found[1][0] == pytest.approx(sum(reference(policy, prompts[1], [9])), abs=1e-5)


def test_an_item_longer_than_the_model_can_read_is_named(policy):
    with pytest.raises(DataError, match="item q takes 4000 tokens, the model reads at most 2048"):
        forward.check_lengths(policy, [{"id": "q"}], [4000])
