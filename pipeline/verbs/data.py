"""`journeyman data`: what an experiment's contracts find, and what becomes of a file that is in no experiment yet."""

import argparse
from typing import Any

from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.planned import Planned, plan_of, plans_of_folds


def data(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    match options.names:
        case ["inspect", path]:
            return _inspect(options, screen, path)
        case ["check"]:
            return _check(options, screen)
    raise ConfigError("data check experiment=NAME, or data inspect FILE [format=... layout=... on_error=salvage]")


def _check(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    """Exit code 4 where a check finds an error."""
    from pipeline.display import sentence

    first = plan_of(options, options.overrides)
    plans = plans_of_folds(options, first)
    found = _found(options, screen, plans)
    plan = first[2]
    if not found:
        screen.say("no stage of this experiment has a contract for its data")
    for check, findings in found.items():
        screen.say(f"{check}: {len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'}")
        for finding in findings:
            some = ", ".join(map(str, finding["folds"])) if len(finding.get("folds", plans)) < len(plans) else ""
            screen.say(f"  {finding['level']}{f' (fold {some})' if some else ''}: {sentence(finding)}")
        for page in sorted(plan.nodes[check].stored.path.glob("quality/*/quality.html")):  # type: ignore[union-attr]
            screen.say(f"  {page}")
    broken = any(finding["level"] == "error" for findings in found.values() for finding in findings)
    return 4 if broken else 0, {"experiment": plan.experiment.name, "checks": found}


def _found(options: argparse.Namespace, screen: Screen, plans: dict[int, Planned]) -> dict[str, list[dict[str, Any]]]:
    """check -> its findings; of several folds together, each with the folds that have it."""
    from pipeline.folds import merge
    from pipeline.runner import Run, check_data

    together: dict[str, list[dict[str, Any]]] = {}
    for fold, (loaded, store, plan) in plans.items():
        if len(plans) > 1:
            screen.say(f"fold {fold}")
        found = check_data(Run(plan, store, loaded, screen, options.debug, options.begin))
        if len(plans) == 1:
            return found
        for check, findings in found.items():
            merge(together.setdefault(check, []), findings, fold)
    return together


def _inspect(options: argparse.Namespace, screen: Screen, path: str) -> tuple[int, Any]:
    """The kind `prepare` knows files and rows, the engine does not."""
    from pipeline.registry import load_kinds

    settings = dict(word.split("=", 1) for word in options.overrides if "=" in word)
    found = load_kinds()["prepare"].stage().inspect(path, settings)
    for line in found.lines():
        screen.say(line)
    return found.exit_code, found.json()
