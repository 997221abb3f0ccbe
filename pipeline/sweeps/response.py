"""Response curves: how a suite's score goes with each key that a sweep went through."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.judging.results import Results
from pipeline.judging.statistics import Items, estimate, paired

if TYPE_CHECKING:
    from pipeline.compare import Model


@dataclass(frozen=True)
class Point:
    """The cells with one value of the key: the score of their mean over items, with its 95 % interval."""

    value: str
    score: float
    low: float
    high: float
    cells: list[float]  # the score of each


@dataclass(frozen=True)
class Response:
    """Points in the order of the values. The other keys of the sweep vary within a point."""

    key: str
    metric: str
    points: list[Point]

    def json(self) -> dict[str, Any]:
        return asdict(self)


def responses(models: Sequence["Model"], suite: str) -> list[Response]:
    """One for each key with several values among the cells; cells on other items than the first are left out."""
    measured = [model for model in models if suite in model.summary]
    chosen = [_chosen(model.run) for model in measured]
    keys = dict.fromkeys(key for one in chosen for key in one)
    swept = [key for key in keys if len({one[key] for one in chosen if key in one}) > 1]
    items = [Results(model.node.evaluation.folder).items(suite) for model in measured]  # type: ignore[union-attr,arg-type]
    metric = str(measured[0].summary[suite]["metric"])
    found = [Response(key, metric, _points(_by_value(key, chosen, items), metric)) for key in swept]
    return [response for response in found if len(response.points) > 1]


def _chosen(run: Mapping[str, Any]) -> dict[str, str]:
    """key -> value, as the run's overrides choose it."""
    words = [word.lstrip("+").partition("=") for word in run.get("overrides", [])]
    return {key: value for key, equals, value in words if equals}


def _by_value(key: str, chosen: Sequence[Mapping[str, str]], items: Sequence[Items]) -> dict[str, list[Items]]:
    """value -> results of its cells; numbers in their order, then words."""
    groups: dict[str, list[Items]] = {}
    for one, found in zip(chosen, items, strict=True):
        if key in one and _same(items[0], found):
            groups.setdefault(one[key], []).append(found)
    return dict(sorted(groups.items(), key=lambda group: _order(group[0])))


def _order(value: str) -> tuple[bool, float, str]:
    at = number(value)
    return at is None, at or 0.0, value


def number(value: str) -> float | None:
    with suppress(ValueError):
        return float(value)
    return None


def _same(one: Items, other: Items) -> bool:
    with suppress(ValueError):
        paired(one, other)
        return True
    return False


def _points(groups: Mapping[str, Sequence[Items]], metric: str) -> list[Point]:
    points = []
    for value, cells in groups.items():
        found = estimate(_mean(cells), metric)
        alone = [estimate(one, metric).value for one in cells]
        points.append(Point(value, found.value, found.low, found.high, alone))
    return points


def _mean(cells: Sequence[Items]) -> Items:
    """Each item with its mean score over the cells, so that what is hard for all of them counts once."""
    first = cells[0]
    scores = [dict(zip(cell.ids, cell.scores, strict=True)) for cell in cells]
    return replace(first, scores=np.array([np.mean([one[name] for one in scores]) for name in first.ids]))
