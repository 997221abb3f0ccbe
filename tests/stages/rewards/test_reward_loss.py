"""The loss of a reward model against plain arithmetic, against TRL's own, and by what it is least at."""

import math

import pytest
import torch

from stages.rewards.loss import preference_loss


def plain(differences, targets, margins, weights):
    total = 0.0
    for d, t, m, w in zip(differences, targets, margins, weights, strict=True):
        p = 1 / (1 + math.exp(-(d - m)))
        total -= w * (t * math.log(p) + (1 - t) * math.log(1 - p))
    return total / len(differences)


def test_it_is_the_formula():
    values = ([0.3, -1.2, 2.0, 0.0], [1.0, 0.7, 0.5, 0.9], [0.0, 0.5, 1.0, 0.2], [1.0, 0.5, 2.0, 0.1])
    tensors = [torch.tensor(value, dtype=torch.float64) for value in values]
    assert float(preference_loss(*tensors)) == pytest.approx(plain(*values))


def test_it_is_finite_however_sure_and_wrong():
    found = preference_loss(*map(torch.tensor, ([-1e4], [1.0], [0.0], [1.0])))
    assert float(found) == pytest.approx(1e4)


def test_it_is_least_where_the_difference_is_the_log_odds_of_the_target_above_the_margin():
    difference = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    target, margin = torch.tensor([0.9, 0.6, 0.5]), torch.tensor([0.0, 1.0, 0.0])
    optimizer = torch.optim.LBFGS([difference], max_iter=100, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = preference_loss(difference, target, margin, torch.ones(3))
        loss.backward()
        return loss

    optimizer.step(closure)
    assert difference.detach().numpy() == pytest.approx((torch.logit(target) + margin).numpy(), abs=1e-3)
