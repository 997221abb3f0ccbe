"""Consistency: does the model give one answer to one question, however it is worded?"""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from stages.evaluation.bases import base_of, base_option, check_row
from stages.evaluation.intervals import mean_of
from stages.evaluation.measurement import Measurement, Row, Scored, at_least, option
from stages.evaluation.rewrites import rewrites, terms_of

if TYPE_CHECKING:
    from stages.models.chain import Policy

TILDE = "~"  # between the id of an item and the rule that reworded it
SHOWN = 4  # groups among the examples
REJECTED = "rejected: "  # before a reason, in the values of an item


@dataclass
class ConsistencyParams:
    base: str = base_option("generate")  # how the model answers: generate or choice
    base_params: dict = field(default_factory=dict)  # of that measurement
    group: str = option("cluster", "cluster", "item")  # wordings of one question share their cluster; item: none do
    least: int = at_least(2, 3)  # wordings; a question with fewer is left out
    rewrites: int = at_least(0, 0)  # further wordings of every item, made by rule and verified

    def __post_init__(self) -> None:
        base_of(self.base, self.base_params)
        if self.base == "generate" and self.base_params.get("temperature"):
            raise ConfigError("base_params.temperature: consistency compares greedy answers; remove it")
        if self.group == "item" and self.rewrites < self.least - 1:
            raise ConfigError(f"group=item: an item has no other wordings than rewrites={self.rewrites}; raise it")


class Consistency(Measurement):
    """Score: the share of the other wordings of its question that get the same answer.

    Weighted by their number, so that the suite's value is the share of pairs of wordings that agree. Two generated
    answers agree when both are right, or when they are the same text but for case, punctuation and white space; two
    choices agree when they are the same one. `limit` counts questions.
    """

    params, fields = ConsistencyParams, ("prompt",)

    def metric(self, params: ConsistencyParams) -> tuple[str, bool]:
        return "agreement", True

    def unit(self, row: Row, params: ConsistencyParams) -> str:
        return question_of(str(row["id"]), str(row.get("cluster", row["id"])), params)

    def select(self, rows: list[Row], params: ConsistencyParams) -> list[Row]:
        found = [new for row in rows for new in worded(row, params.rewrites)]
        sizes = Counter(self.unit(row, params) for row in found)
        return [row for row in found if sizes[self.unit(row, params)] >= params.least]

    def check(self, row: Row, params: ConsistencyParams) -> None:
        check_row(row, params.base, params.base_params)

    def run(self, policy: "Policy", rows: list[Row], params: ConsistencyParams, micro_batch: int) -> list[Scored]:
        base, of_base = base_of(params.base, params.base_params)
        items = base.run(policy, rows, of_base, micro_batch)
        groups = grouped(items, params)
        return [_compared(item, row, groups[self.unit(row, params)]) for item, row in zip(items, rows, strict=True)]

    def details(self, items: list[Scored], params: ConsistencyParams) -> dict[str, Any]:
        groups = grouped(items, params)
        clusters = [group[0].cluster for group in groups.values()]
        every = [float(all(item.values["right"] == 1 for item in group)) for group in groups.values()]
        metrics = {
            "groups_all_right": mean_of(every, clusters),
            "groups_in_full_agreement": mean_of([float(_agreement(g) == 1) for g in groups.values()], clusters),
            "right": mean_of([item.values["right"] for item in items], [item.cluster for item in items]),
        }
        worst = sorted(groups, key=lambda name: (_agreement(groups[name]), name))[:SHOWN]
        return {
            "metrics": metrics,
            "examples": [_example(name, groups[name]) for name in worst],
            "remarks": _remarks(items, len(groups)),
        }


def question_of(item: str, cluster: str, params: ConsistencyParams) -> str:
    """The question that an item words; a rewrite's id is that of its item, a tilde and the rule."""
    return cluster if params.group == "cluster" else item.split(TILDE)[0]


def worded(row: Row, count: int) -> list[Row]:
    """The row, and a row for each verified rewrite of its last turn; what was rejected is noted in the first."""
    if not count:
        return [row]
    *before, last = row["prompt"]
    found = rewrites(last["content"], count, terms_of(row))
    made = [
        {**row, "id": f"{row['id']}{TILDE}{rule}", "prompt": [*before, {**last, "content": text}]}
        for rule, text in found.kept.items()
    ]
    return [{**row, "rejected": dict(found.rejected)}, *made]


def grouped(items: list[Scored], params: ConsistencyParams) -> dict[str, list[Scored]]:
    """The wordings of each question."""
    found: dict[str, list[Scored]] = {}
    for item in items:
        found.setdefault(question_of(item.item, item.cluster, params), []).append(item)
    return found


def _compared(item: Scored, row: Row, group: list[Scored]) -> Scored:
    """The item with its agreement with the other wordings of its question."""
    others = [other for other in group if other is not item]
    agreed = sum(agree(item, other) for other in others)
    values = {"right": item.score, **{REJECTED + why: float(n) for why, n in row.get("rejected", {}).items()}}
    return replace(
        item, score=agreed / len(others) if others else 1.0, weight=float(len(others)), baselines={}, values=values
    )


def agree(one: Scored, other: Scored) -> bool:
    """Both right, or the same answer."""
    return (one.score == 1 and other.score == 1) or _plain(one.answer) == _plain(other.answer)


def _plain(answer: str) -> str:
    return re.sub(r"\W+", " ", answer.casefold()).strip()


def _agreement(group: list[Scored]) -> float:
    return sum(item.score for item in group) / len(group)


def _example(name: str, group: list[Scored]) -> dict[str, Any]:
    rows = [{"prompt": item.prompt, "answer": item.answer, "score": item.values["right"]} for item in group]
    return {"title": f"{name}: {100 * _agreement(group):.0f} % of the pairs agree", "rows": rows}


def _remarks(items: list[Scored], groups: int) -> list[str]:
    made = sum(TILDE in item.item for item in items)
    found = [f"{groups} questions in {len(items)} wordings."]
    if made:
        why: Counter[str] = Counter()
        for item in items:
            why.update({k.removeprefix(REJECTED): int(n) for k, n in item.values.items() if k.startswith(REJECTED)})
        rejected = ", ".join(f"{reason}: {n}" for reason, n in sorted(why.items())) or "none"
        found.append(f"{made} of these were made by rule and verified; rejected: {rejected}.")
    return found
