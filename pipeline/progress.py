"""How far a running stage is: `progress.json` in its work folder, written by the stage and read by who watches it."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.display import duration

FILE = "progress.json"
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Progress:
    """Step `step` of `total` at the time `at`; `start` and `begin` are where and when this process began."""

    run_id: str
    step: int
    total: int
    start: int
    begin: float
    at: float
    memory: int  # bytes of the process
    numbers: Mapping[str, float] = field(default_factory=dict)  # loss, tokens_per_second, gpu_bytes ...

    @property
    def left(self) -> float | None:
        """Seconds until the last step at the speed so far; None before the first step."""
        done = self.step - self.start
        return (self.at - self.begin) / done * (self.total - self.step) if done > 0 else None

    def words(self) -> str:
        """`step 20/400  loss 1.234  1,204 tokens/s  2 min 10 s left  1.2 GiB`."""
        rest = {name: value for name, value in self.numbers.items() if name not in ("tokens_per_second", "gpu_bytes")}
        found = [f"step {self.step}/{self.total}", *(f"{name} {value:.4g}" for name, value in rest.items())]
        if "tokens_per_second" in self.numbers:
            found.append(f"{self.numbers['tokens_per_second']:,.0f} tokens/s")
        if self.left:
            found.append(f"{duration(self.left)} left")
        found.append(f"{self.memory / 2**30:.1f} GiB")
        if "gpu_bytes" in self.numbers:
            found.append(f"{self.numbers['gpu_bytes'] / 2**30:.1f} GiB on the GPU")
        return "  ".join(found)


def write(work: Path, progress: Progress) -> None:
    """Replace the file at once. It only informs: it is not synced, and a full disk is no reason to stop."""
    part = work / f".{FILE}.{os.getpid()}"
    with suppress(OSError):
        part.write_text(json.dumps(asdict(progress)))
        os.replace(part, work / FILE)


def read(work: Path, run_id: str) -> Progress | None:
    """What the stage that this run builds in `work` said last; None if it has said nothing yet."""
    try:
        found: dict[str, Any] = json.loads((work / FILE).read_text())
    except (OSError, ValueError):
        return None
    return Progress(**found) if found.get("run_id") == run_id else None


def memory() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
