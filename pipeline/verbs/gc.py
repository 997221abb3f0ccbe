"""`journeyman gc`: what nothing needs any more."""

import argparse

from pipeline.display import Screen
from pipeline.guard import Answer
from pipeline.planned import store_of


def gc(options: argparse.Namespace, screen: Screen) -> Answer:
    from pipeline.pins import apply_gc, plan_gc

    store = store_of(options)
    sweep = plan_gc(store, options.days)
    for folder in (*sweep.attempts, *sweep.works):
        screen.say(f"  {'to the trash' if options.apply else 'would go'}: {store.relative(folder)}")
    for folder in sweep.trash:
        screen.say(f"  {'deleted' if options.apply else 'would be deleted'}: {store.relative(folder)}")
    if options.apply:
        apply_gc(store, sweep)
    screen.say(f"{sweep.bytes / 2**20:.1f} MiB" + ("" if options.apply else "; nothing was changed, --apply does it"))
    names = {key: [store.relative(path) for path in getattr(sweep, key)] for key in ("attempts", "works", "trash")}
    return 0, {**names, "bytes": sweep.bytes, "applied": options.apply}
