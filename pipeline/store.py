"""The store: immutable artifacts found by id, one lock for each id, and an all-or-nothing publish.

Protocol of a build: read CURRENT (a hit?) -> lock the id -> look again -> build in work/<id>/out -> hash, manifest,
fsync -> rename to artifacts/<kind>/<id>/<attempt> -> replace CURRENT. A kill leaves the old state or the new one.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.checkpoints import drop
from pipeline.context import Artifact
from pipeline.disk import unwritable
from pipeline.errors import StoreError
from pipeline.fingerprint import sha256
from pipeline.identity import artifact_id
from pipeline.locks import Lock
from pipeline.manifest import (
    SCHEMA,
    describe,
    make_folder,
    read_json,
    stamp,
    sync,
    sync_tree,
    tree_digest,
    write_json,
    write_text,
)
from pipeline.names import check_manifest, inside

STORE_SCHEMA = 1  # of the folder's form: docs/store.md says how a newer version treats an older store


@dataclass(frozen=True)
class Stored:
    """One attempt in the store: its folder and its manifest."""

    path: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        return str(self.manifest["id"])

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def stage(self) -> str:
        return str(self.manifest["stage"])

    @property
    def digest(self) -> str:
        return str(self.manifest["digest"])

    @property
    def attempt(self) -> str:
        return self.path.name

    def reference(self) -> dict[str, str]:
        """How another manifest names this attempt."""
        return {"id": self.id, "attempt": self.attempt, "digest": self.digest}

    def artifact(self, stage: str | None = None) -> Artifact:
        return Artifact(self.id, self.kind, stage or self.stage, self.path, self.digest)


class Store:
    """Paths and operations below one folder on one POSIX file system; StoreError if a newer version made it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._verified: set[Path] = set()  # attempts whose every byte this process has hashed
        check_schema(self.layout(), f"the store {self.root}", STORE_SCHEMA)

    # -- places ---------------------------------------------------------------------------------------------------
    def folder(self, kind: str, id: str) -> Path:
        return self.root / "artifacts" / kind / id

    def work(self, id: str) -> Path:
        return self.root / "work" / id

    def lock_file(self, id: str) -> Path:
        return self.root / "locks" / f"{id}.lock"

    @property
    def cache(self) -> Path:
        """What only saves time: a person may delete it."""
        return self.root / "cache"

    def runs(self, experiment: str) -> Path:
        return self.root / "runs" / experiment

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def layout(self) -> int:
        """Version of the store's form; the first one did not write it down."""
        try:
            return int(read_json(self.root / "store.json")["schema"])
        except (FileNotFoundError, NotADirectoryError):
            return 1
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f'{self.root / "store.json"} is damaged ({error}); it should say {{"schema": 1}}'
            ) from error

    # -- reading --------------------------------------------------------------------------------------------------
    def current(self, kind: str, id: str) -> Stored | None:
        """The published attempt of an id; None if there is none or a person deleted its folder."""
        try:
            attempt = (self.folder(kind, id) / "CURRENT").read_text().strip()
        except FileNotFoundError:
            return None
        folder = inside(self.folder(kind, id), attempt, f"{self.folder(kind, id)}/CURRENT")
        return self.read(folder) if folder.is_dir() else None

    def read(self, folder: Path) -> Stored:
        """An attempt by its folder; StoreError if it is not in the store, or its manifest is missing or no good."""
        if not folder.resolve().is_relative_to(self.root.resolve() / "artifacts"):
            raise StoreError(f"{folder} is not an artifact of the store {self.root}")
        try:
            stored = Stored(folder, read_json(folder / "manifest.json"))
        except FileNotFoundError as error:
            raise StoreError(f"{folder}/manifest.json is missing or damaged ({error})") from error
        check(stored.manifest, f"{folder}/manifest.json")
        return stored

    def find(self, prefix: str) -> list[Stored]:
        """Current attempts whose id starts with `prefix`."""
        folders = sorted((self.root / "artifacts").glob(f"*/{prefix}*"))
        found = [self.current(folder.parent.name, folder.name) for folder in folders]
        return [stored for stored in found if stored]

    def pinned(self, name: str) -> Stored | None:
        """What a pin names; None without the pin. StoreError if its artifact is gone."""
        try:
            entry = read_json(inside(self.root / "pins", name, "a pin"))
        except FileNotFoundError:
            return None
        return self.read(self.root / entry["path"])

    def models_before(self, stored: Stored) -> list[Stored]:
        """What a model was made from, as far as it is in the store: all inputs but data sets, the nearest first."""
        found: list[Stored] = []
        for model in (waiting := [stored]):  # grows while it is read
            inputs = [item for role, item in model.manifest["inputs"].items() if not role.startswith("data.")]
            folders = (self.folder("*", item["id"]) / item["attempt"] for item in inputs)
            made = [self.read(path) for folder in folders for path in self.root.glob(self.relative(folder))]
            waiting += made
            found += made
        return found

    def verify(self, stored: Stored, full: bool = True, name: str | None = None) -> None:
        """StoreError unless every output matches its manifest; `name` is what the stage is called in this experiment.

        Not `full`: a file whose size, mtime and inode are those of its last verification is not read again.
        """
        if stored.path in self._verified:
            return
        seen = self._marks(stored)
        marks: dict[str, list[int]] = {}
        for output in stored.manifest["outputs"]:
            file = stored.path / output["path"]
            if file.is_symlink() or not file.is_file() or not file.resolve().is_relative_to(stored.path.resolve()):
                raise StoreError(_damaged(stored, f"{output['path']} is missing or no plain file", name))
            mark = marks[output["path"]] = _mark(file)
            known = not full and seen.get(output["path"]) == mark
            if not known and (mark[0] != output["size"] or sha256(file) != output["sha256"]):
                raise StoreError(_damaged(stored, f"{output['path']} does not match its recorded hash", name))
        self._remember(stored, marks, seen)
        if full:
            self._verified.add(stored.path)

    def _marks(self, stored: Stored) -> dict[str, list[int]]:
        try:
            return dict(read_json(self._marks_file(stored)))
        except (OSError, StoreError):
            return {}

    def _marks_file(self, stored: Stored) -> Path:
        return self.cache / "verified" / f"{stored.id}-{stored.attempt}.json"

    def _remember(self, stored: Stored, marks: dict[str, list[int]], seen: dict[str, list[int]]) -> None:
        if marks == seen:
            return
        with suppress(OSError):  # only a cache: reading from a store that cannot be written is fine
            self._marks_file(stored).parent.mkdir(parents=True, exist_ok=True)
            write_json(self._marks_file(stored), marks)

    # -- building -------------------------------------------------------------------------------------------------
    def prepare(self) -> None:
        """Make the folders; StoreError if the store cannot be written."""
        try:
            for name in ("artifacts", "work", "locks", "runs", "pins", "cache"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            if not (self.root / "store.json").exists():
                write_json(self.root / "store.json", {"schema": STORE_SCHEMA})
            probe = self.cache / f".probe-{os.getpid()}"
            probe.write_text("writable")
            probe.unlink()
        except OSError as error:
            raise StoreError(unwritable(error, self.root)) from error

    def lock(self, id: str, waiting: Callable[[], None] | None = None) -> Lock | None:
        return Lock.acquire(self.lock_file(id), waiting)

    def locked(self, id: str) -> bool:
        """Whether another process builds this id now."""
        if not self.lock_file(id).exists():
            return False
        lock = self.lock(id)
        if lock:
            lock.__exit__()
        return lock is None

    def publish(self, kind: str, id: str, manifest: Mapping[str, Any]) -> Stored:
        """Make work/<id>/out the current attempt; the caller holds the lock. `manifest` lacks what is hashed here."""
        out, home = self.work(id) / "out", self.folder(kind, id)
        make_folder(home)
        attempt = stamp(os.listdir(home))
        for old in (*out.glob(".manifest.json.*"), out / "manifest.json"):  # of a publish that was stopped
            old.unlink(missing_ok=True)
        outputs = describe(out)
        full = {**manifest, "attempt": attempt, "outputs": outputs, "digest": tree_digest(outputs)}
        write_json(out / "manifest.json", full)
        return self.place(out, full)

    def place(self, folder: Path, manifest: Mapping[str, Any]) -> Stored:
        """Make a folder, its manifest written and every file just hashed, the current attempt; under the lock."""
        home = self.folder(manifest["kind"], manifest["id"])
        make_folder(home)
        sync_tree(folder)
        os.rename(folder, home / manifest["attempt"])
        sync(home)
        stored = Stored(home / manifest["attempt"], manifest)
        self.make_current(stored)
        self._verified.add(stored.path)
        paths = [str(item["path"]) for item in manifest["outputs"]]
        self._remember(stored, {path: _mark(stored.path / path) for path in paths}, {})
        return stored

    def point(self, stored: Stored) -> None:
        """Make an attempt the one that counts."""
        write_text(stored.path.parent / "CURRENT", stored.attempt + "\n")

    def make_current(self, stored: Stored) -> None:
        """The same for one that was just built: what it was built with is no longer needed."""
        self.point(stored)
        work = self.work(stored.id)
        drop(work / "ckpt")
        (work / "result.json").unlink(missing_ok=True)

    def orphan(self, kind: str, id: str, inputs: Mapping[str, Mapping[str, str]]) -> Stored | None:
        """A whole attempt newer than CURRENT, from the same inputs: its builder died before it replaced CURRENT."""
        home = self.folder(kind, id)
        current = (home / "CURRENT").read_text().strip() if (home / "CURRENT").exists() else ""
        for folder in sorted((f for f in home.glob("2*") if f.name > current), reverse=True):
            with suppress(StoreError):
                stored = self.read(folder)
                self.verify(stored)
                if digests(stored.manifest["inputs"]) == digests(inputs):
                    return stored
        return None

    # -- runs -----------------------------------------------------------------------------------------------------
    def new_run(self, experiment: str, suffix: str = "") -> Path:
        home = self.runs(experiment)
        home.mkdir(parents=True, exist_ok=True)
        folder = home / f"{stamp(os.listdir(home))}{suffix}"
        folder.mkdir()
        return folder

    def make_latest(self, run: Path, link: str = "latest") -> None:
        """Replace the link at once."""
        part = run.parent / f".latest-{os.getpid()}"
        part.unlink(missing_ok=True)
        part.symlink_to(run.name)
        os.replace(part, run.parent / link)

    def past_runs(self, experiment: str) -> Iterator[dict[str, Any]]:
        """run.json of earlier runs, newest first; unreadable ones are passed over."""
        for folder in sorted(self.runs(experiment).glob("2*"), reverse=True):
            with suppress(OSError, StoreError):
                yield read_json(folder / "run.json")

    def last_built(self, experiment: str, stage: str, folds: Mapping[str, Any] | None = None) -> Stored | None:
        """What the newest run which had an artifact for a stage used; a run of the same folds goes before others."""
        newest = None
        for run in self.past_runs(experiment):
            path, same = run.get("stages", {}).get(stage, {}).get("path"), run.get("folds", {}) == (folds or {})
            if path and (same or newest is None):
                with suppress(StoreError):
                    newest = self.read(self.root / path)
                    if same:
                        break
        return newest


def check(manifest: Mapping[str, Any], what: str) -> None:
    """StoreError for a manifest that is damaged, was changed, leads out of the store or is of a newer version."""
    try:
        check_manifest(manifest, what)
        sound = artifact_id(manifest["payload"]) == manifest["id"] and (
            tree_digest(manifest["outputs"]) == manifest["digest"]
        )
        check_schema(manifest.get("schema", 1), what, SCHEMA)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{what} is missing or damaged ({error})") from error
    if not sound:
        raise StoreError(f"{what} was changed after it was written")


def check_schema(found: Any, what: str, known: int) -> None:
    """StoreError where `what` has a form that only a newer version knows."""
    if not isinstance(found, int) or found > known:
        raise StoreError(
            f"{what} was written by a newer version of Journeyman (its schema is {found}, this version knows up to "
            f"{known}). Install that version, or choose another store with store.root=FOLDER or JOURNEYMAN_STORE."
        )


def digests(inputs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """role -> content digest, of a manifest's `inputs`."""
    return {role: item["digest"] for role, item in inputs.items()}


def _mark(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _damaged(stored: Stored, what: str, name: str | None) -> str:
    stage = name or stored.stage
    return (
        f"the artifact of '{stage}' is damaged: {what} ({stored.path}). "
        f"It was not used. `journeyman run ... --force {stage}` rebuilds it."
    )
