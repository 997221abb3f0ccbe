"""Suites written out: tasks named under `eval.retention`, data sets of suites that bring their items, `eval.share`."""

import math
import re
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.registry import kind
from pipeline.schema import Evaluation, Suite

HARNESS = "harness"  # the measurement that `retention` stands for
GENERAL = "general"


def complete_suites(asked: Evaluation, sets: Container[str]) -> dict[str, dict[str, Any]]:
    """Add the suites of `retention`, name a data set in every suite that brings its items, apply `share` to limits.

    Returns these data sets with their configurations. `sets`: the names of the experiment's own. ConfigError where a
    name is taken, where a suite lacks its data, or where it has data that nothing would read.
    """
    if not 0 < asked.share <= 1:
        raise ConfigError(f"eval.share={asked.share}: above 0 and at most 1, the part of every limit that is measured")
    for task in asked.retention:
        name = re.sub(r"[^\w-]", "_", Path(task).stem)
        if name in asked.suites:
            raise ConfigError(f"eval.retention: {task} becomes a suite '{name}', and there is one; rename that")
        asked.suites[name] = Suite(measure=HARNESS, params={"tasks": task}, about=GENERAL)
    for name, suite in asked.suites.items():
        if suite.limit > 0:
            asked.suites[name] = replace(suite, limit=math.ceil(suite.limit * asked.share))
    made = {name: brought for name, suite in asked.suites.items() if (brought := _brought(name, suite))}
    for name in made:
        asked.suites[name] = replace(asked.suites[name], data=f"{name}_items")
        if f"{name}_items" in sets:
            raise ConfigError(f"data.{name}_items: the items of the suite {name} get this name; rename yours")
    return {f"{name}_items": brought for name, brought in made.items()}


def _brought(name: str, suite: Suite) -> dict[str, Any] | None:
    """The configuration of the data set that the suite brings; None for one that names its data set."""
    brought, place = kind("evaluate").stage().items(name, suite), f"eval.suites.{name}.data"
    if brought is None and not suite.data:
        raise ConfigError(f"{place}: a value is required and none is given")
    if brought is not None and suite.data:
        raise ConfigError(f"{place}={suite.data}: {suite.measure} brings its own items; take it out")
    return brought
