"""The command `journeyman`. Stage processes import this module again, so what a verb needs is imported by the verb."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline.adopt_verb import adopt
from pipeline.compare_verb import compare
from pipeline.data_verb import data
from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.eval_verb import evaluation
from pipeline.explain_verb import explain
from pipeline.guard import Answer, guarded, interrupt
from pipeline.planned import (
    Planned,
    announce,
    opened_folds,
    plan_of,
    plans_of_folds,
    require_stage,
    store_of,
)  # fmt: skip
from pipeline.redaction import redacted
from pipeline.remote_verb import pull, push
from pipeline.retraining.verbs import promote, retrain
from pipeline.show_verb import show
from pipeline.store_verb import store

if TYPE_CHECKING:
    from pipeline.store import Store, Stored

ANY = sys.maxsize
# How many names a verb takes at most.
NAMES = {"explain": 1, "show": 1, "pins": 3, "data": 2, "eval": 2, "store": 1, "promote": 1, "adopt": 1, "pull": 1}
NAMES |= {"compare": ANY, "push": ANY}

USAGE = """journeyman VERB [overrides...] [options]

  run       build what is not built yet, judge the gates, write the report   (-m: a sweep)
  plan      what `run` would do, and why
  status    the same with what is in the store (--check hashes every file of it; --follow watches the run under way)
  explain   STAGE: which change makes it run again
  show      [STAGE]: the chain as a tree, or what is known of one artifact (--lineage json|mermaid)
  compare   A B ...: models side by side, by run, experiment[:STAGE], pin or id (--rank SUITE, --out FILE.html)
  data      check: what the contracts of an experiment's data find, before anything is trained
            inspect FILE: what becomes of a file's rows, before it is in any experiment
  eval      diagnose [STAGE]: which slices fail, and would more or other data help (--no-training: from what is built)
  retrain   check, plan, run what changed, judge against the champion, promote or refuse (--dry-run: what asks for it)
  promote   [STAGE]: make a model that is in the store the champion, if its gates pass (--because "why": even if not)
  pins      [set NAME STAGE-OR-ID | rm NAME]: names that keep artifacts
  adopt     FOLDER: a PEFT adapter or a model that was made elsewhere becomes an artifact (--as STAGE names it)
  store     fsck: hash everything that is published (--repair mends what needs no building)
  push      [STAGE ...]: send what is built to store.remote (--dry-run only lists, --check hashes what is there)
  pull      [ID]: fetch what store.remote has of an experiment, or an artifact with all that it was made from
  gc        what nothing needs any more (--apply moves it to the trash)

Overrides are Hydra's: experiment=legal stages.dpo.train.beta=0.2 budget=smoke store.root=FOLDER"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one message on stderr."""
    options = _parse(list(sys.argv[1:] if argv is None else argv))
    options.begin, options.sweep, options.threads, options.gpu = time.time(), None, 0, None
    screen = Screen(options.json)
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        code, document = guarded(options, screen, lambda: VERBS[options.verb](options, screen))
    finally:
        signal.signal(signal.SIGTERM, before)
    if options.json:
        print(json.dumps(redacted(document), indent=1))
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (`journeyman --help` shows what there is)\n")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser("journeyman", usage=USAGE)
    add = parser.add_argument
    add("verb", metavar="VERB", nargs="?")
    add("words", nargs="*", metavar="override")
    add("--from", dest="start", metavar="STAGE", help="rebuild this stage and all below it")
    add("--until", metavar="STAGE", help="only this stage and what it needs")
    add("--force", action="append", default=[], metavar="STAGE", help="rebuild this stage (may be repeated)")
    add("-m", "--multirun", action="store_true", help="sweep over values with commas")
    add(
        "-cd", "--config-dir", action="append", default=[], metavar="DIR", help="look here too for experiment/NAME.yaml"
    )
    add("--json", action="store_true", help="one JSON document on stdout, nothing else")
    add("--debug", action="store_true", help="show tracebacks")
    add("--as", dest="stage_name", default="adopted", metavar="STAGE", help="adopt: the stage that an adapter becomes")
    add("--check", action="store_true", help="status, push: hash every file of what is shown")
    add("--follow", action="store_true", help="status: watch the run that is under way until it ends")
    add("--lineage", choices=("json", "mermaid"), help="show STAGE: all that it was made from, as data or as a graph")
    add("--repair", action="store_true", help="store fsck: mend what needs no building")
    add("--apply", action="store_true", help="gc: really move to the trash")
    add("--out", metavar="FILE", help="compare: write an HTML page")
    add("--rank", metavar="SUITE", help="compare: the best on this suite first; with one run, of its whole multirun")
    add("--no-training", action="store_true", help="eval diagnose: no models on less data, only those in the store")
    add("--days", type=float, default=14.0, help="gc: keep what runs of this many days used")
    add("--dry-run", action="store_true", help="retrain, push, pull: say what would be done, do nothing")
    add("--because", metavar="WHY", help="promote: whatever the gates say; the reason is kept")
    options = parser.parse_intermixed_args(argv)
    if options.verb is None:
        parser.exit(2, USAGE + "\n")
    if options.verb not in VERBS:
        near = get_close_matches(options.verb, VERBS, 1)
        parser.error(f"there is no verb '{options.verb}'" + (f", did you mean '{near[0]}'?" if near else ""))
    options.names = [word for word in options.words if "=" not in word and not word.startswith("~")]
    options.overrides = [word for word in options.words if word not in options.names]
    most = NAMES.get(options.verb, 0)
    if len(options.names) > most:
        word = options.names[most]
        parser.error(f"'{word}' is no override, which looks like key=value; --from, --until and --force choose stages")
    return options


# -- verbs --------------------------------------------------------------------------------------------------------
def _run(options: argparse.Namespace, screen: Screen) -> Answer:
    """One chain, or a sweep of chains: one for each fold where the folds are left open."""
    from pipeline.multirun import all_folds, multirun, run_planned

    if options.multirun:
        return multirun(options, screen)
    planned = plan_of(options, options.overrides)
    return all_folds(options, screen, planned) if opened_folds(planned) else run_planned(options, screen, planned)


def _plan(options: argparse.Namespace, screen: Screen) -> Answer:
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


def _status(options: argparse.Namespace, screen: Screen) -> Answer:
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
    from pipeline.config import load
    from pipeline.follow import follow
    from pipeline.store import Store

    experiment = load(options.overrides, options.config_dir).experiment
    return follow(Store(Path(experiment.store.root or "store")), experiment.name, screen)


def _pins(options: argparse.Namespace, screen: Screen) -> Answer:
    from pipeline.pins import pins, remove_pin, set_pin

    store = store_of(options)
    match options.names:
        case []:
            pass
        case ["set", name, what]:
            set_pin(store, name, _find(options, store, what))
        case ["rm", name]:
            remove_pin(store, name)
        case _:
            raise ConfigError("pins | pins set NAME STAGE-OR-ID | pins rm NAME")
    found = pins(store)
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


def _gc(options: argparse.Namespace, screen: Screen) -> Answer:
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


VERBS: dict[str, Callable[[argparse.Namespace, Screen], Answer]] = {
    "run": _run,
    "plan": _plan,
    "status": _status,
    "explain": explain,
    "show": show,
    "compare": compare,
    "data": data,
    "eval": evaluation,
    "retrain": retrain,
    "promote": promote,
    "pins": _pins,
    "adopt": adopt,
    "store": store,
    "push": push,
    "pull": pull,
    "gc": _gc,
}
