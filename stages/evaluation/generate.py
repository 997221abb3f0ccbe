"""Generate and check: the model answers, greedily or as it would be sampled, and a rule says whether that is right."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ConfigError, DataError
from pipeline.judging.statistics import sampling_share
from stages.evaluation.checks import describe, passes, problem
from stages.evaluation.measurement import Measurement, Row, Scored, at_least, scored

if TYPE_CHECKING:
    from stages.models.chain import Policy


@dataclass
class GenerateParams:
    max_new_tokens: int = at_least(1, 64)
    temperature: float = at_least(0, 0.0)  # 0 = greedy; 1 = as the model itself distributes its answers
    samples: int = at_least(1, 1)  # answers to each prompt, where they are sampled

    def __post_init__(self) -> None:
        if self.samples > 1 and self.temperature == 0:
            raise ConfigError(f"samples={self.samples}: greedy answers are all the same; set temperature too")


class Generate(Measurement):
    """Share of the answers that pass the item's `check` (see `checks.py`): 1 or 0 where they are greedy."""

    params, fields = GenerateParams, ("prompt", "check")

    def metric(self, params: GenerateParams) -> tuple[str, bool]:
        return "pass_rate", True

    def check(self, row: Row, params: GenerateParams) -> None:
        if found := problem(row["check"]):
            raise DataError(f"item {row['id']}: check: {found}")

    def run(self, policy: "Policy", rows: list[Row], params: GenerateParams, micro_batch: int) -> list[Scored]:
        answers = sampled_of(policy, rows, params, micro_batch)
        return [_result(row, written) for row, written in zip(rows, answers, strict=True)]

    def details(self, items: list[Scored], params: GenerateParams) -> dict[str, Any]:
        """Of sampled answers, how much of their variance is between draws for one prompt."""
        if params.samples == 1:
            return {}
        right = np.array([[round(item.score * params.samples)] for item in items])
        share = sampling_share((np.arange(params.samples) < right).astype(float))
        if np.isnan(share):
            return {"remarks": ["every answer to every prompt got the same score: sampling changes nothing here"]}
        left = share / (params.samples - share * (params.samples - 1))
        remark = (
            f"{share:.0%} of the variance of single answers is between draws for one prompt, the rest between prompts; "
            f"{params.samples} draws for each leave {left:.0%}"
        )
        return {"remarks": [remark]}


def _result(row: Row, answers: list[str]) -> Scored:
    right = sum(passes(row["check"], answer) for answer in answers) / len(answers)
    return scored(row, right, answer=answers[0], reference=describe(row["check"]))


def sampled_of(policy: "Policy", rows: list[Row], params: GenerateParams, micro_batch: int) -> list[list[str]]:
    """Answers to every row's prompt: the greedy one, or `samples` drawn under a fixed seed."""
    if params.temperature == 0:
        return [[answer] for answer in answers_of(policy, rows, params.max_new_tokens, micro_batch)]
    from stages.evaluation.forward import check_lengths, prompts_of
    from stages.kernels.rollout import Sampling, rollout

    prompts = prompts_of(policy, rows)
    check_lengths(policy, rows, [len(prompt) + params.max_new_tokens for prompt in prompts])
    asked = Sampling(params.max_new_tokens, params.temperature, samples=params.samples)
    written = rollout(policy, prompts, asked, micro_batch)
    texts = [policy.tokenizer.decode(answer.ids, skip_special_tokens=True).strip() for answer in written]
    return [texts[at : at + params.samples] for at in range(0, len(texts), params.samples)]


def answers_of(policy: "Policy", rows: list[Row], max_new_tokens: int, micro_batch: int) -> list[str]:
    """The model's greedy answer to every row's prompt."""
    from stages.evaluation.forward import check_lengths, greedy, prompts_of

    prompts = prompts_of(policy, rows)
    check_lengths(policy, rows, [len(prompt) + max_new_tokens for prompt in prompts])
    return greedy(policy, prompts, max_new_tokens, micro_batch)
