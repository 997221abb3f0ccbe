"""Win rate: how often the model's answer is better than another one to the same prompt, in the eyes of a judge.

The other answer is that of the suite's `against`, or stands in a column of the items. The suite's `judge` is a stage:
a reward model, or a model that compares both answers in both orders (`judge.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ConfigError, DataError
from pipeline.fingerprint import digest_code
from stages.evaluation import known
from stages.evaluation.intervals import Places, clustered, mean_of
from stages.evaluation.judge import Verdict, Written, by_model, by_reward, is_reward
from stages.evaluation.measurement import Measurement, Others, Row, Scored, at_least, scored

if TYPE_CHECKING:
    from pipeline.context import Artifact
    from stages.models.chain import Policy

SHOWN = 4  # items among the examples
LONG = 0.5  # rank correlation with the length from which on a win rate is mostly about length


@dataclass
class WinRateParams:
    reference: str = ""  # column with the other answer; empty: the suite's `against` writes it
    max_new_tokens: int = at_least(1, 128)
    tie: float = at_least(0, 0.0)  # of a reward model: rewards no further apart are a tie
    ties: bool = True  # a judge model may reply that both are equally good
    criteria: str = "it is correct, does what was asked, and is clear"  # what a judge model is to look at


class WinRate(Measurement):
    """Score 1 when the model's answer wins, 0.5 on a tie, 0 when it loses. Answers are greedy; equal ones are a tie."""

    params, fields = WinRateParams, ("prompt",)

    def metric(self, params: WinRateParams) -> tuple[str, bool]:
        return "win_rate", True

    def check_others(self, params: WinRateParams, judge: str | None, against: str | None) -> None:
        if judge is None:
            raise ConfigError("judge: missing; name the stage of a reward model, or of a model, that judges")
        if bool(against) == bool(params.reference):
            raise ConfigError(
                "against: give this (a stage, base or input), whose answers are the other side, or params.reference, "
                "the column that holds them; one of the two"
            )

    def check(self, row: Row, params: WinRateParams) -> None:
        text = row.get(params.reference) if params.reference else "-"
        if not row["prompt"] or not isinstance(text, str) or not text.strip():
            what = f"`{params.reference}` is no text" if row["prompt"] else "`prompt` is empty"
            raise DataError(f"item {row['id']}: {what}")

    def run_beside(
        self, policy: "Policy", rows: list[Row], params: WinRateParams, micro_batch: int, others: Others
    ) -> list[Scored]:
        own = _answers(others, others.own, rows, params, micro_batch, policy.writes, lambda: policy)
        other = _other_side(policy, rows, params, micro_batch, others)
        asked = [i for i in range(len(rows)) if own[i].text != other[i].text]
        verdicts = dict(zip(asked, _judged(rows, own, other, asked, params, micro_batch, others), strict=True))
        flags = {
            "judge_is_model": _same(others.judge, others.own),
            "judge_is_other": _same(others.judge, others.against),
        }
        return [
            _result(row, *both, verdicts.get(i), flags)
            for i, (row, both) in enumerate(zip(rows, zip(own, other, strict=True), strict=True))
        ]

    def details(self, items: list[Scored], params: WinRateParams) -> dict[str, Any]:
        return {"metrics": further(items), "examples": examples(items), "remarks": remarks(items)}


# -- answers ------------------------------------------------------------------------------------------------------
def _other_side(
    policy: "Policy", rows: list[Row], params: WinRateParams, micro_batch: int, others: Others
) -> list[Written]:
    if others.against is None:
        from stages.models.chat import encode

        texts = [row[params.reference].strip() for row in rows]
        return [Written(text, len(encode(policy.tokenizer, text))) for text in texts]
    against = others.against
    return _answers(others, against, rows, params, micro_batch, policy.writes, lambda: others.open(against))


def _answers(
    others: Others, model: "Artifact", rows: list[Row], params: WinRateParams, micro_batch: int, place: str,
    opened: Callable[[], "Policy"],
) -> list[Written]:  # fmt: skip
    """The model's answers: from the store's cache where an evaluation wrote them before, else written now."""
    said = [model.id, model.digest, place, params.max_new_tokens, [row["prompt"] for row in rows]]
    file = known.place(others.cache / "answers", [*said, digest_code("stages.evaluation.win_rate")])
    kept = None if others.forced else known.read(file)
    if kept is None:
        found = written(opened(), rows, params.max_new_tokens, micro_batch)
        known.keep(file, kept := [[answer.text, answer.tokens, answer.ended] for answer in found])
    return [Written(*answer) for answer in kept]


def written(policy: "Policy", rows: list[Row], max_new_tokens: int, micro_batch: int) -> list[Written]:
    """Greedy answers to every row's prompt."""
    from stages.evaluation.forward import check_lengths, prompts_of
    from stages.kernels.rollout import Sampling, rollout

    prompts = prompts_of(policy, rows)
    check_lengths(policy, rows, [len(prompt) + max_new_tokens for prompt in prompts])
    answers = rollout(policy, prompts, Sampling(max_new_tokens, temperature=0.0), micro_batch)
    texts = [policy.tokenizer.decode(answer.ids, skip_special_tokens=True).strip() for answer in answers]
    return [Written(text, len(each.ids), each.ended) for text, each in zip(texts, answers, strict=True)]


# -- verdicts -----------------------------------------------------------------------------------------------------
def _judged(
    rows: list[Row], own: list[Written], other: list[Written], asked: list[int], params: WinRateParams,
    micro_batch: int, others: Others,
) -> list[Verdict]:  # fmt: skip
    """Verdicts on the items in these places; no judge is loaded where there are none."""
    if not asked:
        return []
    assert others.judge is not None
    sides = [[side[i] for i in asked] for side in (own, other)]
    about = [rows[i] for i in asked]
    if is_reward(others.judge):
        return by_reward(others, about, *sides, params.tie, micro_batch)
    return by_model(others.open(others.judge), about, *sides, params.criteria, params.ties, micro_batch)


def _result(row: Row, own: Written, other: Written, verdict: Verdict | None, flags: dict[str, float]) -> Scored:
    verdict = verdict or Verdict(0.5, 0.5, {"same": 1.0})
    sizes = {
        "tokens": float(own.tokens), "tokens_other": float(other.tokens),
        "cut": float(not own.ended), "cut_other": float(not other.ended),
    }  # fmt: skip
    values = {"probability": verdict.probability, **verdict.values, **sizes, **flags}
    return scored(row, verdict.score, answer=own.text, reference=other.text, values=values)


def _same(one: "Artifact | None", other: "Artifact | None") -> float:
    return float(one is not None and other is not None and one.id == other.id)


# -- what stands beside the number --------------------------------------------------------------------------------
def further(items: list[Scored]) -> dict[str, Any]:
    """Wins, ties, the judge's probability, lengths, and what the judge's positions say."""

    def mean(values: list[float], of: list[Scored] = items) -> dict[str, Any]:
        return mean_of(values, [item.cluster for item in of])

    found = {
        "wins": mean([float(item.score == 1) for item in items]),
        "ties": mean([float(item.score == 0.5) for item in items]),
        "judge_probability": mean([item.values["probability"] for item in items]),
        "tokens": mean([item.values["tokens"] for item in items]),
        "tokens_other": mean([item.values["tokens_other"] for item in items]),
        "length_correlation": clustered(_about_length(items), [item.cluster for item in items]),
    }
    if read := [item for item in items if "first" in item.values]:
        found["positions_agree"] = mean([float(item.values["first"] == item.values["second"]) for item in read], read)
        found["prefers_first"] = mean([first_preferred(item) for item in read], read)
    return found


def first_preferred(item: Scored) -> float:
    """How the answer that stood first did, the mean of both readings: 0.5 where the place does not matter."""
    return (item.values["first"] + 1 - item.values["second"]) / 2


def _about_length(items: list[Scored]) -> Callable[[Places], float]:
    """Rank correlation of the judge's probability with by how many tokens the own answer is longer."""
    from scipy.stats import rankdata

    liked = np.array([item.values["probability"] for item in items])
    longer = np.array([item.values["tokens"] - item.values["tokens_other"] for item in items])

    def statistic(places: Places) -> float:
        a, b = rankdata(liked[places]), rankdata(longer[places])
        return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])

    return statistic


def examples(items: list[Scored]) -> list[dict[str, Any]]:
    """Answers side by side: where the judge is surest, of losses and wins in turn."""
    losses = sorted((i for i in items if i.score == 0), key=lambda item: item.values["probability"])
    wins = sorted((i for i in items if i.score == 1), key=lambda item: -item.values["probability"])
    half = SHOWN // 2
    chosen = [*losses[:half], *wins[:half], *losses[half:], *wins[half:]][:SHOWN]
    return [
        {"title": f"{item.item}: {'won' if item.score else 'lost'}", "rows": [
            {"prompt": item.prompt, "answer": item.answer, "score": item.score},
            {"prompt": "the other side", "answer": item.reference, "score": 1 - item.score},
        ]} for item in chosen
    ]  # fmt: skip


def remarks(items: list[Scored]) -> list[str]:
    """What a reader should know before believing the number."""
    said = []
    if items[0].values["judge_is_model"]:
        said.append("The judge is the measured model itself: models prefer their own answers.")
    if items[0].values["judge_is_other"]:
        said.append("The judge is the model on the other side: models prefer their own answers.")
    if same := sum(item.values.get("same", 0) for item in items):
        said.append(f"{same:.0f} of {len(items)} answers are the same on both sides; they count as ties.")
    if read := [item for item in items if "first" in item.values]:
        apart = sum(item.values["first"] != item.values["second"] for item in read)
        place = float(np.mean([first_preferred(item) for item in read]))
        said.append(
            f"The judge says otherwise on {apart} of {len(read)} items when the answers change places, which makes "
            f"them ties; the answer that stands first gets {place:.0%}."
        )
    cut = sum(item.values["cut"] for item in items), sum(item.values["cut_other"] for item in items)
    if any(cut):
        said.append(f"Cut at max_new_tokens, without an end: {cut[0]:.0f} of the model's answers, {cut[1]:.0f} others.")
    rho = _about_length(items)(np.arange(len(items)))
    if abs(rho) >= LONG:
        said.append(f"The {'longer' if rho > 0 else 'shorter'} answer tends to win (rank correlation {rho:.2f}).")
    return said
