"""Cells one after the other, in the command's own process."""

from collections.abc import Sequence

from pipeline.display import Screen
from pipeline.guard import Answer
from pipeline.schema import Launcher
from pipeline.sweeps.launch import Cell, Work


def launch(cells: Sequence[Cell], launcher: Launcher, work: Work, screen: Screen) -> list[Answer]:
    answers = []
    for cell in cells:
        screen.say()
        answers.append(work(cell, screen))
        if answers[-1][0] == 130:
            raise KeyboardInterrupt
    return answers
