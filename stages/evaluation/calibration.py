"""Calibration: does the model's confidence say how often it is right?

With base=choice the confidence is the share of the picked choice in the softmax of what `choice` compares. With
base=generate the model answers, is asked whether its answer is right, and the confidence is the share of Yes against No
(P(True), Kadavath et al. 2022).
"""

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from stages.evaluation import reliability as rel
from stages.evaluation.bases import base_of, base_option, check_row
from stages.evaluation.choice import ChoiceParams, compared
from stages.evaluation.choice import result as picked_of
from stages.evaluation.intervals import Places, clustered
from stages.evaluation.measurement import Measurement, Row, Scored, at_least
from stages.evaluation.routing import Answers, Asked, chance_error, parts, route

if TYPE_CHECKING:
    from stages.models.chain import Policy

ASK = "Is your answer right? Answer Yes or No."
YES_NO = ["Yes", "No"]
FLAT = 0.9  # share of the highest temperature that counts as the bound
LOG = "log_"  # before the place of a choice, in the values of an item


@dataclass
class CalibrationParams:
    base: str = base_option("choice")  # choice, or generate: the model's own word on its answer
    base_params: dict = field(default_factory=dict)  # of that measurement
    bins: int = at_least(2, 10)  # of equal mass
    target_error: float = at_least(0, 0.0)  # of the answers that go out without a person; 0 = no routing
    assurance: float = at_least(0, 0.9)  # that the target is kept
    max_ece: float = at_least(0, 0.1)  # a larger calibration error, after scaling, supports no routing

    def __post_init__(self) -> None:
        base_of(self.base, self.base_params)
        for name in ("target_error", "assurance", "max_ece"):
            if getattr(self, name) >= 1:
                raise ConfigError(f"{name}={getattr(self, name)}: a share below 1")
        if self.base == "generate" and self.base_params.get("temperature"):
            raise ConfigError("base_params.temperature: calibration judges greedy answers; remove it")


class Calibration(Measurement):
    """Score: the item's Brier score, (confidence - right)², of the confidence as it is.

    Items are in three parts by source. The temperature is fitted on one; everything among the details is of the others.
    """

    params, fields = CalibrationParams, ("prompt",)

    def metric(self, params: CalibrationParams) -> tuple[str, bool]:
        return "brier", False

    def check(self, row: Row, params: CalibrationParams) -> None:
        check_row(row, params.base, params.base_params)

    def run(self, policy: "Policy", rows: list[Row], params: CalibrationParams, micro_batch: int) -> list[Scored]:
        base, of_base = base_of(params.base, params.base_params)
        if params.base == "choice":
            values = compared(policy, rows, of_base, micro_batch)
            items = [picked_of(row, own) for row, own in zip(rows, values, strict=True)]
            labels, picked = [row["answer"] for row in rows], [int(np.argmax(own)) for own in values]
        else:
            items = base.run(policy, rows, of_base, micro_batch)
            values = compared(policy, asked_again(rows, items), ChoiceParams(end_of_turn=False), micro_batch)
            labels, picked = [0 if item.score == 1 else 1 for item in items], [0] * len(items)
        found = [_judged(*each) for each in zip(items, values, labels, picked, strict=True)]
        for item, part in zip(found, parts([item.cluster for item in found]), strict=True):
            item.slices = {**item.slices, "part": str(part)}
        return found

    def details(self, items: list[Scored], params: CalibrationParams) -> dict[str, Any]:
        judged = Judged.of(items)
        fit = judged.part == "fit"
        if not fit.any() or fit.all():
            return {"remarks": ["The items are of one source: no temperature is fitted, and no calibration shown."]}
        temperature = rel.fit_temperature(judged.values[fit], judged.label[fit])
        raw, scaled = judged.answers(1.0), judged.answers(temperature)
        held = raw.take(~fit)
        bins = rel.equal_mass(held.confidence, held.right, params.bins)
        found = {
            "metrics": _metrics(held, scaled.take(~fit), temperature, params.bins),
            "reliability": {
                "bins": [asdict(part) for part in bins],
                "ece": rel.calibration_error(bins),
                "brier": rel.brier(held.confidence, held.right),
            },
            "risk": [asdict(point) for point in rel.risk_curve(held.confidence, held.right)],
        }
        remarks = _remarks(held, temperature)
        if not params.target_error:
            return {**found, "remarks": remarks}
        routing = _routing(scaled, judged.part, temperature, params)
        told = routing["sentence"] if routing["routed"] else f"no routing threshold: {routing['reason']}"
        return {**found, "routing": routing, "remarks": [told[0].upper() + told[1:] + ".", *remarks]}


@dataclass(frozen=True)
class Judged:
    """N items: log-likelihoods (N, K), the right one's place, the picked one's, the part, the source."""

    values: rel.Floats
    label: NDArray[np.int64]
    picked: NDArray[np.int64]
    right: rel.Floats
    part: NDArray[np.str_]
    clusters: list[str]

    @classmethod
    def of(cls, items: list[Scored]) -> "Judged":
        rows = [
            [item.values[f"{LOG}{k}"] for k in range(len(item.values)) if f"{LOG}{k}" in item.values] for item in items
        ]
        label, picked, right = ([item.values[name] for item in items] for name in ("label", "picked", "right"))
        return cls(
            rel.padded(rows), np.array(label, dtype=int), np.array(picked, dtype=int), np.array(right),
            np.array([item.slices["part"] for item in items]), [item.cluster for item in items],
        )  # fmt: skip

    def answers(self, temperature: float) -> Answers:
        """The confidence in what was picked, and whether that is right."""
        shares = rel.probabilities(self.values, temperature)
        return Answers(shares[np.arange(len(shares)), self.picked], self.right, self.clusters)


def asked_again(rows: list[Row], items: list[Scored]) -> list[Row]:
    """The conversation with the model's answer and the question whether it is right, answered Yes or No."""
    return [
        {**row, "prompt": [*row["prompt"], *_asked(item.answer or "...")], "choices": YES_NO, "answer": 0}
        for row, item in zip(rows, items, strict=True)
    ]


def _asked(answer: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": answer}, {"role": "user", "content": ASK}]


def _judged(item: Scored, values: list[float], label: int, picked: int) -> Scored:
    """The item with its confidence as score, and what the details are computed from as values."""
    confidence = float(rel.probabilities(np.array([values]))[0, picked])
    right = float(label == picked)
    item.values = {
        "right": right, "confidence": confidence, "label": float(label), "picked": float(picked),
        **{f"{LOG}{k}": value for k, value in enumerate(values)},
    }  # fmt: skip
    item.score, item.baselines = (confidence - right) ** 2, {}
    return item


def _metrics(raw: Answers, scaled: Answers, temperature: float, bins: int) -> dict[str, Any]:
    """Numbers of the items that the temperature was not fitted on."""

    def ece(answers: Answers, places: Places) -> float:
        return rel.calibration_error(rel.equal_mass(answers.confidence[places], answers.right[places], bins))

    def brier(answers: Answers, places: Places) -> float:
        return rel.brier(answers.confidence[places], answers.right[places])

    n = len(raw.right)
    statistics = {
        "accuracy": lambda p: float(raw.right[p].mean()),
        "ece": lambda p: ece(raw, p),
        "ece_scaled": lambda p: ece(scaled, p),
        "brier_scaled": lambda p: brier(scaled, p),
        "aurc": lambda p: rel.area_under_risk(raw.confidence[p], raw.right[p]),
    }
    found = {name: clustered(statistic, raw.clusters) for name, statistic in statistics.items()}
    return {**found, "temperature": {"value": temperature, "low": temperature, "high": temperature, "n": n}}


def _remarks(held: Answers, temperature: float) -> list[str]:
    chance = chance_error(held.confidence)
    found = [f"A calibrated model of the same confidences would show an ECE of up to {chance:.3f} by chance."]
    if temperature > FLAT * math.exp(rel.MOST):
        found.append("The fitted temperature is at its bound: the confidences say nothing about what is right.")
    return found


def _routing(scaled: Answers, part: NDArray[np.str_], temperature: float, params: CalibrationParams) -> dict[str, Any]:
    asked = Asked(params.target_error, params.assurance, params.max_ece)
    fit, choose, test = (scaled.take(part == name) for name in ("fit", "choose", "test"))
    return {"temperature": temperature, **route(fit, choose, test, asked)}
