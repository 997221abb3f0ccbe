"""Proximal policy optimization of a language model (Schulman et al. 2017, arXiv 1707.06347), top to bottom.

One update samples answers, scores them, and trains on them for a few passes. As in Ziegler et al. 2019 (arXiv
1909.08593) the reward of each token is minus its KL against the input policy, and the last one's also the answer's
score. An answer ends an episode, also when it was cut: then it pays for the missing end.

Shapes: B answers of up to T tokens each, the token that ends one included; masks are True on real tokens.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

from pipeline.errors import StageFailed
from stages.kernels import vllm
from stages.kernels.rollout import Answer, Sampling, rollout
from stages.rewards.combined import Parts, Reward, Row
from stages.rl.actor import Actor, Ids
from stages.rl.guards import repetition
from stages.rl.judges import as_judged
from stages.rl.rehearsal import Rehearsal
from stages.training import several

if TYPE_CHECKING:
    from stages.ppo import PpoConfig

Chunks = list[list[list[int]]]  # minibatches, each in passes, each of indices of answers


# -- the formulas -------------------------------------------------------------------------------------------------
def kl_estimate(log_probs: Tensor, reference: Tensor, estimator: str) -> Tensor:
    """KL(policy || reference) of each sampled token, (B, T) in nats, by Schulman's estimators k1 and k3 (2020,
    http://joschu.net/blog/kl-approx.html): both have the right mean over the policy's own samples."""
    ratio = reference - log_probs
    return -ratio if estimator == "k1" else ratio.exp() - 1 - ratio


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """(B, T): minus the weighted KL of each token, and the answer's score (B,) at its last one."""
    rewards = torch.where(mask, -kl_coef * kl, 0.0)
    rewards[torch.arange(len(scores)), mask.sum(dim=1) - 1] += scores
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns (B, T) by generalized advantage estimation (Schulman et al. 2015, arXiv 1506.02438):
    A_t = d_t + gamma lam A_(t+1) with d_t = r_t + gamma V_(t+1) - V_t, and V = 0 after the last token."""
    advantages = torch.zeros_like(rewards)
    following = ahead = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        ahead = torch.where(here, rewards[:, t] + gamma * following - values[:, t] + gamma * lam * ahead, 0.0)
        following = torch.where(here, values[:, t], 0.0)
        advantages[:, t] = ahead
    return advantages, torch.where(mask, advantages + values, 0.0)


def leave_one_out(scores: Tensor, samples: int) -> Tensor:
    """Scores (B,) less the mean of the other answers to the same prompt, `samples` neighbours each: a baseline that
    leaves the gradient's mean as it is (Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740)."""
    grouped = scores.view(-1, samples)
    return ((grouped * samples - grouped.sum(dim=1, keepdim=True)) / (samples - 1)).flatten()


def whiten(x: Tensor, mask: Tensor, *, shift: bool = True) -> Tensor:
    """x (B, T) with variance 1 over real tokens, and mean 0 if `shift`; 0 elsewhere."""
    real = x[mask]
    mean = real.mean()
    scaled = (x - mean) * torch.rsqrt(real.var(unbiased=False) + 1e-8)
    return torch.where(mask, scaled if shift else scaled + mean, 0.0)


def policy_losses(log_probs: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """-min(r A, clip(r, 1 - clip, 1 + clip) A) of each token with the ratio r of new to old probability, (B, T)."""
    ratio = (log_probs - old).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def value_losses(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error of each token, (B, T): the larger of the value's and of that moved at most `clip` from
    the old one. `clip` 0: the value's."""
    errors = (values - returns).square()
    if clip:
        errors = torch.maximum(errors, (old + (values - old).clamp(-clip, clip) - returns).square())
    return 0.5 * errors


def adapted(kl_coef: float, kl: float, target: float, answers: int, horizon: float) -> float:
    """The coefficient after `answers` answers with `kl` nats each (Ziegler et al. 2019, section 2.2)."""
    error = min(0.2, max(-0.2, kl / target - 1))
    return kl_coef * (1 + error * answers / horizon)


# -- one update ---------------------------------------------------------------------------------------------------
@dataclass
class Answers:
    """What the policy wrote to the prompts of one update."""

    rows: list[Row]
    prompts: list[Ids]
    ids: list[Ids]  # with the token that ended it
    texts: list[str]
    ended: list[bool]

    def mask(self, device: str) -> Tensor:
        """(B, T)"""
        lengths = torch.tensor(list(map(len, self.ids)), device=device)
        return torch.arange(int(lengths.max()), device=device) < lengths[:, None]


@dataclass
class Experience:
    """What is known of the answers before the policy is trained on them; (B, T) each, but the mask fixed."""

    answers: Answers
    mask: Tensor
    log_probs: Tensor
    values: Tensor
    kl: Tensor
    advantages: Tensor
    returns: Tensor


@dataclass
class Ppo:
    """The learner. Everything random depends on the seed and on the number of the update alone, so that a run that
    was killed goes on as if it had not been."""

    actor: Actor
    reward: Reward
    gold: Reward | None
    optimizer: torch.optim.Optimizer
    scheduler: Any
    config: "PpoConfig"
    rows: list[Row]
    prompts: list[Ids]
    micro_batch: int
    kl_coef: float
    rehearsal: Rehearsal | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"rollout": 0.0, "scoring": 0.0, "update": 0.0})
    sampled_tokens: int = 0

    def update(self, number: int) -> tuple[dict[str, float], Answers, Parts]:
        """Sample, score, train; returns what is logged of it."""
        chunks = self._chunks(number, 0)
        with self._timed("rollout"):
            answers = self._sample(number)
            self.sampled_tokens += sum(map(len, answers.ids))
        with self._timed("scoring"), torch.no_grad():
            parts = self._judge(self.reward, answers, learn=True)
            gold = self._judge(self.gold, answers, learn=False) if self.gold else None
            experience = self._experience(answers, parts.total, chunks)
        with self._timed("update"):
            learned = self._learn(experience, number, chunks)
        measured = self._measured(experience, parts, gold)
        self.scheduler.step()
        if (target := self.config.train.kl_target) > 0:
            horizon = self.config.train.kl_horizon
            self.kl_coef = adapted(self.kl_coef, measured["kl"], target, len(answers.ids), horizon)
        entry = {"update": float(number), **measured, **learned}
        if bad := [name for name, value in entry.items() if not math.isfinite(value)]:
            raise StageFailed(
                f"update {number}: {', '.join(bad)} became NaN or infinite; lower train.learning_rate or look at the "
                "reward"
            )
        self.history.append(entry)
        return entry, answers, parts

    # -- rollout --------------------------------------------------------------------------------------------------
    def _sample(self, number: int) -> Answers:
        asked, picked = self.config.rollout, self._prompts_of(number)
        sampling = Sampling(
            asked.max_new_tokens, asked.temperature, asked.top_k, asked.top_p, asked.samples,
            seed=seed_of(self.config.seed, number),
        )  # fmt: skip
        written = self._write(picked, sampling)
        order = [i for i in picked for _ in range(asked.samples)]
        decode = self.actor.roles.policy.tokenizer.decode
        return Answers(
            [self.rows[i] for i in order], [self.prompts[i] for i in order],
            [answer.ids if answer.end is None else [*answer.ids, answer.end] for answer in written],
            [decode(answer.ids, skip_special_tokens=True) for answer in written], [a.ended for a in written],
        )  # fmt: skip

    def _write(self, picked: list[int], sampling: Sampling) -> list[Answer]:
        """Each rank answers some of the prompts; what is drawn does not depend on which."""

        def write(numbers: Sequence[int]) -> list[list[Answer]]:
            prompts = [self.prompts[picked[number]] for number in numbers]
            found = rollout(self.actor.roles.policy, prompts, sampling, numbers=numbers)
            return [found[at : at + sampling.samples] for at in range(0, len(found), sampling.samples)]

        return [answer for answers in several.dealt(range(len(picked)), write) for answer in answers]

    def _prompts_of(self, number: int) -> list[int]:
        """The prompts of an update: the next ones of an endless sequence of shuffled passes."""
        each, count = prompts_per_update(self.config), len(self.prompts)
        places = [divmod(place, count) for place in range(number * each, (number + 1) * each)]
        passes = {turn: shuffled(count, self.config.seed, turn) for turn, _ in places}
        return [int(passes[turn][at]) for turn, at in places]

    # -- scoring --------------------------------------------------------------------------------------------------
    def _judge(self, reward: Reward, answers: Answers, learn: bool) -> Parts:
        """The reward of the answers."""
        ids = as_judged(answers.ids, answers.ended, self.actor.roles.policy.tokenizer.eos_token_id)
        return reward(answers.rows, answers.prompts, ids, answers.texts, answers.ended, learn)

    def _experience(self, answers: Answers, scores: Tensor, chunks: Chunks) -> Experience:
        """Log-probabilities are those of the passes that the first minibatches will make, so that ratios begin at 1."""
        train, device = self.config.train, self.actor.roles.policy.device
        mask = answers.mask(device)
        log_probs, values, reference = (torch.zeros(mask.shape, device=device) for _ in range(3))
        for rows in (rows for minibatch in chunks for rows in self._mine(minibatch)):
            prompts, ids = [answers.prompts[i] for i in rows], [answers.ids[i] for i in rows]
            seen, before = self.actor.see(prompts, ids), self.actor.see_as("reference", prompts, ids)
            width = seen.log_probs.shape[1]
            for into, found in ((log_probs, seen.log_probs), (values, seen.values), (reference, before.log_probs)):
                into[rows, :width] = found.to(into.dtype)
        several.add_up(log_probs, values, reference)
        kl = torch.where(mask, kl_estimate(log_probs, reference, train.kl_estimator), 0.0)
        cut = torch.tensor([not ended for ended in answers.ended], device=device)
        scores = scores.to(device) - train.missing_eos_penalty * cut
        if train.baseline == "prompt":
            scores = leave_one_out(scores, self.config.rollout.samples)
        rewards = token_rewards(scores, kl, mask, self.kl_coef)
        if train.whiten_rewards:
            rewards = whiten(rewards, mask, shift=False)
        advantages, returns = gae(rewards, values, mask, train.gamma, train.lam)
        if train.whiten_advantages:
            advantages = whiten(advantages, mask)
        return Experience(answers, mask, log_probs, values, kl, advantages, returns)

    # -- training -------------------------------------------------------------------------------------------------
    def _chunks(self, number: int, epoch: int) -> Chunks:
        """Minibatches of an epoch, each in passes of at most `micro_batch` answers."""
        size, train = self.config.batch_size, self.config.train
        order = shuffled(size * train.minibatches, self.config.seed, number, epoch).tolist()
        minibatches = [order[at : at + size] for at in range(0, len(order), size)]
        return [[m[at : at + self.micro_batch] for at in range(0, size, self.micro_batch)] for m in minibatches]

    def _mine(self, passes: list[list[int]]) -> list[list[int]]:
        """Those of a minibatch that this rank makes, always the same ones."""
        rank, ranks = several.place()
        return passes[rank::ranks]

    def _learn(self, experience: Experience, number: int, chunks: Chunks) -> dict[str, float]:
        """Some epochs of minibatches; ends early when the policy has moved too far from the one that wrote."""
        totals: list[dict[str, float]] = []
        for epoch in range(self.config.train.num_ppo_epochs):
            for minibatch in chunks if epoch == 0 else self._chunks(number, epoch):
                totals.append(self._step(experience, minibatch, (number, len(totals))))
                if 0 < self.config.train.stop_kl < totals[-1]["moved"]:
                    break
            else:
                continue
            break
        mean = {key: sum(total[key] for total in totals) / len(totals) for key in totals[0]}
        return {
            **mean, "first_ratio_error": totals[0]["ratio_error"], "optimizer_steps": float(len(totals)),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }  # fmt: skip

    def _step(self, experience: Experience, minibatch: list[list[int]], place: tuple[int, int]) -> dict[str, float]:
        """One optimizer step on the mean over all real tokens of the minibatch. `place`: the update, and its step."""
        tokens = int(experience.mask[[i for rows in minibatch for i in rows]].sum())
        self.optimizer.zero_grad(set_to_none=True)
        found: dict[str, float] = {}
        for rows in self._mine(minibatch):
            loss, part = self.loss(experience, rows)
            (loss / tokens).backward()
            found = {key: found.get(key, 0.0) + value / tokens for key, value in part.items()}
        if self.rehearsal:
            found["rehearsal_loss"] = self._rehearse(self.rehearsal, place)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        several.add_up(*(p.grad for p in trained if p.grad is not None))
        found = {key: sum(part[key] for part in several.of_all(found)) for key in found}
        limit = self.config.train.max_grad_norm or math.inf
        found["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(trained, limit))
        self.optimizer.step()
        return found

    def _rehearse(self, rehearsal: Rehearsal, place: tuple[int, int]) -> float:
        """Add the gradient of the rehearsed rows of this step; their mean loss, in nats a token."""
        total = 0.0
        for part in rehearsal.losses(self.actor, rehearsal.drawn(*place), self.micro_batch, several.place()):
            part.backward()
            total += float(part.detach())
        return total / rehearsal.coef

    def loss(self, experience: Experience, rows: Sequence[int]) -> tuple[Tensor, dict[str, float]]:
        """Policy, value and entropy terms summed over the real tokens of these answers, and what is logged of them."""
        train, answers, at = self.config.train, experience.answers, list(rows)
        seen = self.actor.see(
            [answers.prompts[i] for i in at], [answers.ids[i] for i in at], entropy_gradient=train.entropy_coef > 0
        )
        width = seen.log_probs.shape[1]
        mask, old, old_values, advantages, returns = (
            x[at, :width]
            for x in (experience.mask, experience.log_probs, experience.values, experience.advantages,
                      experience.returns)
        )  # fmt: skip
        of_policy = policy_losses(seen.log_probs, old, advantages, train.clip_range)[mask].sum()
        of_value = value_losses(seen.values, old_values, returns, train.value_clip_range)[mask].sum()
        entropy = seen.entropy[mask].sum()
        loss = of_policy + train.value_coef * of_value - train.entropy_coef * entropy
        with torch.no_grad():
            change = (seen.log_probs - old)[mask]
            ratio = change.exp()
            part = {
                "policy_loss": of_policy, "value_loss": of_value, "entropy": entropy, "ratio": ratio.sum(),
                "ratio_error": (ratio - 1).abs().sum(),
                "clip_share": ((ratio - 1).abs() > train.clip_range).float().sum(),
                "moved": kl_estimate(change.neg(), torch.zeros_like(change), "k3").sum(),
            }  # fmt: skip
        return loss, {key: float(value.detach()) for key, value in part.items()}

    # -- what is logged -------------------------------------------------------------------------------------------
    def _measured(self, experience: Experience, parts: Parts, gold: Parts | None) -> dict[str, float]:
        """Of the answers as they were sampled. `kl` in nats of an answer, by the estimator of the config."""
        answers, mask = experience.answers, experience.mask
        returns, values = experience.returns[mask], experience.values[mask]
        spread, left = (float(x.var(unbiased=False)) for x in (returns, returns - values))
        return {
            **parts.means(),
            **vllm.measured(self.actor.roles.policy),
            **({f"gold{name.removeprefix('reward')}": value for name, value in gold.means().items()} if gold else {}),
            "kl": float(experience.kl.sum(dim=1).mean()),
            "kl_token": float(experience.kl[mask].mean()),
            "kl_coef": self.kl_coef,
            "explained_variance": 1 - left / spread if spread > 1e-8 else 0.0,
            "response_length": float(mask.sum(dim=1).float().mean()),
            "eos_share": sum(answers.ended) / len(answers.ended),
            "repetition": sum(map(repetition, answers.ids)) / len(answers.ids),
        }

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        """The seconds of the body are added to `what`."""
        began = time.perf_counter()
        yield
        if self.actor.roles.policy.device == "cuda":
            torch.cuda.synchronize()
        self.seconds[what] += time.perf_counter() - began


def prompts_per_update(config: "PpoConfig") -> int:
    return config.batch_size * config.train.minibatches // config.rollout.samples


def updates(config: "PpoConfig", prompts: int) -> int:
    """How many updates the passes over so many prompts make."""
    if config.train.max_steps > 0:
        return config.train.max_steps
    return max(1, math.ceil(config.train.num_train_epochs * prompts / prompts_per_update(config)))


def shuffled(count: int, *seed: int) -> numpy.ndarray:
    """0..count - 1 in an order that depends on the numbers in `seed` alone."""
    return numpy.random.default_rng(seed).permutation(count)


def seed_of(*numbers: int) -> int:
    return int(numpy.random.SeedSequence(numbers).generate_state(1)[0])


def trained_parameters(actor: Actor) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Names and parameters of the adapters that are trained and of the value head, always in the same order."""
    yield from ((name, p) for name, p in actor.roles.model.named_parameters() if p.requires_grad)
    yield from ((f"value_head.{name}", p) for name, p in actor.value_head.named_parameters())
