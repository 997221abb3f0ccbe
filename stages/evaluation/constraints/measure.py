"""Instruction following: the model answers greedily, and each constraint of the item is looked for in the answer."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from pipeline.judging.statistics import Items, estimate
from stages.evaluation.constraints import loose, problem, read, strict
from stages.evaluation.generate import answers_of
from stages.evaluation.measurement import Measurement, Row, Scored, at_least, scored

if TYPE_CHECKING:
    from stages.models.chain import Policy

WEAKEST = 5  # types of constraints that the remark names


@dataclass
class ConstraintsParams:
    max_new_tokens: int = at_least(1, 256)


class Constraints(Measurement):
    """Share of the answers that keep to every constraint of their item (the paper's strict accuracy of prompts).

    The details have the other three of Zhou et al. 2023: the share of single constraints that are kept
    (`instruction_strict`), and both again where any of eight readings of an answer may keep to a constraint (`loose`).
    """

    params, fields = ConstraintsParams, ("prompt", "constraints")

    def metric(self, params: ConstraintsParams) -> tuple[str, bool]:
        return "prompt_strict", True

    def check(self, row: Row, params: ConstraintsParams) -> None:
        if found := problem(row["constraints"]):
            raise DataError(f"item {row['id']}: {found}")

    def run(self, policy: "Policy", rows: list[Row], params: ConstraintsParams, micro_batch: int) -> list[Scored]:
        answers = answers_of(policy, rows, params.max_new_tokens, micro_batch)
        return [result(row, answer) for row, answer in zip(rows, answers, strict=True)]

    def details(self, items: list[Scored], params: ConstraintsParams) -> dict[str, Any]:
        names = ("instruction_strict", "prompt_loose", "instruction_loose")
        return {"metrics": {name: share(items, name) for name in names}, "remarks": weakest(items)}


def result(row: Row, answer: str) -> Scored:
    """Score 1 if every constraint is kept. `values`: the other shares, and of each type how many there are and kept."""
    wanted = [read(given) for given in row["constraints"]]
    kept = [strict(constraint, answer) for constraint in wanted]
    kept_loosely = [loose(constraint, answer) for constraint in wanted]
    types = [given["type"] for given in row["constraints"]]
    asked, followed = Counter(types), Counter(kind for kind, met in zip(types, kept, strict=True) if met)
    values = {
        "instructions": float(len(wanted)),
        "instruction_strict": sum(kept) / len(kept),
        "prompt_loose": float(all(kept_loosely)),
        "instruction_loose": sum(kept_loosely) / len(kept),
        **{f"asked {kind}": float(asked[kind]) for kind in asked},
        **{f"kept {kind}": float(followed[kind]) for kind in asked},
    }
    broken = [kind for kind, met in zip(types, kept, strict=True) if not met]
    reference = f"{', '.join(types)}; not kept: {', '.join(broken) or 'none'}"
    return scored(row, float(all(kept)), answer=answer, reference=reference, values=values)


def share(items: list[Scored], name: str) -> dict[str, Any]:
    """One of the further shares with its interval; an item's single constraints are drawn together."""
    weights = [item.values["instructions"] if name.startswith("instruction") else 1.0 for item in items]
    scores = np.array([item.values[name] for item in items])
    found = estimate(
        Items([item.item for item in items], [item.cluster for item in items], scores, np.array(weights)), "mean"
    )
    return {"value": found.value, "low": found.low, "high": found.high, "n": int(sum(weights))}


def weakest(items: list[Scored]) -> list[str]:
    """The types of constraints that are kept least."""
    totals: Counter[str] = Counter()
    for item in items:
        totals.update({name: int(count) for name, count in item.values.items() if name.startswith(("asked ", "kept "))})
    kinds = [name.removeprefix("asked ") for name in totals if name.startswith("asked ")]
    least = sorted(kinds, key=lambda kind: (totals[f"kept {kind}"] / totals[f"asked {kind}"], kind))[:WEAKEST]
    told = ", ".join(f"{kind} ({totals[f'kept {kind}']} of {totals[f'asked {kind}']})" for kind in least)
    return [f"Constraints kept least, strictly: {told}."]
