"""How far reading has come, in bytes of the files: as a bar on a terminal, or as a line of the log now and then."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

MEGA = 1e6
WIDTH = 30  # letters of the bar


@dataclass
class Progress:
    """Bytes read of all files. `show` is told a share and megabytes, at most once in `every` seconds."""

    show: Callable[[float, float, float], None] = lambda share, done, total: None
    every: float = 10.0
    total: int = 0  # bytes of all files; set when they are known
    done: dict[str, int] = field(default_factory=dict)
    shown: float = field(default_factory=time.monotonic)

    def of(self, file: str) -> Callable[[int], None]:
        """What a reader of the file tells how many of its bytes it has read."""
        return partial(self.reached, file)

    def reached(self, file: str, count: int) -> None:
        self.done[file] = count
        now = time.monotonic()
        if self.total and now - self.shown >= self.every:
            self.shown = now
            done = sum(self.done.values())
            self.show(min(1.0, done / self.total), done / MEGA, self.total / MEGA)


def lines_of_log(log: Callable[[str], None]) -> Progress:
    """A line every ten seconds."""
    return Progress(lambda share, done, total: log(f"read {done:,.0f} of {total:,.0f} MB ({share:.0%})"))


def bar() -> Progress:
    """A bar on stderr where that is a terminal, nothing elsewhere."""
    return Progress(_draw, every=0.2) if sys.stderr.isatty() else Progress()


def _draw(share: float, done: float, total: float) -> None:
    filled = "#" * round(WIDTH * share)
    sys.stderr.write(f"\r[{filled:.<{WIDTH}}] {done:,.0f} of {total:,.0f} MB")
    sys.stderr.flush()


def end_bar() -> None:
    """Take the bar away."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
