"""The reward of an answer: a weighted sum of reward models and rules, and bounds that some of them must keep.

    reward:
      weights: {helpful: 1.0, concise: 0.1}
      terms:
        helpful: {kind: model, input: reward}
        concise: {kind: length, target: 40}
        polite: {kind: ban, words: [stupid], at_least: -0.05}

A term with `at_least: b` is a constraint: maximise the rest subject to mean(term) >= b, by one Lagrange multiplier for
each such term (for language models: Dai et al. 2023, Safe RLHF, arXiv 2310.12773; Moskovitz et al. 2023, arXiv
2310.04373). With weights w, multipliers m >= 0 and constrained terms c an answer's reward is

    (sum w_i term_i + sum m_c (term_c - b_c)) / (1 + sum m_c)

divided as in Safe RLHF, so that a growing multiplier does not outgrow the KL penalty and the value function. After each
batch m_c <- max(0, m_c + multiplier_lr (b_c - mean term_c)): up while the bound is broken, down to 0 while it is kept.
Nothing here imports torch before the first answer is scored.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, DataError, StageFailed
from stages.evaluation import own_checks
from stages.evaluation.measurement import Row, read_params
from stages.rewards.terms import TERMS, Term, check_kind, make

if TYPE_CHECKING:
    from torch import Tensor

# (rows, prompts as ids, answers as ids with EOS where they ended) -> float tensor (N,)
ScoreFn = Callable[[list[Row], list[list[int]], list[list[int]]], "Tensor"]
MODEL = "model"
MULTIPLIERS = ("multiplier_lr", "multiplier_start")


@dataclass(frozen=True)
class Model:
    """A reward model: the artifact of the stage that the reading stage's `inputs` gives this role."""

    input: str = "reward"


@dataclass(frozen=True)
class Settings:
    """The keys of `reward`."""

    terms: dict = field(default_factory=dict)  # name -> {kind, its keys, at_least}
    weights: dict = field(default_factory=dict)  # name -> number; 1 for a term that is not named, 0 for a constraint
    clip: float = 0.0  # an answer's reward is kept within -clip..clip; 0 = as it is
    multiplier_lr: float = 0.1  # step of a multiplier for each unit by which its bound is broken
    multiplier_start: float = 0.0
    rerender: bool = False  # reward models on another base are loaded beside it, and read the text in their own way


@dataclass
class Parts:
    """What one batch of N answers earned. All tensors float32 on the CPU."""

    total: "Tensor"  # (N,), what the policy is trained on
    parts: dict[str, "Tensor"]  # name -> (N,), each term by itself, without weight
    multipliers: dict[str, float]  # constrained term -> the multiplier that `total` was made with

    def means(self) -> dict[str, float]:
        """What is logged for the batch: `reward` and the standard deviation around it, `reward_spread`; then
        `reward/NAME` for each term and `multiplier/NAME` for each bound."""
        terms = {f"reward/{name}": float(part.mean()) for name, part in self.parts.items()}
        bounds = {f"multiplier/{name}": value for name, value in self.multipliers.items()}
        spread = float(self.total.std(correction=0))
        return {"reward": float(self.total.mean()), "reward_spread": spread, **terms, **bounds}


@dataclass(frozen=True)
class Plan:
    """A checked `reward` mapping."""

    settings: Settings
    terms: dict[str, Term | Model]
    weights: dict[str, float]
    bounds: dict[str, float]  # constrained term -> what its mean must reach

    @property
    def models(self) -> dict[str, str]:
        """Model term -> role in the stage's `inputs`."""
        return {name: term.input for name, term in self.terms.items() if isinstance(term, Model)}


def check(config: Mapping[str, Any], inputs: Mapping[str, str], where: str = "reward") -> None:
    """ConfigError for a `reward` that cannot work. `inputs`: the stage's own, role -> stage."""
    for name, role in read(config, where).models.items():
        if role not in inputs:
            raise ConfigError(
                f"{where}.terms.{name}.input={role}: the stage has no such input (it has: "
                f"{', '.join(inputs) or 'none'}); add `inputs: {{{role}: STAGE}}` with a stage of kind reward"
            )


def check_measured(config: Mapping[str, Any], where: str) -> None:
    """ConfigError for a bound, or a setting of its multiplier, in what is only measured: nothing would enforce it."""
    for name in read(config, where).bounds:
        raise ConfigError(
            f"{where}.terms.{name}.at_least: a bound is kept by what is trained on it, and this is only measured; take "
            "it out"
        )


def fingerprints(*rewards: Mapping[str, Any]) -> dict[str, str]:
    """What rewards depend on beside their config: the packages that bring checks, where a term checks answers."""
    terms = [term for reward in rewards if isinstance(found := reward.get("terms"), Mapping) for term in found.values()]
    checked = any(isinstance(term, Mapping) and term.get("kind") == "checker" for term in terms)
    return own_checks.versions() if checked else {}


def read(config: Mapping[str, Any], where: str = "reward") -> Plan:
    """The mapping as a plan; ConfigError names the key that is wrong."""
    settings = read_params(Settings, dict(config), where)
    for name in ("clip", "multiplier_lr", "multiplier_start"):
        if not 0 <= getattr(settings, name) < math.inf:
            raise ConfigError(f"{where}.{name}={getattr(settings, name)}: give 0 or a positive number")
    if not settings.terms:
        raise ConfigError(f"{where}.terms: name at least one term, as in `terms: {{helpful: {{kind: model}}}}`")
    terms = {name: _term(f"{where}.terms.{name}", given) for name, given in settings.terms.items()}
    bounds = {name: _number(f"{where}.terms.{name}.at_least", given["at_least"])
              for name, given in settings.terms.items() if "at_least" in given}  # fmt: skip
    plan = Plan(settings, terms, _weights(settings, bounds, where), bounds)
    for name in MULTIPLIERS:
        if name in config and not bounds:
            raise ConfigError(f"{where}.{name}: no term has a bound (`at_least`) that it would enforce; take it out")
    if bounds and not settings.multiplier_lr:
        raise ConfigError(f"{where}.multiplier_lr=0: the bound of {', '.join(bounds)} would never be enforced")
    if not bounds and not any(plan.weights.values()):
        raise ConfigError(f"{where}.weights: all are 0, so there is nothing to learn; give one term a weight")
    return plan


def _term(where: str, given: Any) -> Term | Model:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}={given!r}: expected a mapping with `kind`")
    if "weight" in given:
        raise ConfigError(f"{where}.weight: say `weights: {{{where.rpartition('.')[2]}: ...}}` beside `terms`")
    check_kind(where, given.get("kind"), (MODEL, *TERMS))
    own = {key: value for key, value in given.items() if key != "at_least"}
    if own.pop("kind") == MODEL:
        return read_params(Model, own, where)
    return make(where, {**own, "kind": given["kind"]})


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}={value!r}: expected a finite number")
    return float(value)


def _weights(settings: Settings, bounds: Mapping[str, float], where: str) -> dict[str, float]:
    """A weight for each term. ConfigError for a weight of nothing."""
    for name in settings.weights:
        if name not in settings.terms:
            near = get_close_matches(name, settings.terms, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(settings.terms)}"
            raise ConfigError(f"{where}.weights.{name}: no such term; {hint}")
    given = {name: _number(f"{where}.weights.{name}", value) for name, value in settings.weights.items()}
    return {name: given.get(name, 0.0 if name in bounds else 1.0) for name in settings.terms}


def check_rows(plan: Plan, rows: Iterable[Row]) -> None:
    """DataError for a row of which some rule cannot score answers."""
    rules = {name: term for name, term in plan.terms.items() if isinstance(term, Term)}
    for row in rows:
        for name, term in rules.items():
            if found := term.row_problem(row):
                raise DataError(f"reward term {name}: row {row.get('id', '?')}: {found}")


class Reward:
    """Scores answers as `reward` says. `models`: model term -> its score function."""

    def __init__(self, config: Mapping[str, Any], models: Mapping[str, ScoreFn]) -> None:
        self.plan, self.models = read(config), dict(models)
        if missing := self.plan.models.keys() ^ self.models.keys():
            raise ValueError(f"score functions are wanted for {list(self.plan.models)}; not matched: {sorted(missing)}")
        self.multipliers = dict.fromkeys(self.plan.bounds, self.plan.settings.multiplier_start)

    def check_rows(self, rows: list[Row]) -> None:
        """DataError for a row of which some term cannot score answers; to be called before the first is sampled."""
        check_rows(self.plan, rows)

    def __call__(
        self, rows: list[Row], prompt_ids: list[list[int]], answer_ids: list[list[int]], answers: list[str],
        ended: list[bool], learn: bool = True,
    ) -> Parts:  # fmt: skip
        """The reward of N answers. `answer_ids` include EOS where one `ended`; `answers` are they as text.

        `learn`: the multipliers take their step after the batch; not when answers are only measured.
        """
        lengths = [len(ids) for ids in answer_ids]
        parts = {
            name: _vector(name, term.score(rows, answers, ended, lengths) if isinstance(term, Term)
                          else self.models[name](rows, prompt_ids, answer_ids), len(rows))
            for name, term in self.plan.terms.items()
        }  # fmt: skip
        made = Parts(self._total(parts), parts, dict(self.multipliers))
        if learn:
            self._ascend(parts)
        return made

    def _total(self, parts: Mapping[str, "Tensor"]) -> "Tensor":
        """(N,): the formula at the top of this module, clipped."""
        bounds, clip = self.plan.bounds, self.plan.settings.clip
        weighted = sum(self.plan.weights[name] * part for name, part in parts.items())
        broken = sum(self.multipliers[name] * (parts[name] - bounds[name]) for name in bounds)
        total = (weighted + broken) / (1 + sum(self.multipliers.values()))
        return total.clamp(-clip, clip) if clip else total

    def _ascend(self, parts: Mapping[str, "Tensor"]) -> None:
        """One step of dual ascent for each bound."""
        for name, bound in self.plan.bounds.items():
            step = self.plan.settings.multiplier_lr * (bound - float(parts[name].mean()))
            self.multipliers[name] = max(0.0, self.multipliers[name] + step)

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold for the run to go on as if it had not stopped."""
        return dict(self.multipliers)

    def load(self, state: Mapping[str, float]) -> None:
        if state.keys() != self.multipliers.keys():
            raise ValueError(f"the state is of the bounds {sorted(state)}, not of {sorted(self.multipliers)}")
        self.multipliers = {name: float(value) for name, value in state.items()}


def _vector(name: str, scores: Any, count: int) -> "Tensor":
    """Scores as a float32 tensor (N,) on the CPU. StageFailed when one is missing or not finite."""
    import torch

    found = torch.as_tensor(scores).detach().to("cpu", torch.float32)
    if found.shape != (count,):
        raise StageFailed(f"reward term {name} gave scores of shape {tuple(found.shape)} for {count} answers")
    if bad := int((~found.isfinite()).sum()):
        raise StageFailed(f"reward term {name} gave NaN or infinite scores for {bad} of {count} answers")
    return found
