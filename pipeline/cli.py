"""The command `journeyman`. Stage processes import this module again, so what a verb needs is imported by the verb."""

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.compare_verb import compare
from pipeline.data_verb import data
from pipeline.display import Screen, duration
from pipeline.errors import ConfigError, JourneymanError
from pipeline.planned import (
    Planned,
    announce,
    first_fold,
    opened_folds,
    plan_of,
    plans_of_folds,
    require_stage,
    store_of,
)  # fmt: skip
from pipeline.retraining.verbs import promote, retrain
from pipeline.store_verb import store

if TYPE_CHECKING:
    from pipeline.folds import Chain
    from pipeline.store import Store, Stored

Answer = tuple[int, Any]  # exit code, and the document for --json

USAGE = """journeyman VERB [overrides...] [options]

  run       build what is not built yet, judge the gates, write the report   (-m: a sweep, one cell after the other)
  plan      what `run` would do, and why
  status    the same with what is in the store
  explain   STAGE: which change makes it run again
  show      [STAGE]: the chain, or what is known of one artifact
  compare   A B ...: models side by side, by run, experiment[:STAGE], pin or id (--rank SUITE, --out FILE.html)
  data      check: what the contracts of an experiment's data find, before anything is trained
            inspect FILE: what becomes of a file's rows, before it is in any experiment
  retrain   check, plan, run what changed, judge against the champion, promote or refuse (--dry-run: what asks for it)
  promote   [STAGE]: make a model that is in the store the champion, if its gates pass (--because "why": even if not)
  pins      [set NAME STAGE-OR-ID | rm NAME]: names that keep artifacts
  store     fsck: hash everything that is published (--repair mends what needs no building)
  gc        what nothing needs any more (--apply moves it to the trash)

Overrides are Hydra's: experiment=legal stages.dpo.train.beta=0.2 budget=smoke store.root=FOLDER"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one message on stderr."""
    options = _parse(list(sys.argv[1:] if argv is None else argv))
    options.begin, options.built, options.sweep = time.time(), set(), None
    screen = Screen(options.json)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code, document = _guarded(options, screen, lambda: VERBS[options.verb](options, screen))
    finally:
        signal.signal(signal.SIGTERM, before)
    if options.json:
        print(json.dumps(document, indent=1))
    return code


def _guarded(options: argparse.Namespace, screen: Screen, action: Callable[[], Answer]) -> Answer:
    """The action's answer, or for an error its exit code and one message."""
    try:
        return action()
    except KeyboardInterrupt:
        return _failed(screen, "interrupted; the same command continues", 130)
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        if isinstance(error, JourneymanError):
            return _failed(screen, str(error), error.exit_code)
        if isinstance(error, OSError):
            return _failed(screen, _system(error, options), 5)
        return _failed(screen, f"unexpected {type(error).__name__}: {error} (--debug shows where)", 5)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _failed(screen: Screen, text: str, code: int) -> Answer:
    screen.error(text)
    return code, {"error": text, "exit": code}


def _system(error: OSError, options: argparse.Namespace) -> str:
    """A file system's complaint: nearly always the store's disk."""
    from pipeline.disk import unwritable

    given = [word.partition("=")[2] for word in options.words if word.startswith("store.root=")]
    return unwritable(error, Path(given[-1] if given else os.environ.get("JOURNEYMAN_STORE", "store")))


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
    add("--repair", action="store_true", help="store fsck: mend what needs no building")
    add("--apply", action="store_true", help="gc: really move to the trash")
    add("--out", metavar="FILE", help="compare: write an HTML page")
    add("--rank", metavar="SUITE", help="compare: the best on this suite first; with one run, of its whole multirun")
    add("--days", type=float, default=14.0, help="gc: keep what runs of this many days used")
    add("--dry-run", action="store_true", help="retrain: say which triggers fire, train nothing")
    add("--because", metavar="WHY", help="promote: whatever the gates say; the reason is kept")
    options = parser.parse_intermixed_args(argv)
    if options.verb is None:
        parser.exit(2, USAGE + "\n")
    if options.verb not in VERBS:
        near = get_close_matches(options.verb, VERBS, 1)
        parser.error(f"there is no verb '{options.verb}'" + (f", did you mean '{near[0]}'?" if near else ""))
    options.names = [word for word in options.words if "=" not in word and not word.startswith("~")]
    options.overrides = [word for word in options.words if word not in options.names]
    allowed = {"explain": 1, "show": 1, "pins": 3, "data": 2, "store": 1, "promote": 1, "compare": len(options.names)}
    if len(options.names) > (most := allowed.get(options.verb, 0)):
        word = options.names[most]
        parser.error(f"'{word}' is no override, which looks like key=value; --from, --until and --force choose stages")
    return options


# -- verbs --------------------------------------------------------------------------------------------------------
def _run(options: argparse.Namespace, screen: Screen) -> Answer:
    """One chain, or a sweep of chains: one for each fold where the folds are left open."""
    from pipeline import folds

    if options.multirun:
        opened = _opened_by_sweep(options)
        if opened:
            screen.say(f"{folds.told(opened)} for each cell of the sweep")
        return _multirun(options, screen, opened)
    planned = plan_of(options, options.overrides)
    opened = opened_folds(planned)
    if not opened:
        return _cell(options, screen, planned, options.begin)
    screen.say(folds.told(opened))
    return _multirun(options, screen, opened)


def _opened_by_sweep(options: argparse.Namespace) -> dict[str, int]:
    """The same for the first cell of a sweep, before its cells are planned."""
    from pipeline.config import load
    from pipeline.folds import left_open
    from pipeline.sweep import first_cell

    with suppress(ConfigError):  # its cell says what is wrong with it, and the others run
        return left_open(load(first_cell(options.overrides), options.config_dir).experiment)
    return {}


def _cell(options: argparse.Namespace, screen: Screen, planned: Planned, begin: float) -> Answer:
    """One composed and planned experiment up to its report."""
    from pipeline.runner import Run, execute

    loaded, store, plan = planned
    announce(screen, loaded, store, plan)
    run = Run(plan, store, loaded, screen, options.debug, begin, sweep=options.sweep)
    code = execute(run)
    options.built |= {stage["id"] for stage in run.record["stages"].values() if stage["status"] in ("BUILT", "RESUMED")}
    screen.say(f"{'done' if code == 0 else f'exit {code}'} in {duration(run.record['seconds'])}")
    return code, run.record


def _multirun(options: argparse.Namespace, screen: Screen, opened: dict[str, int]) -> Answer:
    """Each cell composes anew, so that it plans exactly like a single run. `opened`: sets that go through folds."""
    from pipeline import folds
    from pipeline.manifest import stamp
    from pipeline.search import config_folders
    from pipeline.sweep import sweep

    chains: list[folds.Chain] = []
    options.sweep = stamp()

    def cell(overrides: list[str]) -> None:
        overrides = folds.paired(overrides, opened)
        screen.say(f"\n[{len(chains) + 1}] {' '.join(overrides)}")
        begin = time.time()
        answer = _guarded(options, screen, lambda: _cell_of_sweep(options, screen, overrides, begin))
        chains.append(folds.Chain(overrides, *answer))
        if chains[-1].code == 130:
            raise KeyboardInterrupt

    sweep([*options.overrides, *folds.sweep(opened)], config_folders(options.config_dir), cell)
    code = max(chain.code for chain in chains)
    document = {"runs": [chain.record for chain in chains], "exit": code}
    return code, {**document, **_summaries(screen, chains)}


def _cell_of_sweep(options: argparse.Namespace, screen: Screen, overrides: Sequence[str], begin: float) -> Answer:
    planned = plan_of(options, overrides)
    if opened := opened_folds(planned):
        raise ConfigError(
            f"{' and '.join(f'data.{name}.split.fold' for name in opened)}: open in this cell of the sweep and not in "
            "its first one; give a value, or a command of its own for each experiment"
        )
    return _cell(options, screen, planned, begin)


def _summaries(screen: Screen, chains: "Sequence[Chain]") -> dict[str, Any]:
    """What chains that differ in their folds alone say together: `summary`, for several such groups `summaries`."""
    from pipeline.folds import groups, write_summary

    found = []
    for group in groups(chains):
        summary, lines = write_summary(group)
        for line in lines:
            screen.say(line)
        found.append(summary)
    return {"summary": found[0]} if len(found) == 1 else {"summaries": found} if found else {}


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
    loaded, store, plan = plan_of(options, options.overrides)
    for node in plan.to_build:
        if store.locked(node.id):
            node.status, node.reason = "RUNNING", "another process builds it now"
    announce(screen, loaded, store, plan)
    return 0, {"experiment": plan.experiment.name, "stages": plan.table(extra=True)}


def _explain(options: argparse.Namespace, screen: Screen) -> Answer:
    from pipeline.explain import explain

    loaded, store, plan = plan_of(options, options.overrides)
    if not options.names:
        raise ConfigError(f"explain needs a stage: {', '.join(plan.nodes)}")
    require_stage(options.names[0], plan)
    found = explain(plan, store, options.names[0])
    for line in first_fold((loaded, store, plan)):
        screen.say(line)
    screen.say(f"{found.stage} ({found.id}): {screen.status(found.status, 0)}: {found.reason}")
    for cause in found.causes:
        screen.say(f"  {cause}")
    if not found.causes:
        screen.say("  nothing changed since the last run")
    for line in found.drift:
        screen.say(f"  note: {line}")
    return 0, found.json()


def _show(options: argparse.Namespace, screen: Screen) -> Answer:
    loaded, store, plan = plan_of(options, options.overrides)
    if not options.names:
        announce(screen, loaded, store, plan)
        return 0, {"experiment": plan.experiment.name, "stages": plan.table(extra=True)}
    require_stage(options.names[0], plan)
    stored = plan.nodes[options.names[0]].stored
    if stored is None:
        raise ConfigError(f"{options.names[0]} is not built with this configuration; `journeyman run` builds it")
    for line in first_fold((loaded, store, plan)):
        screen.say(line)
    _show_artifact(screen, store, stored)
    return 0, dict(stored.manifest)


def _show_artifact(screen: Screen, store: "Store", stored: "Stored") -> None:
    manifest = stored.manifest
    size = sum(output["size"] for output in manifest["outputs"])
    screen.rows(
        [
            ("stage", f"{stored.stage} ({stored.kind})"),
            ("id", stored.id),
            ("attempt", stored.attempt),
            ("digest", stored.digest),
            ("folder", str(stored.path)),
            ("built", f"{manifest['started']}, {duration(manifest['seconds'])}"),
            ("size", f"{size / 2**20:.1f} MiB in {len(manifest['outputs'])} files"),
            *((f"input {role}", f"{item['id']} {item['attempt']}") for role, item in manifest["inputs"].items()),
            *((key, f"{value:.6g}") for key, value in manifest["metrics"].items()),
        ]
    )


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
    "explain": _explain,
    "show": _show,
    "compare": compare,
    "data": data,
    "retrain": retrain,
    "promote": promote,
    "pins": _pins,
    "store": store,
    "gc": _gc,
}
