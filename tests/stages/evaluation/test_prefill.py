"""Prompts in the cache: what they share is computed once, batches hold what fits."""

import pytest
import torch

from stages.evaluation.forward import prompts_of
from stages.kernels import prefill


def test_what_all_prompts_share_is_computed_once(policy, questions):
    fed = []
    hook = policy.model.model.register_forward_pre_hook(
        lambda m, args, kwargs: fed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    prompts = prompts_of(policy, questions)
    shared = prefill.common_prefix(prompts)
    with torch.inference_mode():
        prefill.PromptCache(policy, prompts).fill(prompts)
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
    assert prefill.common_prefix(prompts) == shared


def test_batches_hold_items_of_like_length_and_respect_both_limits():
    lengths = [10, 600, 300, 10, 300, 700]
    assert list(prefill.batches(lengths, 2, "cpu")) == [[5, 1], [2, 4], [0, 3]]
    assert list(prefill.batches(lengths, 0, "cpu")) == [[5], [1], [2, 4, 0], [3]]
    assert list(prefill.batches([], 0, "cpu")) == []
