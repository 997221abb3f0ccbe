"""`run -m`: the cells of a sweep through its launcher, each composed and planned exactly like a single run."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.display import Screen, duration
from pipeline.errors import ConfigError
from pipeline.folds import Chain, groups, paired, sweep, told, write_summary
from pipeline.guard import Answer, guarded
from pipeline.manifest import stamp
from pipeline.planned import Planned, announce, opened_folds, plan_of
from pipeline.schema import Gate
from pipeline.sweeps.launch import Cell, launch, threads

if TYPE_CHECKING:
    from pipeline.sweeps.grid import Sweep


def multirun(options: argparse.Namespace, screen: Screen) -> Answer:
    """Every cell of the sweep that the overrides mean."""
    from pipeline.sweeps.grid import grid, read

    swept = read(options.overrides, options.config_dir)
    if swept.opened:
        screen.say(f"{told(swept.opened)} for each cell of the sweep")
    if swept.sweeper.kind == "optuna":
        from pipeline.sweeps.study import study

        return study(swept, options, screen)
    cells = grid([*swept.words, *sweep(swept.opened)], options.config_dir)
    return document(options, screen, run_cells(options, screen, swept, cells))


def all_folds(options: argparse.Namespace, screen: Screen, planned: Planned) -> Answer:
    """A chain for each fold of a single experiment that leaves its folds open."""
    from pipeline.sweeps.grid import Sweep, grid

    loaded, opened = planned[0], opened_folds(planned)
    screen.say(told(opened))
    swept = Sweep(options.overrides, loaded.experiment.launcher, loaded.experiment.sweeper, opened)
    cells = grid([*options.overrides, *sweep(opened)], options.config_dir)
    return document(options, screen, run_cells(options, screen, swept, cells))


def run_cells(
    options: argparse.Namespace,
    screen: Screen,
    swept: "Sweep",
    cells: Sequence[Sequence[str]],
    first: int = 1,
    bars: Mapping[str, Gate] | None = None,
) -> list[Chain]:
    """How these cells ended, numbered from `first`; all with the same `bars`."""
    options.sweep = options.sweep or stamp()
    options.threads = threads(swept.launcher, len(cells))
    numbered = [Cell(first + n, paired(cell, swept.opened), bars=bars or {}) for n, cell in enumerate(cells)]
    answers = launch(numbered, swept.launcher, partial(run_cell, options), screen)
    return [Chain(cell.overrides, *answer) for cell, answer in zip(numbered, answers, strict=True)]


def run_cell(options: argparse.Namespace, cell: Cell, screen: Screen) -> Answer:
    """One cell up to its report, in whichever process this is."""
    screen.say(f"[{cell.number}] {' '.join(cell.overrides)}")
    options.begin, options.gpu = time.time(), cell.gpu
    return guarded(options, screen, lambda: _planned(options, screen, cell))


def _planned(options: argparse.Namespace, screen: Screen, cell: Cell) -> Answer:
    planned = plan_of(options, cell.overrides)
    if opened := opened_folds(planned):
        raise ConfigError(
            f"{' and '.join(f'data.{name}.split.fold' for name in opened)}: open in this cell of the sweep and not in "
            "its first one; give a value, or a command of its own for each experiment"
        )
    loaded = planned[0]
    loaded.experiment.gates.update(cell.bars)
    loaded.resolved["gates"].update({name: asdict(gate) for name, gate in cell.bars.items()})
    return run_planned(options, screen, planned)


def run_planned(options: argparse.Namespace, screen: Screen, planned: Planned) -> Answer:
    """One composed and planned experiment up to its report."""
    from pipeline.runner import Run, execute

    loaded, store, plan = planned
    announce(screen, loaded, store, plan)
    where = {"sweep": options.sweep, "threads": options.threads, "gpu": options.gpu}
    run = Run(plan, store, loaded, screen, options.debug, options.begin, **where)
    code = execute(run)
    screen.say(f"{'done' if code == 0 else f'exit {code}'} in {duration(run.record['seconds'])}")
    return code, run.record


def document(options: argparse.Namespace, screen: Screen, chains: Sequence[Chain]) -> Answer:
    """The highest exit code, and {runs, exit} with what chains that differ in their folds alone say together."""
    code = max(chain.code for chain in chains)
    return code, {"runs": [chain.record for chain in chains], "exit": code, **summaries(screen, chains)}


def summaries(screen: Screen, chains: Sequence[Chain]) -> dict[str, Any]:
    """`summary`, for several groups of folds `summaries`, nothing without folds."""
    found = []
    for group in groups(chains):
        summary, lines = write_summary(group)
        for line in lines:
            screen.say(line)
        found.append(summary)
    return {"summary": found[0]} if len(found) == 1 else {"summaries": found} if found else {}
