"""`journeyman pins`: names that keep artifacts."""

import argparse
from typing import TYPE_CHECKING

from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.guard import Answer
from pipeline.planned import plan_of, require_stage, store_of

if TYPE_CHECKING:
    from pipeline.store import Store, Stored


def pins(options: argparse.Namespace, screen: Screen) -> Answer:
    from pipeline import pins as keeping

    store = store_of(options)
    match options.names:
        case []:
            pass
        case ["set", name, what]:
            keeping.set_pin(store, name, _find(options, store, what))
        case ["rm", name]:
            keeping.remove_pin(store, name)
        case _:
            raise ConfigError("pins | pins set NAME STAGE-OR-ID | pins rm NAME")
    found = keeping.pins(store)
    screen.rows([(name, entry["stage"], entry["kind"], entry["id"], entry["attempt"]) for name, entry in found.items()])
    return 0, {"pins": found}


def _find(options: argparse.Namespace, store: "Store", what: str) -> "Stored":
    """The artifact meant by an id (or its beginning), or by a stage of the experiment given as override."""
    by_id = store.find(what) if len(what) >= 4 and all(c in "0123456789abcdef" for c in what) else []
    if len(by_id) == 1:
        return by_id[0]
    if len(by_id) > 1:
        raise ConfigError(f"{what} is the beginning of {len(by_id)} ids; give more digits")
    if not any(word.startswith("experiment=") for word in options.overrides):
        raise ConfigError(f"there is no artifact {what}; to pin a stage by name, add experiment=NAME")
    _, _, plan = plan_of(options, options.overrides)
    require_stage(what, plan)
    stored = plan.nodes[what].stored
    if stored is None:
        raise ConfigError(f"{what} is not built with this configuration: {plan.nodes[what].reason}")
    return stored
