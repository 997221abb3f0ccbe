"""An experiment composed and planned, with which most verbs begin. What a step needs is imported by that step."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.display import Screen
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.load import Loaded
    from pipeline.planner import Plan
    from pipeline.remote import Remote
    from pipeline.schema import Experiment
    from pipeline.store import Store

Planned = tuple["Loaded", "Store", "Plan"]
READ_THROUGH = ("run", "plan", "status", "pull", "data", "retrain", "adopt")  # the others only tell of what is here


def plan_of(options: argparse.Namespace, overrides: Sequence[str]) -> Planned:
    """Where folds are left open, the plan of the first one."""
    from pipeline.config.load import load
    from pipeline.fingerprint import use_cache
    from pipeline.folds import at, left_open
    from pipeline.planner import make_plan
    from pipeline.store import Store

    loaded = load(overrides, options.config_dir, _warm_ahead if options.verb == "run" else lambda: None)
    if opened := left_open(loaded.experiment):
        loaded = replace(load([*overrides, *at(opened, 0)], options.config_dir), opened=opened)
    store = Store(Path(loaded.experiment.store.root or "store"))
    use_cache(store.cache / "files.json")
    force = [name for item in options.force for name in item.split(",")]
    remote = remote_of(loaded.experiment) if options.verb in READ_THROUGH else None
    choice = {"remote": remote, "start": options.start, "until": options.until, "force": force}
    return loaded, store, make_plan(loaded.experiment, store, **choice)


def store_of(options: argparse.Namespace) -> "Store":
    """The store that the command line names, without an experiment."""
    from pipeline.config.compose import store_root
    from pipeline.config.search import config_folders
    from pipeline.store import Store

    return Store(store_root(options.overrides, config_folders(options.config_dir)))


def remote_of(experiment: "Experiment") -> "Remote | None":
    """The mirror that the experiment names; nothing is imported or asked without one."""
    if experiment.store.remote is None:
        return None
    from pipeline.remote import open_remote

    return open_remote(experiment.store.remote)


def _warm_ahead() -> None:
    from pipeline.children import warm_ahead

    warm_ahead()


def plans_of_folds(options: argparse.Namespace, first: Planned) -> dict[int, Planned]:
    """Plans of all folds that are open, or the only plan."""
    from pipeline import folds

    opened = opened_folds(first)
    rest = range(1, folds.number(opened)) if opened else ()
    return {0: first} | {n: plan_of(options, [*options.overrides, *folds.at(opened, n)]) for n in rest}


def opened_folds(planned: Planned) -> dict[str, int]:
    """data set -> number of its folds, of the sets that the plan uses and whose fold nobody chose."""
    loaded, _, plan = planned
    return {name: k for name, k in loaded.opened.items() if name in plan.nodes}


def announce(screen: Screen, loaded: "Loaded", store: "Store", plan: "Plan") -> None:
    from pipeline.explain import drifted

    screen.say(f"{plan.experiment.name} in {store.root}")
    for sentence in (*loaded.chosen, *first_fold((loaded, store, plan))):
        screen.say(sentence)
    screen.plan(plan)
    names = drifted(plan, store)
    if names:
        screen.say(
            f"note: built by other code or packages: {', '.join(names)} (`explain STAGE` lists it, --force rebuilds)"
        )


def first_fold(planned: Planned) -> list[str]:
    """Sentences that say of which fold a verb speaks where nobody chose one."""
    first = "data.{}.split.fold=0 (the first of {} folds; `run` makes a chain for each)"
    return [first.format(name, k) for name, k in opened_folds(planned).items()]


def require_stage(name: str, plan: "Plan") -> None:
    from pipeline.config.typed import nearest

    if name not in plan.nodes:
        raise ConfigError(f"there is no stage '{name}'{nearest(name, plan.nodes)}; known: {', '.join(plan.nodes)}")
