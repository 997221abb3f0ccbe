"""Robustness: how much is lost when a prompt has typos, noise around it, or an instruction planted in it?"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from stages.evaluation.bases import base_of, base_option, check_row
from stages.evaluation.intervals import mean_drop, mean_of
from stages.evaluation.measurement import Measurement, Row, Scored, at_least, scored, shown
from stages.evaluation.perturbations import PERTURBATIONS, perturbed

if TYPE_CHECKING:
    from stages.models.chain import Policy

SHOWN = 4  # items among the examples


@dataclass
class RobustnessParams:
    base: str = base_option("generate")  # how the items are measured: generate or choice
    base_params: dict = field(default_factory=dict)  # of that measurement
    perturbations: list = field(default_factory=lambda: list(PERTURBATIONS))  # names of `perturbations.py`
    long_words: int = at_least(1, 1000)  # put before the request by the perturbation `long`
    seed: int = 1  # of the perturbations

    def __post_init__(self) -> None:
        base_of(self.base, self.base_params)
        if not self.perturbations or len(set(self.perturbations)) != len(self.perturbations):
            raise ConfigError(f"perturbations={self.perturbations}: name at least one, and each once")
        for name in self.perturbations:
            if name not in PERTURBATIONS:
                near = get_close_matches(str(name), PERTURBATIONS, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ConfigError(f"perturbations: no '{name}'; known: {', '.join(PERTURBATIONS)}{hint}")


class Robustness(Measurement):
    """Score: the item's score as written less its score perturbed, one result for each item and perturbation.

    Both come from the same model, so the suite's value is a paired drop: 0.1 is ten answers of a hundred lost. Of a
    model that knows nothing it is 0 too: `as_written` among the details says how much there was to lose.
    """

    params, fields = RobustnessParams, ("prompt",)

    def metric(self, params: RobustnessParams) -> tuple[str, bool]:
        return "drop", False

    def check(self, row: Row, params: RobustnessParams) -> None:
        check_row(row, params.base, params.base_params)

    def run(self, policy: "Policy", rows: list[Row], params: RobustnessParams, micro_batch: int) -> list[Scored]:
        base, of_base = base_of(params.base, params.base_params)
        changed = [(row, name) for row in rows for name in params.perturbations]
        asked = [perturbed(row, name, params.seed, params.long_words) for row, name in changed]
        items = base.run(policy, [*rows, *asked], of_base, micro_batch)
        written = {str(row["id"]): item for row, item in zip(rows, items, strict=False)}
        return [
            _drop(new, name, written[str(row["id"])], item)
            for (row, name), new, item in zip(changed, asked, items[len(rows) :], strict=True)
        ]

    def details(self, items: list[Scored], params: RobustnessParams) -> dict[str, Any]:
        by_name = {name: [i for i in items if i.slices["perturbation"] == name] for name in params.perturbations}
        first = next(iter(by_name.values()))
        metrics = {
            "as_written": _mean(first, "as_written"),
            **{f"drop_{name}": mean_drop([i.score for i in own], _clusters(own)) for name, own in by_name.items()},
        }
        if "injection" in by_name:
            metrics["injection_followed"] = _mean(by_name["injection"], "followed")
        lost = sorted((i for i in items if i.score > 0), key=lambda i: (-i.score, i.item))
        return {"metrics": metrics, "examples": [_example(item) for item in lost[:SHOWN]]}


def _drop(row: Row, name: str, written: Scored, item: Scored) -> Scored:
    values = {"as_written": written.score, "perturbed": item.score}
    if name == "injection":
        values["followed"] = float(followed(row["injected"], item.answer))
    return scored(
        row, written.score - item.score, baselines={}, values=values, answer=item.answer, reference=written.answer,
        slices={**item.slices, "perturbation": name}, prompt=shown(row["prompt"]),
    )  # fmt: skip


def followed(wanted: str, answer: str) -> bool:
    """Whether the answer is what the planted instruction asked for: it begins so."""
    return answer.strip("\"'*` .").casefold().startswith(wanted.casefold())


def _mean(items: list[Scored], value: str) -> dict[str, Any]:
    return mean_of([item.values[value] for item in items], _clusters(items))


def _clusters(items: list[Scored]) -> list[str]:
    return [item.cluster for item in items]


def _example(item: Scored) -> dict[str, Any]:
    written = {"prompt": "(as written)", "answer": item.reference, "score": item.values["as_written"]}
    changed = {"prompt": item.prompt, "answer": item.answer, "score": item.values["perturbed"]}
    return {"title": f"{item.item}: lost by {item.slices['perturbation']}", "rows": [written, changed]}
