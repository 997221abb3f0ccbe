"""What a running stage sees: its config, its inputs, where to write, and how to report."""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.progress import Progress, memory, write
from pipeline.schema import Tracker


@dataclass(frozen=True)
class Artifact:
    """A published, immutable artifact on disk."""

    id: str
    kind: str
    stage: str
    path: Path  # the attempt folder: manifest.json and what the stage wrote
    digest: str  # over all outputs

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.path / "manifest.json").read_text())


@dataclass(frozen=True)
class Measured:
    """A model and the artifact of its evaluation."""

    model: Artifact
    evaluation: Artifact


@dataclass
class Context:
    """Everything `Stage.run` may use. Files written under `out` are published; `ckpt` survives a crash.

    `cache` is shared by all stages of the store and only saves time: its files are written to another name and renamed,
    checked when read, and a person may delete them.
    """

    run_id: str
    experiment: str
    stage: str  # the stage's name in the experiment
    id: str  # id of the artifact being made
    config: Any
    inputs: dict[str, Artifact]  # role -> artifact
    data: dict[str, Artifact]  # role -> prepared data set
    lineage: dict[str, Artifact]  # artifact id -> artifact, for everything upstream
    out: Path
    ckpt: Path
    cache: Path
    tracker: Tracker = field(default_factory=Tracker)
    tracker_dir: Path = Path("wandb")
    sections: dict[str, Any] = field(default_factory=dict)
    rank: int = 0  # number of this process among those that build the artifact together; only 0 writes what is kept
    processes: int = 1
    forced: bool = False  # a person wants it built anew: what was found out before must not stand in
    began: tuple[int, float] | None = None  # step and time of the first word on progress

    def record(self, section: str, value: Any) -> None:
        """Put `value` (JSON) into the manifest under `section`: data, probes, tracking, history ..."""
        self.sections[section] = value

    def progress(self, step: int, total: int, **numbers: float) -> str:
        """Say how far the stage is, for `status --follow`; the same in words. `numbers`: loss, tokens_per_second ..."""
        now = time.time()
        if self.began is None:
            self.began = (step, now)
        said = Progress(self.run_id, step, total, *self.began, now, memory(), numbers)
        if self.rank == 0:
            write(self.ckpt.parent, said)
        return said.words()

    def log(self, message: str) -> None:
        """One line for people, on stderr and in the stage's log; of rank 0 alone, as the others would say the same."""
        if self.rank:
            return
        print(f"{time.strftime('%H:%M:%S')} [{self.stage}] {message}", file=sys.stderr, flush=True)
