"""Forced choice: which of the given answers does the model find most likely?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from stages.evaluation.measurement import Measurement, Row, Scored, option, scored

if TYPE_CHECKING:
    from stages.models.chain import Policy


@dataclass
class ChoiceParams:
    normalise: str = option("none", "none", "tokens", "bytes", "prior")
    prior_prompt: str = "Answer:"  # of normalise=prior: the user's turn that asks nothing
    suffix: str = ""  # what follows a choice in the house style: "." keeps "Copyleft" apart from "Copyleft Limited"
    end_of_turn: bool = True  # the answer ends there: its end-of-turn token counts too


class Choice(Measurement):
    """Score 1 when the right choice has the highest log-likelihood as the assistant's answer, else 0.

    normalise=none compares log-likelihoods; tokens and bytes divide them by the choice's length, for choices of unequal
    length; prior subtracts the choice's log-likelihood after `prior_prompt`, for choices of unequal commonness.
    """

    params, fields = ChoiceParams, ("prompt", "choices", "answer")

    def metric(self, params: ChoiceParams) -> tuple[str, bool]:
        return "accuracy", True

    def check(self, row: Row, params: ChoiceParams) -> None:
        choices, answer = row["choices"], row["answer"]
        if len(choices) < 2 or len(set(choices)) != len(choices) or not all(choices):
            raise DataError(f"item {row['id']}: `choices` needs at least two different, non-empty texts")
        if not isinstance(answer, int) or not 0 <= answer < len(choices):
            raise DataError(f"item {row['id']}: `answer` is the index of the right choice, 0 to {len(choices) - 1}")

    def run(self, policy: "Policy", rows: list[Row], params: ChoiceParams, micro_batch: int) -> list[Scored]:
        found = compared(policy, rows, params, micro_batch)
        return [result(row, values) for row, values in zip(rows, found, strict=True)]


def compared(policy: "Policy", rows: list[Row], params: ChoiceParams, micro_batch: int) -> list[list[float]]:
    """What is compared: for every row the normalised log-likelihood of each of its choices."""
    from stages.evaluation.forward import check_lengths, continuation_log_probs, prompts_of

    texts = {choice: tokens(policy, choice, params) for row in rows for choice in row["choices"]}
    prompts = prompts_of(policy, rows)
    longest = [max(len(texts[choice]) for choice in row["choices"]) for row in rows]
    check_lengths(policy, rows, [len(prompt) + more for prompt, more in zip(prompts, longest, strict=True)])
    likely = continuation_log_probs(policy, prompts, [[texts[c] for c in r["choices"]] for r in rows], micro_batch)
    prior = priors(policy, texts, params, micro_batch) if params.normalise == "prior" else {}
    return [normalised(row, likely[i], texts, prior, params.normalise) for i, row in enumerate(rows)]


def tokens(policy: "Policy", choice: str, params: ChoiceParams) -> list[int]:
    from stages.models.chat import answer_ids, encode

    text = choice + params.suffix
    return answer_ids(policy.tokenizer, text) if params.end_of_turn else encode(policy.tokenizer, text)


def priors(policy: "Policy", texts: dict[str, list[int]], params: ChoiceParams, micro_batch: int) -> dict[str, float]:
    """Log-likelihood of every distinct choice after the prompt that asks nothing."""
    from stages.evaluation.forward import continuation_log_probs

    prompt = policy.asked([{"role": "user", "content": params.prior_prompt}])
    found = continuation_log_probs(policy, [prompt] * len(texts), [[ids] for ids in texts.values()], micro_batch)
    return {choice: value for choice, (value,) in zip(texts, found, strict=True)}


def normalised(
    row: Row, likely: list[float], texts: dict[str, list[int]], prior: dict[str, float], normalise: str
) -> list[float]:
    def value(choice: str, log_likelihood: float) -> float:
        if normalise == "prior":
            return log_likelihood - prior[choice]
        length = {"none": 1, "tokens": len(texts[choice]), "bytes": len(choice.encode())}
        return log_likelihood / length[normalise]

    return [value(choice, found) for choice, found in zip(row["choices"], likely, strict=True)]


def result(row: Row, values: list[float]) -> Scored:
    best = max(range(len(values)), key=values.__getitem__)
    return scored(
        row, float(best == row["answer"]), answer=row["choices"][best], reference=row["choices"][row["answer"]]
    )
