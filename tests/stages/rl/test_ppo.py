"""PPO as a whole: against a second one written as plainly as can be, finite differences, and a known optimum."""

import copy
import math

import numpy
import pytest
import torch
from kernel_toys import ids

from pipeline.errors import StageFailed
from stages.rl.ppo import trained_parameters


def parameters(learner):
    return {name: p.detach().clone() for name, p in trained_parameters(learner.actor)}


# -- the second implementation ------------------------------------------------------------------------------------
def reference_update(learner, plain, optimizer, batch, number, kl_coef):
    """One update on the answers in `batch`, an answer at a time; every number by its definition."""
    train, size = learner.config.train, learner.config.batch_size
    old = []
    with torch.no_grad():
        for prompt, answer, ended, score in batch:
            now, before = plain(learner, prompt, answer), plain(learner, prompt, answer, "reference")
            rewards = [-kl_coef * float(k) for k in now.log_probs - before.log_probs]
            rewards[-1] += score - (0.0 if ended else train.missing_eos_penalty)
            values = [*now.values.tolist(), 0.0]
            deltas = [r + train.gamma * values[t + 1] - values[t] for t, r in enumerate(rewards)]
            decay = train.gamma * train.lam
            advantages = [sum(decay ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))]
            returns = [a + v for a, v in zip(advantages, values, strict=False)]
            old.append((now.log_probs, values[:-1], advantages, returns))
    every = torch.tensor([a for _, _, advantages, _ in old for a in advantages])
    mean, std = every.mean(), every.var(unbiased=False).add(1e-8).sqrt()
    for epoch in range(train.num_ppo_epochs):
        order = numpy.random.default_rng((learner.config.seed, number, epoch)).permutation(len(batch))
        for at in range(0, len(batch), size):
            chosen = order[at : at + size]
            losses, tokens = [], 0
            for i in chosen:
                log_probs, values, advantages, returns = old[i]
                now = plain(learner, batch[i][0], batch[i][1])
                for t in range(len(advantages)):
                    advantage = (advantages[t] - mean) / std
                    ratio = (now.log_probs[t] - log_probs[t]).exp()
                    low, high = 1 - train.clip_range, 1 + train.clip_range
                    policy = -min(ratio * advantage, ratio.clamp(low, high) * advantage)
                    change, clip = float(now.values[t].detach()) - values[t], train.value_clip_range
                    free = (now.values[t] - returns[t]) ** 2
                    held = (values[t] + math.copysign(clip, change) - returns[t]) ** 2  # no gradient: it does not move
                    value = 0.5 * (held if abs(change) > clip and held > float(free.detach()) else free)
                    losses.append(policy + train.value_coef * value - train.entropy_coef * now.entropy[t])
                    tokens += 1
            optimizer.zero_grad()
            (sum(losses) / tokens).backward()
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, train.max_grad_norm)
            optimizer.step()


@pytest.mark.parametrize("value_adapter", [False, True])
@pytest.mark.parametrize("fast", [True, False])
def test_three_updates_equal_those_of_a_plain_implementation(make_learner, plain, fast, value_adapter):
    settings = {"entropy_coef": 0.02, "lam": 0.9, "gamma": 0.97, "value_adapter": value_adapter, "learning_rate": 2e-3}
    learner = make_learner(lambda answer, _: answer[0] % 5, fast=fast, **settings)
    second = make_learner(fast=False, **settings)
    start = parameters(second)
    optimizer = torch.optim.AdamW([p for _, p in trained_parameters(second.actor)], lr=2e-3, weight_decay=0.0, eps=1e-5)
    for number in range(3):
        _, answers, parts = learner.update(number)
        batch = list(zip(answers.prompts, answers.ids, answers.ended, parts.total.tolist(), strict=True))
        reference_update(second, _with_value_role(plain, value_adapter), optimizer, batch, number, 0.05)
    ours, theirs = parameters(learner), parameters(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5), name
    assert max(float((theirs[name] - start[name]).abs().max()) for name in theirs) > 1e-2


def _with_value_role(plain, value_adapter):
    """Values come from the adapter of their own, if there is one."""

    def see(learner, prompt, answer, role="policy"):
        found = plain(learner, prompt, answer, role)
        if value_adapter:
            found.values = plain(learner, prompt, answer, "value").values
        return found

    return see


# -- exactness ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("micro_batch", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ratio_is_1_and_kl_0_before_the_first_step(make_learner, dtype, micro_batch):
    learner = make_learner(dtype=dtype, micro_batch=micro_batch, rollout={"samples": 2})
    entry, _, _ = learner.update(0)
    assert entry["kl"] == 0.0 and entry["first_ratio_error"] == 0.0
    entry, _, _ = learner.update(1)
    assert entry["kl"] != 0.0 and entry["first_ratio_error"] == 0.0 and entry["ratio_error"] > 0


@pytest.mark.parametrize("value_clip", [0.0, 0.2])
def test_the_gradient_of_the_whole_loss_is_that_of_finite_differences(make_learner, value_clip, monkeypatch):
    """In float64, along random directions through all that is trained."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def norm(self, x):  # the library's goes through float32
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", norm)
    learner = make_learner(
        lambda answer, _: answer[0] % 3, fast=False, dtype=torch.float64, entropy_coef=0.05, clip_range=0.5,
        value_clip_range=value_clip,
    )  # fmt: skip
    chunks = learner._chunks(0, 0)
    answers = learner._sample(0)
    with torch.no_grad():
        parts = learner._judge(learner.reward, answers, True)
        experience = learner._experience(answers, parts.total, chunks)
    for name in ("log_probs", "values", "kl", "advantages", "returns"):
        setattr(experience, name, getattr(experience, name).double())
    torch.manual_seed(1)
    trained = [p for _, p in trained_parameters(learner.actor)]
    for parameter in trained:  # away from the start, where nothing is clipped and half the adapter has no gradient
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    rows = list(range(8))
    loss, _ = learner.loss(experience, rows)
    gradients = torch.autograd.grad(loss, trained)
    for _ in range(4):
        direction = [torch.randn_like(p) for p in trained]
        along = float(sum((g * d).sum() for g, d in zip(gradients, direction, strict=True)))
        step, sides = 1e-6, []
        for sign in (1, -2):
            for parameter, d in zip(trained, direction, strict=True):
                parameter.data.add_(d, alpha=sign * step)
            with torch.no_grad():
                sides.append(float(learner.loss(experience, rows)[0]))
        for parameter, d in zip(trained, direction, strict=True):
            parameter.data.add_(d, alpha=step)
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(along, rel=1e-5, abs=1e-7)


def test_passes_of_any_size_give_the_same_update(make_learner):
    found = []
    for micro_batch in (1, 2, 4):
        learner = make_learner(lambda answer, _: answer[-1] % 2, micro_batch=micro_batch)
        for number in range(2):
            learner.update(number)
        found.append(parameters(learner))
    for other in found[1:]:
        for name in other:
            assert torch.allclose(found[0][name], other[name], atol=1e-5), name


# -- behaviour ----------------------------------------------------------------------------------------------------
def test_an_answer_that_was_cut_pays_for_its_missing_end(make_learner):
    learner = make_learner(
        lambda answer, _: 0.0, missing_eos_penalty=2.0, lam=1.0, whiten_advantages=False, kl_coef=0.0
    )
    answers = learner._sample(0)
    answers.ended = [i % 2 == 0 for i in range(len(answers.ids))]
    with torch.no_grad():
        experience = learner._experience(answers, torch.zeros(8), learner._chunks(0, 0))
    expected = [0.0 if ended else -2.0 for ended in answers.ended]
    assert experience.returns[:, 0].tolist() == pytest.approx(expected)


def test_a_reward_model_reads_eos_where_an_answer_ended(make_learner):
    learner = make_learner()
    answers = learner._sample(0)
    other_end, eos = 7, learner.actor.roles.policy.tokenizer.eos_token_id
    answers.ids, answers.ended = [[5, 6, other_end]] * 8, [True] * 4 + [False] * 4
    learner._judge(learner.reward, answers, True)
    assert learner.reward.seen[-1] == [[5, 6, eos]] * 4 + [[5, 6, other_end]] * 4


def test_an_update_ends_when_the_policy_has_moved_far_enough(make_learner):
    moved = [
        make_learner(lambda answer, _: answer[0] % 2, stop_kl=limit, num_ppo_epochs=4, learning_rate=0.05).update(0)[0]
        for limit in (0.0, 1e-4)
    ]
    assert moved[0]["optimizer_steps"] == 8 and moved[1]["optimizer_steps"] < 8


def test_a_target_raises_the_coefficient_while_kl_is_above_it(make_learner):
    learner = make_learner(lambda answer, _: answer[0] % 2, kl_target=1e-6, kl_horizon=10, learning_rate=0.05)
    for number in range(3):
        learner.update(number)
    assert learner.history[0]["kl_coef"] == 0.05
    assert learner.history[2]["kl_coef"] > learner.history[1]["kl_coef"]


def test_a_reward_that_is_no_number_stops_the_run(make_learner):
    with pytest.raises(StageFailed, match=r"update 0: .*reward.* became NaN or infinite"):
        make_learner(lambda answer, _: math.nan).update(0)


def test_what_is_logged_is_what_was_sampled(make_learner):
    learner = make_learner(lambda answer, _: len(answer))
    entry, answers, _ = learner.update(0)
    assert entry["response_length"] == pytest.approx(sum(map(len, answers.ids)) / 8) == pytest.approx(entry["reward"])
    assert entry["eos_share"] == sum(answers.ended) / 8 and entry["optimizer_steps"] == 4
    assert (
        0 <= entry["clip_share"] <= 1 and entry["entropy"] > 0 and learner.sampled_tokens == sum(map(len, answers.ids))
    )
    assert all(value > 0 for value in learner.seconds.values())


# -- a known optimum ----------------------------------------------------------------------------------------------
def right(token, prompt):
    """A tenth of the vocabulary, another one after each prompt."""
    return token % 10 == sum(prompt) % 10


def chance_of_right(learner):
    """The expected reward of the policy, exactly: answers have one token, so it is a sum over the vocabulary."""
    found, model = [], learner.actor.roles.policy.model
    for prompt in learner.prompts:
        with torch.no_grad():
            p = torch.softmax(model(torch.tensor([prompt])).logits[0, -1].double(), -1)
        found.append(float(p[[right(token, prompt) for token in range(len(p))]].sum()))
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", range(10))
def test_every_one_of_ten_seeds_reaches_a_known_optimum(make_learner, seed):
    """The optimum is 1."""
    learner = make_learner(
        lambda answer, prompt: right(answer[0], prompt), seed=seed, prompts=[ids(i, 6) for i in range(4)],
        rollout={"max_new_tokens": 1}, batch_size=32, micro_batch=32, num_ppo_epochs=4, kl_coef=0.0,
        missing_eos_penalty=0.0, learning_rate=3e-3, large=20,
    )  # fmt: skip
    assert chance_of_right(learner) < 0.2
    for number in range(24):
        learner.update(number)
    assert chance_of_right(learner) >= 0.95


def test_nothing_random_depends_on_what_ran_before(make_learner):
    """An update begins from its number, the seed and the state of the learner: so a run can go on from a checkpoint."""
    one, other = make_learner(lambda a, _: a[0] % 2), make_learner(lambda a, _: a[0] % 2)
    one.update(0)
    torch.manual_seed(99)
    numpy.random.seed(7)
    other.update(0)
    assert all(torch.equal(a, b) for a, b in zip(parameters(one).values(), parameters(other).values(), strict=True))
    assert copy.deepcopy(one.history) == other.history
