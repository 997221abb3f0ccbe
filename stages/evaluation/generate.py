"""Generate and check: the model answers greedily, a rule decides whether the answer is right."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from stages.evaluation.checks import describe, passes, problem
from stages.evaluation.measurement import Measurement, Row, Scored, at_least, scored

if TYPE_CHECKING:
    from stages.models.chain import Policy


@dataclass
class GenerateParams:
    max_new_tokens: int = at_least(1, 64)


class Generate(Measurement):
    """Score 1 when the answer passes the item's `check` (see `checks.py`), else 0."""

    params, fields = GenerateParams, ("prompt", "check")

    def metric(self, params: GenerateParams) -> tuple[str, bool]:
        return "pass_rate", True

    def check(self, row: Row, params: GenerateParams) -> None:
        if found := problem(row["check"]):
            raise DataError(f"item {row['id']}: check: {found}")

    def run(self, policy: "Policy", rows: list[Row], params: GenerateParams, micro_batch: int) -> list[Scored]:
        answers = answers_of(policy, rows, params.max_new_tokens, micro_batch)
        return [
            scored(row, float(passes(row["check"], answer)), answer=answer, reference=describe(row["check"]))
            for row, answer in zip(rows, answers, strict=True)
        ]


def answers_of(policy: "Policy", rows: list[Row], max_new_tokens: int, micro_batch: int) -> list[str]:
    """The model's greedy answer to every row's prompt."""
    from stages.evaluation.forward import check_lengths, greedy, prompts_of

    prompts = prompts_of(policy, rows)
    check_lengths(policy, rows, [len(prompt) + max_new_tokens for prompt in prompts])
    return greedy(policy, prompts, max_new_tokens, micro_batch)
