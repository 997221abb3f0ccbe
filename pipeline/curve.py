"""Points of a learning curve: the same experiment, one stage of it trained on a share of its data."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.config.load import Loaded
from pipeline.config.typed import typed_experiment
from pipeline.context import Measured
from pipeline.errors import ConfigError
from pipeline.graph import trained_on
from pipeline.node import Node, above
from pipeline.planner import Plan, make_plan
from pipeline.store import Store

SHARES = (0.25, 0.5)  # the whole is there already
SUFFIX = "curve"  # of the experiment's name, so that its latest run stays what it is


def plan_point(loaded: Loaded, store: Store, node: Node, share: float) -> tuple[Loaded, Plan]:
    """The experiment whose stage `node` has no more than this share, planned up to the evaluation of that stage.

    ConfigError where its data is made by another stage and cannot be cut.
    """
    resolved = at_share(loaded.resolved, node.name, trained_on(node), share)
    experiment = typed_experiment(resolved)
    plan = make_plan(experiment, store)
    needed = above(f"eval_{node.name}", plan.nodes)  # without the checks of data, which was checked as a whole
    nodes = {name: one for name, one in plan.nodes.items() if name in needed}
    return replace(loaded, experiment=experiment, resolved=resolved), Plan(experiment, nodes)


def at_share(resolved: Mapping[str, Any], stage: str, roles: Mapping[str, str], share: float) -> dict[str, Any]:
    """The configuration in which the stage reads copies of its data sets with `fraction=share`; no other stage does."""
    if stage not in resolved["stages"]:
        raise ConfigError(f"stages.{stage}: it is one round of another stage; diagnose that stage")
    for name in roles.values():
        if name not in resolved["data"]:
            raise ConfigError(f"stages.{stage}.data: '{name}' is made by a stage; no share of it can be trained on")
    copies = {name: f"{name}-{100 * share:.0f}" for name in roles.values()}
    fraction = {name: resolved["data"][name].get("fraction", 1.0) * share for name in copies}
    data = {copy: {**resolved["data"][name], "fraction": fraction[name]} for name, copy in copies.items()}
    config = resolved["stages"][stage]
    own = {**config, "data": {**config["data"], **{role: copies[name] for role, name in roles.items()}}}
    return {
        **resolved, "name": f"{resolved['name']}-{SUFFIX}", "gates": {}, "data": {**resolved["data"], **data},
        "stages": {**resolved["stages"], stage: own},
    }  # fmt: skip


def measured(plan: Plan, stage: str) -> Measured | None:
    """The stage's model and its evaluation; None where they are not both in the store."""
    model, evaluation = (plan.nodes[name].stored for name in (stage, f"eval_{stage}"))
    return Measured(model.artifact(), evaluation.artifact()) if model and evaluation else None


def seconds(points: Iterable[tuple[float, Plan]], whole: Plan) -> float:
    """About how long building takes, by what the stages took on all data."""
    total = 0.0
    for share, plan in points:
        for node in plan.to_build:
            known = whole.nodes.get(node.name)
            took = known.stored.manifest["seconds"] if known and known.stored else 0.0
            total += took if node.name.startswith("eval_") else took * share
    return total
