"""Checkpoints of a stage that is being built: which is the newest whole one, and away with torn ones.

A kill leaves every byte that was written, so a checkpoint is whole once `trainer_state.json`, its last file, is. A
power cut may keep that file and lose others: so a stage seals its checkpoints, and after a reboot only those count.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.manifest import read_json, sync_tree, write_text

SEAL = "sealed"  # a file that stands in a checkpoint of which every byte has reached the disk


def boot() -> str:
    """A name of the time since this machine was started; "" where the system has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def seal(ckpt: Path, checkpoint: Path) -> None:
    """Flush the folder `ckpt` of a stage to the disk and say so in its newest `checkpoint`."""
    sync_tree(ckpt)
    write_text(checkpoint / SEAL, "")


def drop_unsealed(ckpt: Path) -> None:
    """Delete what a power cut may have torn, also checkpoints in folders of `ckpt`."""
    for folder in sorted(ckpt.rglob("checkpoint-*")):
        if folder.is_dir() and not (folder / SEAL).exists():
            shutil.rmtree(folder)


def drop(ckpt: Path) -> None:
    """Delete all checkpoints of a stage at once: a kill must not leave half of one that looks whole."""
    doomed = ckpt.with_name("dropped")
    shutil.rmtree(doomed, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(ckpt, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


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
