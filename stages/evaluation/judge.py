"""Judges of answers: a reward model by its score, any other model by the likelihood of what it would say.

Nothing is sampled: a judge model reads a question about the answer, and the log-likelihoods of the possible replies
are compared. Texts, never foreign token ids: every judge reads through its own template.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.judge_prompts import CHOICES, COMPARE, LETTERS
from stages.evaluation.measurement import Others, Row

if TYPE_CHECKING:
    from pipeline.context import Artifact
    from stages.models.chain import Policy
    from stages.models.prompting import Messages

Floats = NDArray[np.float64]
TIE = 1e-6  # nats, or rewards: less apart than this is float noise


@dataclass(frozen=True)
class Written:
    """An answer. `ended`: it has an end and was not cut at `max_new_tokens`."""

    text: str
    tokens: int
    ended: bool = True


@dataclass(frozen=True)
class Verdict:
    """How the first of two answers does against the second: 1 better, 0.5 a tie, 0 worse.

    `probability` that it is better, a tie being one half. `values`: what a judge of this kind says beside it.
    """

    score: float
    probability: float
    values: dict[str, float]


def is_reward(judge: "Artifact") -> bool:
    from stages.models.chain import Chain
    from stages.rewards.model import HEAD

    return HEAD in Chain.read(judge).heads


# -- reward models ------------------------------------------------------------------------------------------------
def by_reward(
    others: Others, rows: Sequence[Row], own: Sequence[Written], other: Sequence[Written], tie: float, micro_batch: int
) -> list[Verdict]:
    """Verdicts by the suite's judge, a reward model: the higher reward wins; `tie`: rewards so near are one.

    Of an ensemble the mean reward. The probability is Bradley & Terry's (1952), the mean of what the members say.
    """
    from stages.rewards.model import read_members, score

    assert others.judge is not None
    model, members = others.open(others.judge), read_members(others.judge)
    sequences = [_judged(model, row, answer) for side in (own, other) for row, answer in zip(rows, side, strict=True)]
    check_readable(model, [*rows, *rows], [len(sequence) for sequence in sequences])
    raw = score(model, members, sequences, micro_batch).double()
    reward = sum(member.reward(each) for member, each in zip(members, raw, strict=True)) / len(members)
    rewards = reward.reshape(2, len(rows)).numpy()
    lead = (raw[:, : len(rows)] - raw[:, len(rows) :]).sigmoid().mean(dim=0).tolist()
    return [
        Verdict(_won(a - b, max(tie, TIE)), p, {"reward": a, "reward_other": b})
        for (a, b), p in zip(rewards.T.tolist(), lead, strict=True)
    ]


def _judged(model: "Policy", row: Row, answer: Written) -> list[int]:
    """Prompt and answer as reward models are trained on them; EOS only where the answer has an end."""
    from stages.models.chat import answer_ids, encode, prompt_ids

    ids = answer_ids(model.tokenizer, answer.text) if answer.ended else encode(model.tokenizer, answer.text)
    return prompt_ids(model.tokenizer, row["prompt"]) + ids


def _won(lead: float, tie: float) -> float:
    return 0.5 if abs(lead) <= tie else float(lead > 0)


# -- judge models -------------------------------------------------------------------------------------------------
def by_model(
    judge: "Policy", rows: Sequence[Row], own: Sequence[Written], other: Sequence[Written], criteria: str, ties: bool,
    micro_batch: int,
) -> list[Verdict]:  # fmt: skip
    """Verdicts by a model that reads both answers twice, the second time in the other order.

    An answer wins where both readings prefer it; everything else is a tie (Zheng et al. 2023, arXiv 2306.05685).
    `first`, `second`: how the own answer does where it stands first and second. `ties`: the judge may call one.
    """
    pairs = [*zip(own, other, strict=True), *zip(other, own, strict=True)]
    asked = [question(row, *pair, criteria, ties) for row, pair in zip([*rows, *rows], pairs, strict=True)]
    found = likelihoods(judge, [*rows, *rows], asked, LETTERS if ties else LETTERS[:2], micro_batch)
    return [_both(found[i], found[i + len(rows)]) for i in range(len(rows))]


def question(row: Row, first: Written, second: Written, criteria: str, ties: bool) -> str:
    return COMPARE.format(
        criteria=criteria, request=conversation(row["prompt"]), first=first.text, second=second.text,
        choices=CHOICES[ties],
    )  # fmt: skip


def _both(in_first: Sequence[float], in_second: Sequence[float]) -> Verdict:
    """The verdict from the log-likelihoods of the letters, with the own answer as A and as B."""
    first, second = said(in_first), 1 - said(in_second)
    score = first if first == second else 0.5
    probability = (preferred(in_first) + 1 - preferred(in_second)) / 2
    return Verdict(score, probability, {"first": first, "second": second})


def said(likely: Sequence[float]) -> float:
    """How answer A does by the likeliest letter: 1, 0.5 or 0. Of two letters alike, a tie."""
    best = max(likely)
    letters = {LETTERS[i] for i, value in enumerate(likely) if best - value <= TIE}
    return {"A": 1.0, "B": 0.0}.get(letters.pop(), 0.5) if len(letters) == 1 else 0.5


def preferred(likely: Sequence[float]) -> float:
    """The probability of A among the letters, with half of that of a tie."""
    weights = np.exp(np.asarray(likely) - max(likely))
    shares = weights / weights.sum()
    return float(shares[0] + shares[2:].sum() / 2)


def likelihoods(
    judge: "Policy", rows: Sequence[Row], asked: Sequence[str], replies: Sequence[str], micro_batch: int
) -> list[list[float]]:
    """Log-likelihood of each reply to each question, of which every one is about the row in its place."""
    from stages.evaluation.forward import continuation_log_probs
    from stages.models.chat import encode

    ids = [encode(judge.tokenizer, reply) for reply in replies]
    prompts = [judge.asked([{"role": "user", "content": text}]) for text in asked]
    check_readable(judge, rows, [len(prompt) + max(map(len, ids)) for prompt in prompts])
    return continuation_log_probs(judge, prompts, [ids] * len(prompts), micro_batch)


def conversation(messages: "Messages") -> str:
    """A prompt as text: the message itself, or a paragraph for each turn."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def check_readable(judge: "Policy", rows: Sequence[Row], lengths: Sequence[int]) -> None:
    """DataError for what is longer than the judge can read."""
    from pipeline.errors import DataError
    from stages.evaluation.forward import check_lengths

    try:
        check_lengths(judge, list(rows), list(lengths))
    except DataError as error:
        raise DataError(f"judge: {error}") from None
