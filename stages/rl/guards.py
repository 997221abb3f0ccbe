"""Alarms over what a run of reinforcement learning has logged: over-optimisation, negative KL, and collapse.

All functions read the history, a list with one mapping for each update:

| key | |
|---|---|
| reward | mean reward that the policy was trained on: the proxy |
| gold | mean of what it should stand for; may be absent, or there in some updates only |
| kl | mean KL of an answer from the input policy, nats |
| entropy | mean entropy of the next token, nats |
| response_length | mean tokens of an answer |
| eos_share | share of answers that ended by themselves |
| repetition | mean `repetition` of the answers |
| reward_spread | standard deviation of the reward within the update's answers; may be absent |
| engine_gap | mean difference of vLLM's log-probabilities from the policy's, nats a token; absent without vLLM |

They compare means over a few updates, never two single ones, and say nothing of a run that is too short to judge.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import ConfigError

History = Sequence[dict[str, Any]]
NO_LIMIT = 0.9  # autocorrelation above which a series says nothing of its trend


@dataclass
class Guards:
    """When an alarm is raised. Each alarm needs a history of at least two windows."""

    window: int = 5  # updates whose mean stands for the start and for the end of a run
    trend: float = 3.0  # standard errors by which a reward must rise, or a gold score fall, to count as doing so
    negative_kl: float = 0.01  # nats below 0 of the mean KL, when it was negative throughout the last two windows
    length_factor: float = 3.0  # answers that many times as long, or as short, as at the start
    eos_share: float = 0.5  # of answers that still end by themselves
    repetition: float = 0.3  # share of repeated n-grams, where it was at most two thirds of that at the start
    entropy: float = 0.2  # of the entropy at the start
    spread: float = 0.1  # of the spread of rewards at the start
    engine_gap: float = 0.15  # nats a token that vLLM's log-probabilities may differ from the policy's at the end

    def check(self, where: str = "guards") -> None:
        """ConfigError for a threshold that would always or never raise its alarm."""
        if self.window < 2:
            raise ConfigError(f"{where}.window={self.window}: a mean over updates needs 2 or more")
        for name in ("trend", "negative_kl", "entropy", "spread", "engine_gap"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{where}.{name}={getattr(self, name)}: give a positive number")
        for name in ("eos_share", "repetition", "entropy", "spread"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{where}.{name}={getattr(self, name)}: it is a share, 0 or more and below 1")
        if not self.length_factor > 1:
            raise ConfigError(f"{where}.length_factor={self.length_factor}: it must be above 1")


@dataclass(frozen=True)
class Alarm:
    """What went wrong and what to change; `asdict` of it is an entry of the manifest's `alarms`."""

    name: str
    detail: str
    update: int | None = None  # where it began, counted from 1
    kl: float | None = None  # nats at that update


def alarms(history: History, guards: Guards) -> list[Alarm]:
    """Every alarm that the whole history gives reason for, each at most once."""
    if len(history) < 2 * guards.window:
        return []
    found = [guard(history, guards) for guard in (over_optimised, negative_kl, engine_gap, *COLLAPSES)]
    return [alarm for alarm in found if alarm is not None]


def over_optimised(history: History, guards: Guards) -> Alarm | None:
    """The reward rises on while gold falls from its peak (Gao et al. 2022, arXiv 2210.10760)."""
    rows = [(i, row) for i, row in enumerate(history, 1) if row.get("gold") is not None]
    if len(rows) < 2 * guards.window:
        return None
    gold, reward, kl = (smooth([row[key] for _, row in rows], guards.window) for key in ("gold", "reward", "kl"))
    turn = int(np.argmax(gold))
    after = [row for _, row in rows[turn + 1 :]]
    if trend([r["gold"] for r in after]) > -guards.trend or trend([r["reward"] for r in after]) < guards.trend:
        return None
    return Alarm(
        "over_optimised",
        f"the gold score peaked at update {rows[turn][0]}, at a KL of {kl[turn]:.3g} nats, and fell from "
        f"{gold[turn]:.3g} to {gold[-1]:.3g} since, while the reward rose from {reward[turn]:.3g} to {reward[-1]:.3g}: "
        f"keep the KL below {kl[turn]:.3g} (raise train.kl_coef, or set train.kl_target), stop at that update with "
        "train.max_steps, or train the reward model on new answers",
        rows[turn][0], float(kl[turn]),
    )  # fmt: skip


def negative_kl(history: History, guards: Guards) -> Alarm | None:
    """A true KL is never negative; an estimate that stays so says that sampled and scored distributions differ."""
    last = [row["kl"] for row in history[-2 * guards.window :]]
    mean = sum(last) / len(last)
    if max(last) >= 0 or mean > -guards.negative_kl:
        return None
    return Alarm(
        "negative_kl",
        f"the KL was negative in each of the last {len(last)} updates, {mean:.3g} nats on average: answers are not "
        "drawn from the policy that scores them; sample without top_k and top_p, with dropout "
        "off, and look at the masks at EOS",
        len(history) - len(last) + 1, mean,
    )  # fmt: skip


def engine_gap(history: History, guards: Guards) -> Alarm | None:
    """Answers are drawn by vLLM from nearly the policy that is trained; what is left apart grows with what is wrong."""
    found = [row["engine_gap"] for row in history[-guards.window :] if "engine_gap" in row]
    if not found or sum(found) / len(found) <= guards.engine_gap:
        return None
    return Alarm(
        "engine_gap",
        f"vLLM's log-probabilities differ from the policy's by {sum(found) / len(found):.3g} nats a token in the last "
        f"{len(found)} updates, more than rounding explains: answers are drawn from another policy than the one that "
        "is trained; use engine=own",
    )


def length(history: History, guards: Guards) -> Alarm | None:
    start, end = ends(history, "response_length", guards.window)
    if end > guards.length_factor * start:
        return Alarm(
            "length_explosion",
            f"answers grew from {start:.0f} to {end:.0f} tokens: the reward may pay for length; look at its "
            "correlation with length, add a term of kind `length`, or raise train.kl_coef",
        )
    if end * guards.length_factor < start:
        return Alarm(
            "length_collapse",
            f"answers shrank from {start:.0f} to {end:.0f} tokens: a penalty on length or for missing EOS may outweigh "
            "the rest; lower its weight, or raise train.kl_coef",
        )
    return None


def eos(history: History, guards: Guards) -> Alarm | None:
    start, end = ends(history, "eos_share", guards.window)
    if end >= guards.eos_share:
        return None
    return Alarm(
        "eos_collapse",
        f"only {100 * end:.0f} % of the answers end by themselves ({100 * start:.0f} % at the start): raise "
        "train.missing_eos_penalty, or max_new_tokens if they were cut off from the start",
    )


def repeated(history: History, guards: Guards) -> Alarm | None:
    start, end = ends(history, "repetition", guards.window)
    if end <= max(guards.repetition, 1.5 * start):
        return None
    return Alarm(
        "repetition",
        f"{100 * end:.0f} % of an answer's n-grams were there before ({100 * start:.0f} % at the start): the reward "
        "does not see repetition; raise train.kl_coef, lower train.learning_rate, or add a term that punishes it",
    )


def entropy(history: History, guards: Guards) -> Alarm | None:
    start, end = ends(history, "entropy", guards.window)
    if end >= guards.entropy * start:
        return None
    return Alarm(
        "entropy_collapse",
        f"entropy fell from {start:.3g} to {end:.3g} nats a token, so little is left to explore: raise "
        "train.entropy_coef or train.kl_coef, or lower train.learning_rate",
    )


def spread(history: History, guards: Guards) -> Alarm | None:
    if any(row.get("reward_spread") is None for row in history):
        return None
    start, end = ends(history, "reward_spread", guards.window)
    if end > guards.spread * start:
        return None
    return Alarm(
        "reward_spread",
        f"the rewards of an update's answers differ by {end:.3g} (standard deviation; {start:.3g} at the start), so "
        "nothing says which is better: take out the clip, use harder prompts, or a reward that is not yet saturated",
    )


COLLAPSES: tuple[Callable[[History, Guards], Alarm | None], ...] = (length, eos, repeated, entropy, spread)


def ends(history: History, key: str, window: int) -> tuple[float, float]:
    """Means over the first and over the last `window` updates."""
    values = [row[key] for row in history]
    return float(np.mean(values[:window])), float(np.mean(values[-window:]))


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Centred means over `window` values, of fewer at the ends; as long as `values`."""
    half, sums = window // 2, np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=float))])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def trend(values: Sequence[float]) -> float:
    """Mann-Kendall's z: standard errors by which the pairs that rise outnumber those that fall; 0 for under 4 values.

    Its variance is widened for what neighbours share, measured on the residuals of a parabola (Yue and Wang 2004,
    Water Resources Management 18), since the scores of successive policies are not independent.
    """
    count = len(values)
    if count < 4:
        return 0.0
    series, at = np.asarray(values, dtype=float), np.arange(count)
    rises = float(np.sign(series[None, :] - series[:, None])[np.triu_indices(count, 1)].sum())
    rest = series - np.polyval(np.polyfit(at, series, 2), at)
    power = float(rest @ rest)
    shared = (
        min(NO_LIMIT, max(0.0, float(rest[1:] @ rest[:-1]) / power)) if power > 1e-18 * float(series @ series) else 0.0
    )
    variance = count * (count - 1) * (2 * count + 5) / 18 * (1 + shared) / (1 - shared)
    return (rises - np.sign(rises)) / math.sqrt(variance)


def repetition(ids: list[int], n: int = 3) -> float:
    """Share of the n-grams of an answer that occurred before in it; 0 for an answer of fewer than n + 1 tokens."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
