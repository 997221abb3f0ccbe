"""The slices of a suite: all of it, the values of its declared columns, and clusters of its prompts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.diagnosis.clusters import discover
from stages.diagnosis.failures import Suite

ALL, DECLARED, DISCOVERED = "all", "declared", "discovered"


@dataclass(frozen=True)
class Slice:
    """Some items of a suite by their places. `column` and `value` of a declared one."""

    name: str
    kind: str
    inside: NDArray[np.bool_]
    column: str = ""
    value: str = ""


def slices(suite: Suite) -> list[Slice]:
    """All of them, no two with the same items: a declared slice goes before a discovered one."""
    found = [Slice(f"all of {suite.name}", ALL, np.ones(len(suite.ids), dtype=bool))]
    seen = {found[0].inside.tobytes()}
    for one in (*_declared(suite), *_discovered(suite)):
        if one.inside.tobytes() not in seen:
            seen.add(one.inside.tobytes())
            found.append(one)
    return found


def _declared(suite: Suite) -> Iterator[Slice]:
    columns = dict.fromkeys(column for item in suite.columns for column in item)
    for column in columns:
        values = [item.get(column) for item in suite.columns]
        for value in sorted({value for value in values if value is not None}):
            inside = np.array([each == value for each in values])
            yield Slice(f"{column}={value}", DECLARED, inside, column, value)


def _discovered(suite: Suite) -> Iterator[Slice]:
    for name, places in discover(suite.prompts).items():
        inside = np.zeros(len(suite.ids), dtype=bool)
        inside[places] = True
        yield Slice(name, DISCOVERED, inside)
