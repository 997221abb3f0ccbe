"""The model that may become the champion: whose it is, which gates it must pass, and whether it did."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.config.load import Loaded
from pipeline.errors import Busy, ConfigError
from pipeline.node import Node, above
from pipeline.pins import set_pin
from pipeline.planner import Plan
from pipeline.schema import Gate
from pipeline.store import Store, Stored


def champion_pin(experiment: str) -> str:
    return f"{experiment}-champion"


def promoted_stage(plan: Plan, named: str | None) -> str:
    """The stage whose model is promoted. ConfigError if it makes no model, or none that is measured."""
    models = [name for name, node in plan.nodes.items() if _makes_model(node)]
    if not models:
        raise ConfigError(f"experiment {plan.experiment.name} trains no model, so there is nothing to promote")
    stage = named or plan.experiment.retrain.stage or models[-1]
    if stage not in models:
        raise ConfigError(f"{stage} trains no model that could be promoted; known: {', '.join(models)}")
    if f"eval_{stage}" not in plan.nodes:
        raise ConfigError(
            f"{stage} is not evaluated, so no gate can compare it with the champion; add suites, or {stage} to "
            "eval.models"
        )
    return stage


def _makes_model(node: Node) -> bool:
    return node.kind.stage.produces == "model" and node.name != "base" and not node.pinned


def add_gates(loaded: Loaded, plan: Plan, stage: str) -> list[str]:
    """Gates `champion_SUITE` for every suite of the stage that no gate compares with the champion; their names."""
    experiment = loaded.experiment
    suites = list(plan.nodes[f"eval_{stage}"].config.suites)  # type: ignore[attr-defined]
    compared = {gate.suite for gate in experiment.gates.values() if gate.stage == stage and gate.against == "champion"}
    added = {
        f"champion_{suite}": Gate(stage, suite, "not_worse", "champion", experiment.retrain.margin)
        for suite in suites if suite not in compared
    }  # fmt: skip
    if clash := sorted(added.keys() & experiment.gates.keys()):
        raise ConfigError(f"gates.{clash[0]}: retraining makes a gate of this name; rename yours")
    experiment.gates |= added
    loaded.resolved.setdefault("gates", {}).update({name: asdict(gate) for name, gate in added.items()})
    return list(added)


def refusals(plan: Plan, stage: str, record: Mapping[str, Any]) -> list[str]:
    """Why the stage's model may not be promoted, by the gates of it and of what it is made from; empty: it may."""
    lineage = above(stage, plan.nodes)
    judged = {entry["name"]: entry for entry in record["gates"]}
    found = []
    for name, gate in plan.experiment.gates.items():
        if gate.stage not in lineage or gate.action != "block":
            continue
        if name not in judged:
            found.append(f"{name} was not judged: the run did not get that far")
        elif not judged[name]["passed"]:
            found.append(judged[name]["sentence"])
    return found


def promote(store: Store, experiment: str, candidate: Stored, against: Stored | None) -> None:
    """Make the candidate the champion; the one before it stays as the pin NAME-previous, for a way back.

    Busy where the champion is no longer the one that the candidate was compared with.
    """
    pin = champion_pin(experiment)
    now = store.pinned(pin)
    if (now.path if now else None) != (against.path if against else None):
        raise Busy(
            f"the pin {pin} was changed while the new model was being judged, so it was compared with the wrong one; "
            "nothing was promoted. The same command judges it again"
        )
    if now:
        set_pin(store, f"{experiment}-previous", now)
    set_pin(store, pin, candidate)
