"""A model of a power cut: what a file system may show afterwards, from a trace of real writes, renames and fsyncs.

The rules are those of POSIX, which no file system undercuts: what was written to a file is safe once that file was
fsynced, and a change of a folder (a name added, removed or moved) once that folder was. Everything else is there or
not, in any combination; what was written to a file may also be there by half. A rename is one change.
"""

import itertools
import os
import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CALLS = ("fsync", "rename", "replace", "unlink", "remove", "rmdir", "mkdir", "symlink")
ALL = 6  # up to so many unsafe changes every combination is tried
DRAWS = 12  # else so many combinations at random, beside: all, none, all but one


@dataclass(frozen=True)
class Change:
    """A file's content, or names in folders that change together."""

    node: int = 0  # of the file
    content: bytes = b""
    names: tuple[tuple[int, str, int | None], ...] = ()  # (folder's node, name, node or None)

    def safe_after(self, synced: int) -> bool:
        return synced in ({folder for folder, _, _ in self.names} if self.names else {self.node})


@dataclass
class Disk:
    """Folders (node -> name -> node) and files (node -> content)."""

    root: int
    folders: dict[int, dict[str, int]] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)  # nodes that are folders, also when nothing in them reached the disk

    def copy(self):
        return Disk(
            self.root, {node: dict(names) for node, names in self.folders.items()}, dict(self.files), self.known
        )

    def apply(self, change: Change, half: bool = False) -> None:
        if not change.names:
            self.files[change.node] = change.content[: len(change.content) // 2] if half else change.content
        for folder, name, node in change.names:
            names = self.folders.setdefault(folder, {})
            names.pop(name, None)
            if node is not None:
                names[name] = node

    def write(self, place: Path, node: int | None = None) -> None:
        """Make the folder `place` look like this disk; a name whose file never reached it is an empty file."""
        place.mkdir()
        for name, inner in self.folders.get(self.root if node is None else node, {}).items():
            if inner in self.known:
                self.write(place / name, inner)
            else:
                (place / name).write_bytes(self.files.get(inner, b""))

    def key(self, node: int | None = None):
        names = self.folders.get(self.root if node is None else node, {})
        return tuple(
            (name, self.key(inner) if inner in self.known else self.files.get(inner, b""))
            for name, inner in sorted(names.items())
        )


class Trace:
    """What happens below `root` while `recording()`: `start`, then changes and the nodes that are fsynced."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.start = _look(root)
        self.now = self.start.copy()
        self.events: list[Change | int] = []

    @contextmanager
    def recording(self, monkeypatch):
        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._noted(getattr(os, name), name))
            yield self
        self._note()

    def _noted(self, real, name):
        def call(*args, **kwargs):
            self._note()
            result = real(*args, **kwargs)
            if name == "fsync":
                self.events.append(os.fstat(args[0]).st_ino)
            self._note()
            return result

        return call

    def _note(self) -> None:
        """Append what changed since the last call: contents of files, then names."""
        seen = _look(self.root)
        self.start.known |= seen.folders.keys()
        for node, content in seen.files.items():
            if self.now.files.get(node) != content:
                self.events.append(Change(node, content))
        names = [
            (folder, name, seen.folders.get(folder, {}).get(name))
            for folder in {**self.now.folders, **seen.folders}
            for name in {**self.now.folders.get(folder, {}), **seen.folders.get(folder, {})}
            if self.now.folders.get(folder, {}).get(name) != seen.folders.get(folder, {}).get(name)
        ]
        if names:
            self.events.append(Change(names=tuple(names)))
        self.now = seen

    def cuts(self, seed: int = 0):
        """(number of events that had happened, disk) for every power cut, without repetitions among neighbours."""
        draw = random.Random(seed)
        for end in range(len(self.events) + 1):
            safe, unsafe, order = _split(self.events[:end])
            seen = set()
            for kept, halves in _choices(unsafe, draw):
                disk = self.start.copy()
                for number in order:
                    if number in safe or number in kept:
                        disk.apply(self.events[number], half=number in halves)
                if (key := disk.key()) not in seen:
                    seen.add(key)
                    yield end, disk


def _split(events):
    """Numbers of changes that are safe, that are not, and of all in their order."""
    order = [number for number, event in enumerate(events) if isinstance(event, Change)]
    safe = {
        number for number in order
        if any(isinstance(later, int) and events[number].safe_after(later) for later in events[number:])
    }  # fmt: skip
    return safe, [number for number in order if number not in safe], order


def _choices(unsafe, draw):
    """(those that reached the disk, those of them that did by half)."""
    if len(unsafe) <= ALL:
        for size in range(len(unsafe) + 1):
            yield from ((set(kept), set()) for kept in itertools.combinations(unsafe, size))
    else:
        yield from (({*unsafe} - {left}, set()) for left in (None, *unsafe))
        yield set(), set()
    for _ in range(DRAWS if unsafe else 0):
        kept = {number for number in unsafe if draw.random() < 0.6}
        yield kept, {number for number in kept if draw.random() < 0.5}


def _look(root: Path) -> Disk:
    disk = Disk(os.stat(root).st_ino)
    for path, folders, files in os.walk(root):
        names = {name: os.lstat(os.path.join(path, name)).st_ino for name in (*folders, *files)}
        disk.folders[os.stat(path).st_ino] = names
        for name in files:
            disk.files[names[name]] = Path(path, name).read_bytes()
    return disk
