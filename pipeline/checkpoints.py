"""Checkpoints of a stage that is being built: which is the newest whole one, and away with torn ones."""

import shutil
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.manifest import read_json


def checkpoint_step(ckpt: Path) -> int:
    """Step of the newest complete checkpoint; 0 if there is none."""
    return max((_step(folder) for folder in ckpt.glob("checkpoint-*") if _whole(folder)), default=0)


def drop_torn_checkpoints(ckpt: Path) -> None:
    """Delete newest checkpoints that were being written when their run died."""
    for folder in sorted(ckpt.glob("checkpoint-*"), key=_step, reverse=True):
        if _whole(folder):
            return
        shutil.rmtree(folder)


def _whole(checkpoint: Path) -> bool:
    """Whether trainer_state.json, which is written last, is there to its last brace: a kill can leave it empty."""
    try:
        read_json(checkpoint / "trainer_state.json")
    except (OSError, StoreError):
        return False
    return True


def _step(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1
