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
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.display import Screen, duration
from pipeline.errors import ConfigError, JourneymanError

if TYPE_CHECKING:
    from pipeline.config import Loaded
    from pipeline.folds import Chain
    from pipeline.planner import Plan
    from pipeline.store import Store, Stored

Answer = tuple[int, Any]  # exit code, and the document for --json
Planned = tuple["Loaded", "Store", "Plan"]

USAGE = """journeyman VERB [overrides...] [options]

  run       build what is not built yet, judge the gates, write the report   (-m: a sweep, one cell after the other)
  plan      what `run` would do, and why
  status    the same with what is in the store
  explain   STAGE: which change makes it run again
  show      [STAGE]: the chain, or what is known of one artifact
  data      check: what the contracts of an experiment's data find, before anything is trained
            inspect FILE: what becomes of a file's rows, before it is in any experiment
  pins      [set NAME STAGE-OR-ID | rm NAME]: names that keep artifacts
  gc        what nothing needs any more (--apply moves it to the trash)

Overrides are Hydra's: experiment=legal stages.dpo.train.beta=0.2 budget=smoke store.root=FOLDER"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one message on stderr."""
    options = _parse(list(sys.argv[1:] if argv is None else argv))
    options.begin, options.built = time.time(), set()
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
    from pipeline.store import unwritable

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
    add("--apply", action="store_true", help="gc: really move to the trash")
    add("--days", type=float, default=14.0, help="gc: keep what runs of this many days used")
    options = parser.parse_intermixed_args(argv)
    if options.verb is None:
        parser.exit(2, USAGE + "\n")
    if options.verb not in VERBS:
        near = get_close_matches(options.verb, VERBS, 1)
        parser.error(f"there is no verb '{options.verb}'" + (f", did you mean '{near[0]}'?" if near else ""))
    options.names = [word for word in options.words if "=" not in word and not word.startswith("~")]
    options.overrides = [word for word in options.words if word not in options.names]
    allowed = {"explain": 1, "show": 1, "pins": 3, "data": 2}.get(options.verb, 0)
    if len(options.names) > allowed:
        word = options.names[allowed]
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
    planned = _plan_of(options, options.overrides)
    opened = _opened(planned)
    if not opened:
        return _cell(options, screen, planned, options.begin)
    screen.say(folds.told(opened))
    return _multirun(options, screen, opened)


def _opened(planned: Planned) -> dict[str, int]:
    """data set -> number of its folds, of the sets that the plan uses and whose fold nobody chose."""
    loaded, _, plan = planned
    return {name: k for name, k in loaded.opened.items() if name in plan.nodes}


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
    _announce(screen, loaded, store, plan)
    run = Run(plan, store, loaded, screen, options.debug, begin)
    code = execute(run)
    options.built |= {stage["id"] for stage in run.record["stages"].values() if stage["status"] in ("BUILT", "RESUMED")}
    screen.say(f"{'done' if code == 0 else f'exit {code}'} in {duration(run.record['seconds'])}")
    return code, run.record


def _multirun(options: argparse.Namespace, screen: Screen, opened: dict[str, int]) -> Answer:
    """Each cell composes anew, so that it plans exactly like a single run. `opened`: sets that go through folds."""
    from pipeline import folds
    from pipeline.search import config_folders
    from pipeline.sweep import sweep

    chains: list[folds.Chain] = []

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
    planned = _plan_of(options, overrides)
    if opened := _opened(planned):
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

    loaded, store, plan = _plan_of(options, options.overrides)
    _announce(screen, loaded, store, plan)
    check_configs(plan)
    _other_folds(options, screen, (loaded, store, plan))
    return 0, {"experiment": plan.experiment.name, "stages": plan.table()}


def _other_folds(options: argparse.Namespace, screen: Screen, first: Planned) -> None:
    """One line for each further fold: what it builds that no fold before it builds."""
    seen = {node.id for node in first[2].to_build}
    for fold, (_, _, plan) in list(_folds(options, first).items())[1:]:
        names = [node.name for node in plan.to_build if node.id not in seen]
        screen.say(f"  fold {fold}: {'builds ' + ', '.join(names) if names else 'all up to date'}")
        seen |= {node.id for node in plan.to_build}


def _folds(options: argparse.Namespace, first: Planned) -> dict[int, Planned]:
    """Plans of all folds that are open, or the only plan."""
    from pipeline import folds

    opened = _opened(first)
    rest = range(1, folds.number(opened)) if opened else ()
    return {0: first} | {n: _plan_of(options, [*options.overrides, *folds.at(opened, n)]) for n in rest}


def _status(options: argparse.Namespace, screen: Screen) -> Answer:
    loaded, store, plan = _plan_of(options, options.overrides)
    for node in plan.to_build:
        if store.locked(node.id):
            node.status, node.reason = "RUNNING", "another process builds it now"
    _announce(screen, loaded, store, plan)
    return 0, {"experiment": plan.experiment.name, "stages": plan.table(extra=True)}


def _explain(options: argparse.Namespace, screen: Screen) -> Answer:
    from pipeline.explain import explain

    loaded, store, plan = _plan_of(options, options.overrides)
    if not options.names:
        raise ConfigError(f"explain needs a stage: {', '.join(plan.nodes)}")
    _known(options.names[0], plan)
    found = explain(plan, store, options.names[0])
    for line in _first_fold((loaded, store, plan)):
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
    loaded, store, plan = _plan_of(options, options.overrides)
    if not options.names:
        _announce(screen, loaded, store, plan)
        return 0, {"experiment": plan.experiment.name, "stages": plan.table(extra=True)}
    _known(options.names[0], plan)
    stored = plan.nodes[options.names[0]].stored
    if stored is None:
        raise ConfigError(f"{options.names[0]} is not built with this configuration; `journeyman run` builds it")
    for line in _first_fold((loaded, store, plan)):
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


def _data(options: argparse.Namespace, screen: Screen) -> Answer:
    match options.names:
        case ["inspect", path]:
            return _inspect(options, screen, path)
        case ["check"]:
            return _check(options, screen)
    raise ConfigError("data check experiment=NAME, or data inspect FILE [format=... layout=... on_error=salvage]")


def _check(options: argparse.Namespace, screen: Screen) -> Answer:
    """Exit code 4 where a check finds an error."""
    from pipeline.display import sentence

    first = _plan_of(options, options.overrides)
    plans = _folds(options, first)
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


def _inspect(options: argparse.Namespace, screen: Screen, path: str) -> Answer:
    """The kind `prepare` knows files and rows, the engine does not."""
    from pipeline.registry import load_kinds

    settings = dict(word.split("=", 1) for word in options.overrides if "=" in word)
    found = load_kinds()["prepare"].stage().inspect(path, settings)
    for line in found.lines():
        screen.say(line)
    return found.exit_code, found.json()


def _pins(options: argparse.Namespace, screen: Screen) -> Answer:
    from pipeline.pins import pins, remove_pin, set_pin

    store = _store(options)
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
    _, _, plan = _plan_of(options, options.overrides)
    _known(what, plan)
    stored = plan.nodes[what].stored
    if stored is None:
        raise ConfigError(f"{what} is not built with this configuration: {plan.nodes[what].reason}")
    return stored


def _gc(options: argparse.Namespace, screen: Screen) -> Answer:
    from pipeline.pins import apply_gc, plan_gc

    store = _store(options)
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


# -- what verbs share ---------------------------------------------------------------------------------------------
def _plan_of(options: argparse.Namespace, overrides: Sequence[str]) -> Planned:
    """Where folds are left open, the plan of the first one."""
    from pipeline.config import load
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
    choice = {"start": options.start, "until": options.until, "force": force, "fresh": options.built}
    return loaded, store, make_plan(loaded.experiment, store, **choice)


def _warm_ahead() -> None:
    from pipeline.children import warm_ahead

    warm_ahead()


def _announce(screen: Screen, loaded: "Loaded", store: "Store", plan: "Plan") -> None:
    from pipeline.explain import drifted

    screen.say(f"{plan.experiment.name} in {store.root}")
    for sentence in (*loaded.chosen, *_first_fold((loaded, store, plan))):
        screen.say(sentence)
    screen.plan(plan)
    names = drifted(plan, store)
    if names:
        screen.say(
            f"note: built by other code or packages: {', '.join(names)} (`explain STAGE` lists it, --force rebuilds)"
        )


def _first_fold(planned: Planned) -> list[str]:
    """Sentences that say of which fold a verb speaks where nobody chose one."""
    first = "data.{}.split.fold=0 (the first of {} folds; `run` makes a chain for each)"
    return [first.format(name, k) for name, k in _opened(planned).items()]


def _known(name: str, plan: "Plan") -> None:
    from pipeline.typed import nearest

    if name not in plan.nodes:
        raise ConfigError(f"there is no stage '{name}'{nearest(name, plan.nodes)}; known: {', '.join(plan.nodes)}")


def _store(options: argparse.Namespace) -> "Store":
    from pipeline.compose import store_root
    from pipeline.search import config_folders
    from pipeline.store import Store

    return Store(store_root(options.overrides, config_folders(options.config_dir)))


VERBS: dict[str, Callable[[argparse.Namespace, Screen], Answer]] = {
    "run": _run,
    "plan": _plan,
    "status": _status,
    "explain": _explain,
    "show": _show,
    "data": _data,
    "pins": _pins,
    "gc": _gc,
}
