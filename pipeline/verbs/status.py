"""`journeyman status`: the plan with what is in the store, or the run that is under way."""

import argparse
from pathlib import Path

from pipeline.display import Screen
from pipeline.guard import Answer
from pipeline.planned import announce, plan_of


def status(options: argparse.Namespace, screen: Screen) -> Answer:
    """With --check every file of what is shown is hashed, and damage is exit code 5."""
    from pipeline.fsck import mark_damaged

    if options.follow:
        return _follow(options, screen)
    loaded, store, plan = plan_of(options, options.overrides)
    for node in plan.to_build:
        if store.locked(node.id):
            node.status, node.reason = "RUNNING", "another process builds it now"
    damaged = options.check and mark_damaged(plan, store)
    announce(screen, loaded, store, plan)
    return 5 if damaged else 0, {"experiment": plan.experiment.name, "stages": plan.table(extra=True)}


def _follow(options: argparse.Namespace, screen: Screen) -> Answer:
    from pipeline.config.load import load
    from pipeline.follow import follow
    from pipeline.store import Store

    experiment = load(options.overrides, options.config_dir).experiment
    return follow(Store(Path(experiment.store.root or "store")), experiment.name, screen)
