"""What the policy says of its answers: the fast path, the plain one, and a forward pass for each answer agree."""

import pytest
import torch
from kernel_toys import ids

PROMPTS = [ids(1, 12), ids(1, 12), ids(2, 3), ids(3, 9)]  # two answers to one prompt
ANSWERS = [ids(11, 4), ids(12, 7), ids(13, 1), ids(14, 5)]


def disturb(learner):
    """An adapter and a value head that change something."""
    torch.manual_seed(5)
    for group in learner.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.data.normal_(std=0.2)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3, capped logits"])
@pytest.mark.parametrize("fast", [True, False])
def test_equals_one_forward_pass_for_each_answer(make_learner, plain, fast, architecture):
    learner = make_learner(fast=fast, architecture=architecture)
    disturb(learner)
    found = learner.actor.see(PROMPTS, ANSWERS)
    before = learner.actor.see_as("reference", PROMPTS, ANSWERS)
    for i, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        expected, reference = plain(learner, prompt, answer), plain(learner, prompt, answer, "reference")
        for name in ("log_probs", "entropy", "values"):
            assert torch.allclose(getattr(found, name)[i, : len(answer)], getattr(expected, name), atol=2e-5), name
            assert not getattr(found, name)[i, len(answer) :].any()
        assert torch.allclose(before.log_probs[i, : len(answer)], reference.log_probs, atol=2e-5)
        assert not torch.allclose(expected.log_probs, reference.log_probs, atol=1e-2)


def test_log_probabilities_are_those_of_the_sampler(make_learner):
    """At another temperature, too: what is trained is what wrote."""
    from stages.kernels.rollout import Sampling, rollout

    learner = make_learner(rollout={"temperature": 0.6})
    disturb(learner)
    written = rollout(learner.actor.roles.policy, PROMPTS, Sampling(6, temperature=0.6, seed=3))
    answers = [answer.ids if answer.end is None else [*answer.ids, answer.end] for answer in written]
    with torch.no_grad():
        found = learner.actor.see(PROMPTS, answers).log_probs
    for i, answer in enumerate(written):
        assert found[i, : len(answers[i])].tolist() == pytest.approx(answer.log_probs, abs=2e-5)


def test_a_value_adapter_leaves_the_policy_alone(make_learner):
    learner = make_learner(value_adapter=True)
    disturb(learner)
    found = learner.actor.see(PROMPTS, ANSWERS)
    found.values.sum().backward()
    names = {name for name, p in learner.actor.roles.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert names and all(".value." in name for name in names)
    shared = make_learner()
    disturb(shared)
    shared.actor.see(PROMPTS, ANSWERS).values.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in shared.actor.roles.model.parameters())
