"""Checks a whole store: every hash of every attempt, every CURRENT, pins and links; repairs what needs no building."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import StoreError
from pipeline.manifest import read_json
from pipeline.pins import discard, to_trash
from pipeline.store import Store, Stored

if TYPE_CHECKING:
    from pipeline.planner import Plan


@dataclass
class Finding:
    """One thing that is not as it should be. Only `error` makes the store damaged; a `note` is what a kill leaves."""

    level: str  # error | note
    code: str  # damaged | pointer | foreign | pin | orphan | leftover | input | run
    place: str  # below the store's root
    what: str
    repaired: str = ""  # what --repair did about it


@dataclass
class Check:
    """What one look at the store found."""

    attempts: int = 0
    files: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def damaged(self) -> bool:
        return any(finding.level == "error" and not finding.repaired for finding in self.findings)

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "damaged": self.damaged}


@dataclass
class _Home:
    """artifacts/<kind>/<id>: its whole attempts, oldest first, and what is wrong with the others."""

    path: Path
    whole: list[Stored] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)
    foreign: list[Path] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)

    @property
    def pointer(self) -> str | None:
        """What CURRENT says; None without one."""
        try:
            return (self.path / "CURRENT").read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None


def fsck(store: Store, repair: bool = False) -> Check:
    """Hash everything that is published and look at all that names it. With `repair`, mend it under each id's lock."""
    found = Check()
    paths = sorted(path for path in (store.root / "artifacts").glob("*/*") if path.is_dir())
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves the interpreter to others
        homes = list(pool.map(lambda path: _read(store, path), paths))
    for home in homes:
        found.attempts += len(home.whole) + len(home.broken)
        for stored in home.whole:
            found.files += len(stored.manifest["outputs"])
            found.bytes += sum(output["size"] for output in stored.manifest["outputs"])
        found.findings += _judge(store, home, repair)
    found.findings += [*_inputs(store, homes), *_works(store, repair), *_pins(store), *_runs(store, repair)]
    return found


def mark_damaged(plan: "Plan", store: Store) -> bool:
    """Hash every file of what a plan takes from the store; a node whose artifact is not whole becomes DAMAGED."""
    for node in plan.nodes.values():
        try:
            if node.stored and node.stored.path.is_dir():  # else it is on the remote only
                store.verify(node.stored, name=node.name)
        except StoreError as error:
            node.status, node.reason = "DAMAGED", str(error)
    return any(node.status == "DAMAGED" for node in plan.nodes.values())


def _read(store: Store, path: Path) -> _Home:
    home = _Home(path)
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            _read_attempt(store, home, entry)
        elif entry.name.startswith(".CURRENT."):
            home.leftovers.append(entry)
        elif entry.name != "CURRENT":
            home.foreign.append(entry)
    return home


def _read_attempt(store: Store, home: _Home, folder: Path) -> None:
    try:
        stored = store.read(folder)
        if (stored.kind, stored.id, stored.manifest.get("attempt")) != (*folder.parts[-3:-1], folder.name):
            raise StoreError(f"{folder} holds the attempt of another place")
        store.verify(stored)
    except (OSError, StoreError) as error:
        home.broken[folder] = str(error)
        return
    home.whole.append(stored)
    known = {"manifest.json", *(output["path"] for output in stored.manifest["outputs"])}
    files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    home.foreign += [path for path in files if path.relative_to(folder).as_posix() not in known]


def _judge(store: Store, home: _Home, repair: bool) -> list[Finding]:
    """Findings on one id; while another process builds it, what is in motion there is left alone."""
    found = list(_findings(store, home))
    lock = store.lock(home.path.name) if repair and found else None
    if lock is None:
        return found
    with lock:
        home = _read(store, home.path)  # its builder may have ended meanwhile
        found = list(_findings(store, home))
        for finding in found:
            finding.repaired = _mend(store, home, finding)
    return found


def _findings(store: Store, home: _Home) -> Iterator[Finding]:
    place = store.relative(home.path)
    for folder, why in home.broken.items():
        yield Finding("error", "damaged", store.relative(folder), why)
    for path in home.foreign:
        yield Finding("error", "foreign", store.relative(path), "no manifest knows it")
    for path in home.leftovers:
        yield Finding("note", "leftover", store.relative(path), "a write that was stopped")
    names = [stored.attempt for stored in home.whole]
    if home.pointer is None and names:
        yield Finding("note", "orphan", f"{place}/{names[-1]}", "whole, but there is no CURRENT to name it")
    elif home.pointer is not None and home.pointer not in names:
        yield Finding("error", "pointer", f"{place}/CURRENT", f"names {home.pointer!r}, which is no whole attempt")
    elif names and home.pointer != names[-1]:
        yield Finding("note", "orphan", f"{place}/{names[-1]}", "whole and newer than CURRENT")


def _mend(store: Store, home: _Home, finding: Finding) -> str:
    """Do what the finding asks for and say it; "" if a person has to."""
    path = store.root / finding.place
    match finding.code:
        case "damaged":
            discard(store, path)
            return "moved to trash/; the next run that needs it builds it"
        case "foreign":
            to_trash(store, path, f"foreign-{path.name}")
            return "moved to trash/"
        case "leftover":
            path.unlink(missing_ok=True)
            return "deleted"
    if not home.whole:
        (home.path / "CURRENT").unlink(missing_ok=True)
        return "CURRENT removed: the artifact is simply not built"
    store.point(home.whole[-1])
    return f"CURRENT names {home.whole[-1].attempt} now"


def _inputs(store: Store, homes: list[_Home]) -> Iterator[Finding]:
    """Artifacts whose inputs are gone: they work, but nobody can look at what they were made from."""
    known = {(stored.id, stored.attempt) for home in homes for stored in home.whole}
    for stored in (stored for home in homes for stored in home.whole):
        gone = [role for role, item in stored.manifest["inputs"].items() if (item["id"], item["attempt"]) not in known]
        if gone:
            yield Finding("note", "input", store.relative(stored.path), f"inputs no longer here: {', '.join(gone)}")


def _works(store: Store, repair: bool) -> Iterator[Finding]:
    """Writes that were stopped in work/; builds in progress are no finding."""
    for path in sorted((store.root / "work").glob("*/.*.json.*")):
        lock = store.lock(path.parent.name)
        if lock is None:
            continue
        with lock:
            finding = Finding("note", "leftover", store.relative(path), "a write that was stopped")
            if repair:
                path.unlink(missing_ok=True)
                finding.repaired = "deleted"
        yield finding


def _pins(store: Store) -> Iterator[Finding]:
    for file in sorted((store.root / "pins").glob("[!.]*")):
        try:
            stored = store.read(store.root / read_json(file)["path"])
            store.verify(stored)
        except (OSError, KeyError, TypeError, StoreError) as error:
            yield Finding("error", "pin", store.relative(file), f"set it anew or remove it: {error}")


def _runs(store: Store, repair: bool) -> Iterator[Finding]:
    """Records that nobody can read, and links to the newest run that lead nowhere."""
    for file in sorted((store.root / "runs").glob("*/2*/run.json")):
        try:
            read_json(file)
        except (OSError, StoreError) as error:
            yield Finding("note", "run", store.relative(file), f"cannot be read: {error}")
    for link in sorted((store.root / "runs").glob("*/latest*")):
        if link.exists():
            continue
        finding = Finding("note", "run", store.relative(link), "leads nowhere")
        folds = link.name.removeprefix("latest")
        runs = sorted(run for run in link.parent.glob("2*") if run.name.endswith("-folds") == bool(folds))
        if repair and runs:
            store.make_latest(runs[-1], link.name)
            finding.repaired = f"leads to {runs[-1].name} now"
        yield finding
