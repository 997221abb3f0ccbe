"""`journeyman explain STAGE`: the change furthest up that makes a stage run again, and the others."""

import argparse
from typing import Any

from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.planned import first_fold, plan_of, require_stage


def explain(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    from pipeline import explain as explaining

    loaded, store, plan = plan_of(options, options.overrides)
    if not options.names:
        raise ConfigError(f"explain needs a stage: {', '.join(plan.nodes)}")
    require_stage(options.names[0], plan)
    found = explaining.explain(plan, store, options.names[0])
    for line in first_fold((loaded, store, plan)):
        screen.say(line)
    screen.say(f"{found.stage} ({found.id}): {screen.status(found.status, 0)}: {found.reason}")
    for number, cause in enumerate(found.causes):
        way = f" ({' -> '.join(found.way)})" if number == 0 and len(found.way) > 1 else ""
        screen.say(f"  {'also' if number else 'first cause'}: {cause}{way}")
    if not found.causes:
        screen.say(f"  {'nothing' if found.status == 'HIT' else 'no key and no input'} changed since the last run")
    for line in found.drift:
        screen.say(f"  note: {line}")
    return 0, found.json()
