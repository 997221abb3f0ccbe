"""Preference accuracy: does the model find the chosen answer more likely than the rejected one?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from stages.evaluation.measurement import Measurement, Row, Scored, option, scored

if TYPE_CHECKING:
    from stages.models.chain import Policy

TIE = 1e-6  # nats: less apart than this is float noise


@dataclass
class PreferenceParams:
    # Per token by default: a sum falls with every further token, so it would measure which answer is shorter.
    normalise: str = option("tokens", "tokens", "none")


class Preference(Measurement):
    """Score 1 when log p(chosen) > log p(rejected) after the prompt, 0.5 on a tie, else 0. End of turn included."""

    params, fields = PreferenceParams, ("prompt", "chosen", "rejected")

    def metric(self, params: PreferenceParams) -> tuple[str, bool]:
        return "preference_accuracy", True

    def check(self, row: Row, params: PreferenceParams) -> None:
        if not row["chosen"] or not row["rejected"]:
            raise DataError(f"item {row['id']}: `chosen` and `rejected` are not empty")

    def run(self, policy: "Policy", rows: list[Row], params: PreferenceParams, micro_batch: int) -> list[Scored]:
        from stages.evaluation.forward import check_lengths, continuation_log_probs, prompts_of
        from stages.models.chat import answer_ids

        prompts = prompts_of(policy, rows)
        pairs = [[answer_ids(policy.tokenizer, row[side]) for side in ("chosen", "rejected")] for row in rows]
        check_lengths(policy, rows, [len(p) + max(map(len, pair)) for p, pair in zip(prompts, pairs, strict=True)])
        likely = continuation_log_probs(policy, prompts, pairs, micro_batch)
        divide = params.normalise == "tokens"
        values = [
            [sum_ / len(ids) if divide else sum_ for sum_, ids in zip(sums, pair, strict=True)]
            for sums, pair in zip(likely, pairs, strict=True)
        ]
        return [result(row, *pair) for row, pair in zip(rows, values, strict=True)]


def result(row: Row, chosen: float, rejected: float) -> Scored:
    tie = abs(chosen - rejected) <= TIE
    score = 0.5 if tie else float(chosen > rejected)
    answer = "(a tie)" if tie else row["chosen" if chosen > rejected else "rejected"]
    return scored(row, score, answer=answer, reference=row["chosen"])
