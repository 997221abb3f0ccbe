"""Cells in processes of this machine, `workers` at a time, each forked from the command's.

A process of its own for each cell: whatever ends one is nothing to the others. Their stages still come from the
command's one fork server, so that the libraries are imported once for the whole sweep.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pipeline.children import GRACE, share_server, warm_ahead
from pipeline.display import Screen
from pipeline.guard import Answer, failed, interrupt
from pipeline.schema import Launcher
from pipeline.sweeps.launch import Cell, Work

PATIENCE = 2 * GRACE  # seconds in which interrupted cells end their stages and write their records


def launch(cells: Sequence[Cell], launcher: Launcher, work: Work, screen: Screen) -> list[Answer]:
    warm_ahead()
    waiting, running, answers = list(cells), list[_Running](), dict[int, Answer]()
    places = _places(launcher.workers)
    try:
        while waiting or running:
            while waiting and places:
                running.append(_start(replace(waiting.pop(0), gpu=places.pop(0)), work, screen, running))
            for one in _ended(running):
                running.remove(one)
                places.append(one.cell.gpu)
                answers[one.cell.number] = one.answer()
                if answers[one.cell.number][0] == 130:
                    raise KeyboardInterrupt
    finally:
        _stop(running)
    return [answers[cell.number] for cell in cells]


def _places(workers: int) -> list[str | None]:
    """One for each worker: the GPU of its cells where there are several, which are given out in turn."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    cards = [str(card) for card in range(count)] if given is None else [card for card in given.split(",") if card]
    return [cards[place % len(cards)] if len(cards) > 1 else None for place in range(workers)]


# -- in the command -----------------------------------------------------------------------------------------------
@dataclass
class _Running:
    """A cell in its process: what it writes and what it answers, each None once that has ended."""

    cell: Cell
    screen: Screen
    output: int | None
    answers: Connection | None
    process: Any = None
    rest: bytes = b""
    said: Answer | None = None

    @property
    def handles(self) -> list[Any]:
        return [handle for handle in (self.output, self.answers) if handle is not None]

    def hear(self, ready: Sequence[Any]) -> None:
        """Keep the answer and show whole lines of what the process wrote, where something came."""
        if self.answers in ready and self.answers is not None:
            with suppress(EOFError):
                self.said = self.answers.recv()
            self.answers.close()
            self.answers = None
        if self.output in ready and self.output is not None:
            text = os.read(self.output, 65536)
            *lines, self.rest = (self.rest + (text or b"\n" * bool(self.rest))).split(b"\n")
            for line in lines:
                self.screen.say(f"{self.cell.prefix}{line.decode('utf-8', 'replace')}".rstrip())
            if not text:
                os.close(self.output)
                self.output = None

    def answer(self) -> Answer:
        """What the process answered before it ended, or how it died."""
        self.process.join()
        if self.said:
            return self.said
        code = self.process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return failed(self.screen, f"{self.cell.prefix}its process {how}; the same command continues it", 5)


def _start(cell: Cell, work: Work, screen: Screen, beside: Sequence[_Running]) -> _Running:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    output, written = os.pipe()
    one = _Running(cell, screen, output, receiver)
    args = (cell, work, screen, sender, written, [*beside, one])
    one.process = multiprocessing.get_context("fork").Process(target=_run, args=args)
    one.process.start()
    sender.close()  # the process has the other copies: its death then reads as the end
    os.close(written)
    return one


def _ended(running: Sequence[_Running], seconds: float | None = None) -> list[_Running]:
    """Wait until cells write or answer, and pass it on; those that have come to their end."""
    ready = wait([handle for one in running for handle in one.handles], seconds)
    for one in running:
        one.hear(ready)
    return [one for one in running if not one.handles]


def _stop(running: list[_Running]) -> None:
    """Interrupt what still runs and wait for it; kill it when that takes too long, or when the person is impatient."""
    until = time.monotonic() + PATIENCE
    try:
        for one in running:
            one.process.terminate()
        while running and time.monotonic() < until:
            for one in _ended(running, 1.0):
                running.remove(one)
                one.answer()
    finally:
        for one in running:
            one.process.kill()
            one.process.join()


# -- in the cell's process ----------------------------------------------------------------------------------------
def _run(
    cell: Cell, work: Work, screen: Screen, answers: Connection, output: int, received: Sequence[_Running]
) -> None:
    for handle in (handle for one in received for handle in one.handles):  # so that writing ends with the command
        os.close(handle if isinstance(handle, int) else handle.fileno())
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    sys.stdout = sys.stderr = screen.stream = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGTERM, interrupt)
    share_server()
    answers.send(work(cell, screen))
