"""Forward passes: shared, batched and cut to what is read, they equal one plain pass for each sequence."""

import pytest
import torch

from pipeline.errors import DataError
from stages.evaluation import forward
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
    for batch in forward.batches([len(s) for s in sequences], micro_batch, "cpu"):
        with torch.inference_mode():
            found = forward.token_log_probs(any_policy, [sequences[i] for i in batch])
        for i, values in zip(batch, found, strict=True):
            assert values.tolist() == pytest.approx(reference(any_policy, sequences[i][:1], sequences[i][1:]), abs=1e-5)


@pytest.mark.parametrize("micro_batch", [0, 1, 2])
def test_greedy_equals_the_librarys_own_generation(any_policy, questions, micro_batch):
    prompts = forward.prompts_of(any_policy, questions)
    found = forward.greedy(any_policy, prompts, 12, micro_batch)
    for prompt, answer in zip(prompts, found, strict=True):
        out = any_policy.model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0)
        assert answer == any_policy.tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True).strip()


def test_a_finished_answer_ends_at_the_end_of_turn_while_others_go_on(policy, questions, monkeypatch):
    """The script: row k says word k until its turn to stop; rows leave the batch, answers stay in their places."""
    word, stop = policy.tokenizer.encode("a")[0], policy.tokenizer.eos_token_id
    lives = {len(p): n for p, n in zip(forward.prompts_of(policy, questions), [1, 4, 0, 2, 6], strict=True)}
    lives = {10: 1, 20: 4, 30: 0, 40: 2, 50: 6}  # length of a prompt -> words of its answer
    seen = []

    def scripted(policy, rows, columns, **inputs):
        positions = inputs["position_ids"][:, -1].tolist() if len(rows) else []
        seen.append(len(positions))
        begun = [max(n for n in lives if n - 1 <= position) for position in positions]
        alive = [position - (n - 1) < lives[n] for position, n in zip(positions, begun, strict=True)]
        picks = torch.tensor([word if ok else stop for ok in alive], dtype=torch.long)
        return torch.nn.functional.one_hot(picks, len(policy.tokenizer)).float(), None

    prompts = [[word] * n for n in lives]
    monkeypatch.setattr(forward, "logits_at", scripted)
    assert forward.greedy(policy, prompts, 20, 0) == ["a", "aaaa", "", "aa", "aaaaaa"]
    steps = [rows for rows in seen if rows]
    assert steps[0] == 5 and steps[-1] == 1 and len(steps) == 7


def test_only_the_positions_that_are_read_reach_the_output_layer(policy, questions):
    seen = []
    hook = policy.model.get_output_embeddings().register_forward_hook(lambda m, a, out: seen.append(out.shape[1]))
    prompts = forward.prompts_of(policy, questions)
    answers = [[answer_ids(policy.tokenizer, text) for text in ANSWERS]] * len(prompts)
    forward.continuation_log_probs(policy, prompts, answers, 0)
    hook.remove()
    assert sum(seen) == sum(len(answer) for own in answers for answer in own)


def test_what_all_prompts_share_is_computed_once(policy, questions):
    fed = []
    hook = policy.model.model.register_forward_pre_hook(
        lambda m, args, kwargs: fed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    prompts = forward.prompts_of(policy, questions)
    shared = forward.common_prefix(prompts)
    with torch.inference_mode():
        forward.PromptCache(policy, prompts).fill(prompts)
    hook.remove()
    longest = max(map(len, prompts)) - 1
    assert shared > 3 and fed == [shared, len(prompts) * (longest - shared)]


@pytest.mark.parametrize(
    ("prompts", "shared"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2], [1, 2, 3]], 1),
        ([[5], [5, 6]], 0),
        ([[1, 2], [3, 4]], 0),
        ([[7, 8, 9]], 2),
    ],
)
def test_common_prefix_leaves_every_prompt_its_last_token(prompts, shared):
    assert forward.common_prefix(prompts) == shared


def test_prompts_of_one_token_and_identical_prompts_work(policy, reference):
    for prompts in ([[5], [6]], [[5, 6, 7], [5, 6, 7]]):
        found = forward.continuation_log_probs(policy, prompts, [[[8, 9]], [[9]]], 0)
        assert found[0][0] == pytest.approx(sum(reference(policy, prompts[0], [8, 9])), abs=1e-5)
        assert found[1][0] == pytest.approx(sum(reference(policy, prompts[1], [9])), abs=1e-5)


def test_batches_hold_items_of_like_length_and_respect_both_limits():
    lengths = [10, 600, 300, 10, 300, 700]
    assert list(forward.batches(lengths, 2, "cpu")) == [[5, 1], [2, 4], [0, 3]]
    assert list(forward.batches(lengths, 0, "cpu")) == [[5], [1], [2, 4, 0], [3]]
    assert list(forward.batches([], 0, "cpu")) == []


def test_an_item_longer_than_the_model_can_read_is_named(policy):
    with pytest.raises(DataError, match="item q takes 4000 tokens, the model reads at most 2048"):
        forward.check_lengths(policy, [{"id": "q"}], [4000])
