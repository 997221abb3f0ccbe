"""Names that keep artifacts (pins), and gc: what no pin, no recent run and no running build needs goes to the trash."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.manifest import now, read_json, stamp, write_json
from pipeline.names import require_name
from pipeline.store import Store, Stored

DAY = 86400.0


# -- pins ---------------------------------------------------------------------------------------------------------
def set_pin(store: Store, name: str, stored: Stored) -> None:
    """Point the pin `name` at an attempt, replacing an older one."""
    require_name("the pin", name)
    (store.root / "pins").mkdir(parents=True, exist_ok=True)
    entry = {
        "kind": stored.kind,
        **stored.reference(),
        "stage": stored.stage,
        "path": store.relative(stored.path),
        "pinned": now(),
    }
    write_json(store.root / "pins" / name, entry)


def remove_pin(store: Store, name: str) -> None:
    require_name("the pin", name)
    try:
        (store.root / "pins" / name).unlink()
    except FileNotFoundError:
        raise ConfigError(f"there is no pin '{name}'; known: {', '.join(pins(store)) or 'none'}") from None


def pins(store: Store) -> dict[str, dict[str, Any]]:
    """name -> {kind, id, attempt, digest, stage, path, pinned}."""
    files = sorted((store.root / "pins").glob("[!.]*"))
    return {file.name: read_json(file) for file in files}


# -- gc -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Sweep:
    """What gc would move to the trash, and what it would delete from there."""

    attempts: list[Path]
    works: list[Path]
    trash: list[Path]
    bytes: int


def plan_gc(store: Store, days: float) -> Sweep:
    """Everything that no pin, no run younger than `days` and no lock protects."""
    kept = _marked(store, days)
    attempts = [
        folder
        for folder in sorted((store.root / "artifacts").glob("*/*/2*"))
        if folder not in kept and not store.locked(folder.parent.name)
    ]
    works = [
        folder
        for folder in sorted((store.root / "work").glob("*"))
        if _age(folder) > days and not store.locked(folder.name)
    ]
    trash = [folder for folder in sorted((store.root / "trash").glob("*")) if _age(folder) > 1]
    return Sweep(attempts, works, trash, sum(size(path) for path in (*attempts, *works, *trash)))


def apply_gc(store: Store, sweep: Sweep) -> None:
    """Move to the trash, under each id's lock; delete trash that has had its day of grace."""
    for folder in sweep.attempts:
        lock = store.lock(folder.parent.name)
        if lock:
            with lock:
                discard(store, folder)
    for folder in sweep.works:
        lock = store.lock(folder.name)
        if lock:
            with lock:
                to_trash(store, folder, f"work-{folder.name}")
    for folder in sweep.trash:
        shutil.rmtree(folder)


def discard(store: Store, folder: Path) -> None:
    """CURRENT goes first: an id without CURRENT is simply not built."""
    home = folder.parent
    pointer = home / "CURRENT"
    if pointer.exists() and pointer.read_text().strip() == folder.name:
        pointer.unlink()
    to_trash(store, folder, f"{home.parent.name}-{home.name}-{folder.name}")
    if not any(home.iterdir()):
        home.rmdir()


def to_trash(store: Store, folder: Path, name: str) -> None:
    (store.root / "trash").mkdir(exist_ok=True)
    target = store.root / "trash" / f"{name}-{stamp()}"
    os.rename(folder, target)
    os.utime(target)  # the day of grace begins now


def _marked(store: Store, days: float) -> set[Path]:
    """Attempt folders that pins and recent runs name, and all that those were made from."""
    kept: set[Path] = set()
    waiting = [store.root / entry["path"] for entry in pins(store).values()] + list(_recent(store, days))
    while waiting:
        folder = waiting.pop()
        if folder in kept or not (folder / "manifest.json").exists():
            continue
        kept.add(folder)
        for item in read_json(folder / "manifest.json")["inputs"].values():
            waiting += (store.root / "artifacts").glob(f"*/{item['id']}/{item['attempt']}")
    return kept


def _recent(store: Store, days: float) -> Iterator[Path]:
    for file in (store.root / "runs").glob("*/2*/run.json"):
        if _age(file) <= days:
            paths = [stage.get("path") for stage in read_json(file).get("stages", {}).values()]
            yield from (store.root / path for path in paths if path)


def _age(path: Path) -> float:
    """Days since the last change."""
    return (time.time() - path.stat().st_mtime) / DAY


def size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
