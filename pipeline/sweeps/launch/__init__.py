"""Where the cells of a sweep run. Cells know nothing of each other: they share a store and queue at its locks."""

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.display import Screen
from pipeline.guard import Answer
from pipeline.schema import Gate, Launcher


@dataclass(frozen=True)
class Cell:
    """One combination of a sweep."""

    number: int  # from 1
    overrides: list[str]
    gpu: str | None = None  # of several of this machine, the only one that it may see
    bars: Mapping[str, Gate] = field(default_factory=dict)  # gates that the sweep adds to the experiment's own

    @property
    def prefix(self) -> str:
        """What stands before every line of a cell that runs beside others."""
        return f"[cell {self.number}] "


Work = Callable[[Cell, Screen], Answer]  # runs one cell; it can be sent to another process


class Elsewhere:
    """A cell's work in a process that another program starts: in the command's folder, with a screen of its own."""

    def __init__(self, work: Work) -> None:
        self.work, self.folder = work, os.getcwd()

    def __call__(self, cell: Cell) -> Answer:
        os.chdir(self.folder)
        return self.work(cell, Screen())


def launch(cells: Sequence[Cell], launcher: Launcher, work: Work, screen: Screen) -> list[Answer]:
    """The answers of the cells, in their order; KeyboardInterrupt when one is interrupted, with all of them stopped."""
    place = importlib.import_module(f"pipeline.sweeps.launch.{launcher.kind}")  # Slurm's and Ray's need their packages
    answers: list[Answer] = place.launch(cells, launcher, work, screen)
    return answers


def threads(launcher: Launcher, cells: int) -> int:
    """CPU threads of a stage that leaves its own number open; 0 = one for each core that it may use."""
    if launcher.threads or launcher.kind != "local":
        return launcher.threads
    return max(1, len(os.sched_getaffinity(0)) // min(launcher.workers, cells))
