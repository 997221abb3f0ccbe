"""Signs of life of a stage: what it writes and the processor time it takes. Without any for long, it hangs."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.errors import StageFailed

LOOK = 10.0  # seconds between two looks
SILENT = 60.0  # seconds without a line after which the log says so; then after twice as long, and so on
IDLE = 0.01  # processor seconds for each second, below which a process does nothing


class Heartbeat:
    """Looks at the work folder and the processes of one stage; `limit`: seconds without signs of life, 0 = for ever.

    A stage that counts for hours without a word lives, because it takes processor time; one that waits for a lock, a
    network folder or a device that never answers does not. Time in which this process was asleep, too, counts little.
    """

    def __init__(
        self, work: Path, stage: str, pid: int, limit: float,
        clock: Callable[[], float] = time.monotonic, used: Callable[[int], float] | None = None,
    ) -> None:  # fmt: skip
        self.log, self.stage, self.pid, self.limit = work / "log.txt", stage, pid, limit
        self.clock, self.used = clock, used or processor_seconds
        self.every = min(LOOK, limit / 4) if limit else LOOK
        self.last, self.said = clock(), SILENT
        self.silent = self.idle = 0.0  # seconds without a line; without any sign of life
        self.begin = self.spent = self.used(pid)
        self.written = _written(work)
        self.lines = _size(self.log)

    def beat(self) -> None:
        """Note a long silence in the log; StageFailed when it has lasted as long as nothing ought to."""
        passed = self.clock() - self.last
        if passed < self.every:
            return
        self.last += passed
        self._look(min(passed, 2 * self.every))
        if self.silent >= self.said:
            self.said *= 2
            self._say(f"no line for {self.silent:.0f} s, {self.spent - self.begin:.0f} s of processor time so far")
        if self.limit and self.idle >= self.limit:
            raise StageFailed(
                f"it hangs: for {self.limit / 60:g} min it wrote nothing and took no processor time "
                f"(runtime.stall_minutes), so it was stopped. The same command resumes it. Log: {self.log}"
            )

    def _look(self, passed: float) -> None:
        lines, written, spent = _size(self.log), _written(self.log.parent), self.used(self.pid)
        self.silent = self.silent + passed if lines == self.lines else 0.0
        if not self.silent:
            self.said = SILENT
        alive = lines != self.lines or written != self.written or spent - self.spent > IDLE * passed
        self.idle = 0.0 if alive else self.idle + passed
        self.lines, self.written, self.spent = lines, written, spent

    def _say(self, text: str) -> None:
        with suppress(OSError), self.log.open("a", encoding="utf-8") as stream:  # the disk may be full
            stream.write(f"{time.strftime('%H:%M:%S')} [{self.stage}] heartbeat: {text}\n")
        self.lines = _size(self.log)


def processor_seconds(pid: int) -> float:
    """Seconds that a process and all below it have computed."""
    import psutil

    total = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += sum(one.cpu_times()[:4])  # user and system, its own and of children that have ended
    return total


def _written(folder: Path) -> tuple[int, int]:
    """Bytes and newest time of all files below, but for the log."""
    size = newest = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                stat = os.stat(os.path.join(path, name))
                if name != "log.txt":
                    size, newest = size + stat.st_size, max(newest, stat.st_mtime_ns)
    return size, newest


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
