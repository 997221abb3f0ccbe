"""The formulas of PPO against their definitions, written as sums over a single answer."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.rl import ppo

GENERATOR = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def masked(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def advantage_by_definition(rewards, values, gamma, lam):
    """sum_k (gamma lam)^k delta_(t+k), each delta with the value that follows, 0 after the last token."""
    following = [*values[1:], 0.0]
    deltas = [r + gamma * after - v for r, v, after in zip(rewards, values, following, strict=True)]
    return [sum((gamma * lam) ** k * d for k, d in enumerate(deltas[t:])) for t in range(len(deltas))]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_advantages_are_the_discounted_sum_of_errors(lengths, gamma, lam):
    mask = masked(lengths)
    rewards, values = random(*mask.shape), random(*mask.shape)  # what stands after an answer's end must not matter
    advantages, returns = ppo.gae(rewards, values, mask, gamma, lam)
    for row, length in enumerate(lengths):
        expected = advantage_by_definition(rewards[row, :length].tolist(), values[row, :length].tolist(), gamma, lam)
        assert advantages[row, :length].tolist() == pytest.approx(expected, abs=1e-9)
        assert returns[row, :length].tolist() == pytest.approx(
            (values[row, :length] + advantages[row, :length]).tolist()
        )
        assert not advantages[row, length:].any() and not returns[row, length:].any()


def test_with_lambda_1_a_return_is_the_sum_of_what_comes():
    mask = masked([3])
    rewards = torch.tensor([[1.0, 2.0, 4.0]])
    _, returns = ppo.gae(rewards, torch.tensor([[9.0, -3.0, 5.0]]), mask, 1.0, 1.0)
    assert returns.tolist() == [[7.0, 6.0, 4.0]]


def test_the_score_is_paid_at_the_last_token_and_kl_at_every_one():
    mask = masked([3, 1])
    kl = torch.tensor([[0.5, -0.25, 1.0], [2.0, 7.0, 7.0]])
    found = ppo.token_rewards(torch.tensor([10.0, -1.0]), kl, mask, 0.1)
    assert found.tolist() == [pytest.approx([-0.05, 0.025, 9.9]), pytest.approx([-1.2, 0.0, 0.0])]


def test_the_baseline_of_a_prompt_is_the_mean_of_its_other_answers():
    found = ppo.leave_one_out(torch.tensor([1.0, 2.0, 6.0, 5.0, 5.0, 5.0]), 3)
    assert found.tolist() == [-3.0, -1.5, 4.5, 0.0, 0.0, 0.0]


def test_whitening_sees_real_tokens_only():
    mask = masked([4, 2])
    x = random(*mask.shape) + 3
    real = x[mask]
    expected = (real - real.mean()) / real.std(unbiased=False)
    assert torch.allclose(ppo.whiten(x, mask)[mask], expected, atol=1e-6)
    unshifted = ppo.whiten(x, mask, shift=False)
    assert torch.allclose(unshifted[mask], expected + real.mean(), atol=1e-6) and not unshifted[~mask].any()


def test_estimators_of_kl_agree_on_average_and_k3_is_never_negative():
    policy, reference = torch.softmax(random(5), 0), torch.softmax(random(5), 0)
    exact = float((policy * (policy / reference).log()).sum())
    for estimator in ("k1", "k3"):
        each = ppo.kl_estimate(policy.log(), reference.log(), estimator)
        assert float((policy * each).sum()) == pytest.approx(exact)
    assert (ppo.kl_estimate(random(50), random(50), "k3") >= 0).all()


@pytest.mark.parametrize(
    "ratio, advantage, expected",
    [(1.0, 2.0, -2.0), (1.5, 2.0, -2.4), (0.5, 2.0, -1.0), (1.5, -2.0, 3.0), (0.5, -2.0, 1.6), (1.1, -2.0, 2.2)],
)
def test_the_ratio_is_clipped_only_where_that_makes_the_loss_worse(ratio, advantage, expected):
    found = ppo.policy_losses(torch.tensor(math.log(ratio)), torch.tensor(0.0), torch.tensor(advantage), 0.2)
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "value, old, target, clip, expected",
    [(1.0, 0.0, 2.0, 0.0, 0.5), (1.0, 0.0, 2.0, 0.2, 1.62), (0.1, 0.0, 2.0, 0.2, 1.805), (-1.0, 0.0, 2.0, 0.2, 4.5)],
)
def test_a_value_that_moves_too_far_is_charged_as_if_it_had_not(value, old, target, clip, expected):
    found = ppo.value_losses(*map(torch.tensor, (value, old, target)), clip)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_the_coefficient_follows_the_kl_within_bounds():
    assert ppo.adapted(0.1, 6.0, 6.0, 256, 10_000) == 0.1
    assert ppo.adapted(0.1, 6.6, 6.0, 256, 10_000) == pytest.approx(0.1 * (1 + 0.1 * 0.0256))
    assert ppo.adapted(0.1, 60.0, 6.0, 256, 10_000) == pytest.approx(0.1 * (1 + 0.2 * 0.0256))
    assert ppo.adapted(0.1, 0.0, 6.0, 256, 10_000) == pytest.approx(0.1 * (1 - 0.2 * 0.0256))


def test_every_prompt_is_read_once_in_a_pass(make_learner):
    learner = make_learner(prompts=[[i + 3] * 3 for i in range(10)])  # 8 prompts an update
    read = [i for number in range(5) for i in learner._prompts_of(number)]
    assert [sorted(read[at : at + 10]) for at in range(0, 40, 10)] == [list(range(10))] * 4
    assert read[:10] != read[10:20]
