"""`journeyman eval diagnose`: why a trained stage fails where it fails, and what data would help."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.display import Screen, duration
from pipeline.errors import ConfigError
from pipeline.planned import Planned, first_fold, plan_of, require_stage

if TYPE_CHECKING:
    from pipeline.context import Artifact, Measured
    from pipeline.node import Node
    from pipeline.planner import Plan

HELP = "eval diagnose experiment=NAME [STAGE] [--no-training]"


def evaluation(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    match options.names:
        case ["diagnose"]:
            return _diagnose(options, screen, None)
        case ["diagnose", stage]:
            return _diagnose(options, screen, stage)
    raise ConfigError(HELP)


def _diagnose(options: argparse.Namespace, screen: Screen, name: str | None) -> tuple[int, Any]:
    """Train the points of the learning curve, diagnose, write diagnosis.json beside run.json and the report anew."""
    from pipeline.curve import measured
    from pipeline.manifest import now, write_json
    from pipeline.registry import kind
    from pipeline.report import write_diagnosis

    planned = plan_of(options, options.overrides)
    for line in first_fold(planned):
        screen.say(line)
    node = _stage(planned[2], name)
    of = measured(planned[2], node.name)
    if of is None:
        raise ConfigError(f"{node.name} is not built and measured with this configuration; `journeyman run` does that")
    folder = _run_of(planned, node)
    code, curve = _curve(options, screen, planned, node)
    if code:
        return code, {"error": "a point of the learning curve could not be built", "exit": code}
    found = kind("evaluate").stage().diagnose(of, _sets(planned[2], node), curve)
    about = {"stage": node.name, "model": of.model.id, "evaluation": of.evaluation.id, "made": now()}
    document = {"experiment": planned[2].experiment.name, "run": folder.name, **about, **found}
    write_json(folder / "diagnosis.json", document)
    for line in write_diagnosis(document, folder, planned[1].root):
        screen.say(line)
    return 0, document


def _stage(plan: "Plan", name: str | None) -> "Node":
    """The stage that is meant: a trained one that is measured, the last one unless a name is given."""
    models = [one for one in plan.nodes.values() if one.kind.stage.produces == "model" and not one.pinned]
    trained = [one.name for one in models if one.name != "base" and f"eval_{one.name}" in plan.nodes]
    if name is not None:
        require_stage(name, plan)
    if not trained or name not in (None, *trained):
        raise ConfigError(f"diagnose a stage that is trained and measured: {', '.join(trained) or 'there is none'}")
    return plan.nodes[name or trained[-1]]


def _run_of(planned: Planned, node: "Node") -> Path:
    """The folder of the newest run that used this evaluation."""
    _, store, plan = planned
    evaluation = plan.nodes[f"eval_{node.name}"].stored
    for run in store.past_runs(plan.experiment.name):
        if evaluation and run.get("stages", {}).get(f"eval_{node.name}", {}).get("attempt") == evaluation.attempt:
            return store.runs(plan.experiment.name) / run["run_id"]
    raise ConfigError(f"no run of {plan.experiment.name} has this model; `journeyman run` makes one and trains nothing")


def _sets(plan: "Plan", node: "Node") -> "dict[str, Artifact]":
    """Data sets on which the model and those before it were trained."""
    from pipeline.curve import trained_on
    from pipeline.node import above

    makers = [plan.nodes[name] for name in plan.nodes if name in above(node.name, plan.nodes)]
    makers = [one for one in makers if one.kind.stage.produces in ("model", "reward")]
    names = dict.fromkeys(name for one in makers for name in trained_on(one).values())
    return {name: plan.nodes[name].stored.artifact(name) for name in names}  # type: ignore[union-attr]


def _curve(
    options: argparse.Namespace, screen: Screen, planned: Planned, node: "Node"
) -> "tuple[int, dict[float, Measured]]":
    """Exit code, and the points: all of them, with --no-training those that are in the store."""
    from pipeline.curve import SHARES, measured, plan_point, seconds
    from pipeline.runner import Run, execute

    loaded, store, plan = planned
    points = {share: plan_point(loaded, store, node, share) for share in SHARES}
    missing = {share: point for share, point in points.items() if point[1].to_build}
    if missing and options.no_training:
        screen.say(f"not trained, so not on the learning curve: {_shares(missing)} of the data")
    elif missing:
        took = duration(seconds([(share, point) for share, (_, point) in missing.items()], plan))
        screen.say(f"the learning curve of {node.name} needs models trained on less data, about {took}:")
        for _, point in missing.values():
            screen.plan(point)
        for less, point in missing.values():
            if code := execute(Run(point, store, less, screen, options.debug)):
                return code, {}
    found = {share: measured(point, node.name) for share, (_, point) in points.items()}
    return 0, {share: one for share, one in found.items() if one}


def _shares(shares: Iterable[float]) -> str:
    return " and ".join(f"{100 * share:.0f} %" for share in shares)
