"""What is rehearsed beside the reward: which rows, and that their gradient is that of plain cross-entropy."""

import pytest
import torch
from kernel_toys import ids

from stages.models.chat import IGNORE, Example
from stages.rl.rehearsal import Rehearsal


def example(seed, length, untrained=0):
    tokens = ids(seed, length)
    return Example(tokens, [IGNORE] * untrained + tokens[untrained:])


@pytest.fixture
def rehearsal():
    documents = [example(i, 5 + i) for i in range(4)]
    talks = [example(50 + i, 8, untrained=3) for i in range(3)]
    return Rehearsal([documents, talks], rows=3, coef=0.5, seed=1)


def test_sources_take_turns_and_rows_depend_on_the_place_alone(rehearsal):
    first, second = rehearsal.drawn(0, 0), rehearsal.drawn(0, 1)
    documents = [[row in rehearsal.sources[0] for row in drawn] for drawn in (first, second)]
    assert documents == [[True, False, True], [False, True, False]]
    assert rehearsal.drawn(0, 1) == second
    assert any(rehearsal.drawn(update, 0) != first for update in range(1, 6))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("micro_batch", [1, 2, 8])
def test_the_gradient_is_that_of_the_mean_cross_entropy_of_trained_tokens(make_learner, rehearsal, fast, micro_batch):
    learner = make_learner(fast=fast, rollout={"temperature": 0.7})  # samples are colder, rehearsed rows are not
    model = learner.actor.roles.policy.model
    trained = [p for p in learner.actor.roles.model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    drawn = rehearsal.drawn(0, 0)
    total = sum(rehearsal.losses(learner.actor, drawn, micro_batch))
    found = torch.autograd.grad(total, trained)
    losses = []
    for row in drawn:
        logits = model(torch.tensor([row.ids]), use_cache=False).logits[0, :-1]
        labels = torch.tensor(row.labels[1:])
        losses.append(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none"))
    count = sum(label != IGNORE for row in drawn for label in row.labels[1:])
    expected = 0.5 * sum(loss.sum() for loss in losses) / count
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for one, other in zip(found, torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_rehearsed_rows_become_likelier_while_the_reward_is_learned(make_learner, rehearsal):
    learner = make_learner(lambda ids, _: len(ids) / 8, learning_rate=5e-3)
    learner.rehearsal = Rehearsal(rehearsal.sources, rows=4, coef=1.0, seed=1)
    for number in range(8):
        learner.update(number)
    losses = [entry["rehearsal_loss"] for entry in learner.history]
    assert losses[-1] < losses[0] - 0.2
