"""`journeyman plan`: what `run` would do, and why."""

import argparse

from pipeline.display import Screen
from pipeline.guard import Answer
from pipeline.planned import Planned, announce, plan_of, plans_of_folds


def plan(options: argparse.Namespace, screen: Screen) -> Answer:
    from pipeline.runner import check_configs

    loaded, store, plan = plan_of(options, options.overrides)
    announce(screen, loaded, store, plan)
    check_configs(plan)
    _other_folds(options, screen, (loaded, store, plan))
    return 0, {"experiment": plan.experiment.name, "stages": plan.table()}


def _other_folds(options: argparse.Namespace, screen: Screen, first: Planned) -> None:
    """One line for each further fold: what it builds that no fold before it builds."""
    seen = {node.id for node in first[2].to_build}
    for fold, (_, _, plan) in list(plans_of_folds(options, first).items())[1:]:
        names = [node.name for node in plan.to_build if node.id not in seen]
        screen.say(f"  fold {fold}: {'builds ' + ', '.join(names) if names else 'all up to date'}")
        seen |= {node.id for node in plan.to_build}
