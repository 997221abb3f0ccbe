"""A mirror of the store's artifacts at a url of fsspec: pushed files first and CURRENT last, pulled through hashes."""

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec

from pipeline.disk import FULL
from pipeline.errors import ConfigError, JourneymanError, StoreError
from pipeline.fingerprint import sha256
from pipeline.manifest import STAMPED, write_json
from pipeline.names import is_plain
from pipeline.store import Store, Stored, check, digests

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "file": "fsspec", "memory": "fsspec"}  # scheme -> what speaks it
ATTEMPT = re.compile(STAMPED.pattern + "[0-9a-f]{6}")
LARGEST_MANIFEST = 2**26  # bytes
CHUNK = 2**22


class Unreachable(StoreError):
    """The remote gave no answer, or none that could be used."""


@dataclass(frozen=True)
class Remote:
    """artifacts/<kind>/<id>/{CURRENT,<attempt>/} below `root`, as in a store. Everything raises StoreError."""

    url: str
    files: fsspec.AbstractFileSystem = field(repr=False)
    root: str

    # -- reading --------------------------------------------------------------------------------------------------
    def current(self, store: Store, kind: str, id: str) -> Stored | None:
        """What CURRENT names there, at the place it would have in `store`; None if nothing is there. Two reads."""
        text = self._read(f"artifacts/{kind}/{id}/CURRENT", 200)
        return None if text is None else self.attempt(store, kind, id, text.decode("utf-8", "replace").strip())

    def attempt(self, store: Store, kind: str, id: str, attempt: str) -> Stored:
        """A whole attempt, which is one with a manifest; StoreError for none, and for a manifest that is no good."""
        place = f"artifacts/{kind}/{id}/{attempt}/manifest.json"
        where = f"{self.url}/{place}"
        if not all(is_plain(name) and "/" not in name for name in (kind, id)) or not ATTEMPT.fullmatch(attempt):
            raise StoreError(f"{self.url}/artifacts/{kind}/{id} names {attempt!r}: it was not written by Journeyman")
        text = self._read(place, LARGEST_MANIFEST)
        try:
            manifest = json.loads(text or b"")
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{where} is missing or damaged ({error}). {_again(kind)}") from error
        check(manifest, where)
        if (manifest["kind"], manifest["id"], manifest.get("attempt")) != (kind, id, attempt):
            raise StoreError(f"{where} is the manifest of another place")
        if any(item["path"] == "manifest.json" for item in manifest["outputs"]):
            raise StoreError(f"{where} names itself as a file of the stage: it was not written by Journeyman")
        return Stored(store.folder(kind, id) / attempt, manifest)

    def kinds(self) -> dict[str, str]:
        """id -> kind of everything there; one listing for each kind."""
        found = {}
        for kind in self._names("artifacts"):
            found.update(dict.fromkeys(self._names(f"artifacts/{kind}"), kind))
        return found

    def pull(self, store: Store, stored: Stored) -> Stored:
        """Download an attempt, hash every file, then publish it; the caller holds the lock of its id."""
        if stored.path.is_dir():
            local = store.read(stored.path)
            store.verify(local)
            store.point(local)
            return local
        work = store.work(stored.id) / "pull"
        part = work / stored.attempt
        for output in stored.manifest["outputs"]:
            self._download(stored, output, part / output["path"])
        write_json(part / "manifest.json", stored.manifest)
        placed = store.place(part, stored.manifest)
        shutil.rmtree(work)
        return placed

    # -- writing --------------------------------------------------------------------------------------------------
    def holds(self, store: Store, stored: Stored) -> bool:
        """Whether CURRENT there names this attempt, or one with the same content from the same inputs."""
        try:
            there = self.current(store, stored.kind, stored.id)
        except Unreachable:
            raise
        except StoreError:
            return False  # damaged: a push mends it
        if there is None:
            return False
        same = there.digest == stored.digest and digests(there.manifest["inputs"]) == digests(stored.manifest["inputs"])
        return same or there.attempt == stored.attempt

    def push(self, stored: Stored, check: bool = False) -> int:
        """Upload files, then the manifest, then CURRENT; returns bytes sent. Stopped anywhere, the next push goes on.

        What has its size there already is not sent again; with `check`, only what has its hash.
        """
        home = f"artifacts/{stored.kind}/{stored.id}"
        there = self._sizes(f"{home}/{stored.attempt}")
        sent = 0
        for path in (*(item["path"] for item in stored.manifest["outputs"]), "manifest.json"):
            file, place = stored.path / path, f"{home}/{stored.attempt}/{path}"
            size = file.stat().st_size
            if there.get(path) != size or (check and self._hash(place) != sha256(file)):
                with self._asking():
                    self.files.put_file(str(file), f"{self.root}/{place}")
                sent += size
        with self._asking():
            self._replace(f"{self.root}/{home}/CURRENT", f"{stored.attempt}\n".encode())
        return sent

    # -- one request each -----------------------------------------------------------------------------------------
    def _read(self, place: str, most: int) -> bytes | None:
        with self._asking():
            try:
                return bytes(self.files.cat_file(f"{self.root}/{place}", start=0, end=most))
            except FileNotFoundError as error:
                if "bucket does not exist" in str(error):
                    raise
                return None

    def _names(self, place: str) -> list[str]:
        with self._asking():
            self.files.invalidate_cache()
            try:
                found = self.files.ls(f"{self.root}/{place}", detail=True)
            except FileNotFoundError:
                return []
        return sorted(item["name"].rstrip("/").rpartition("/")[2] for item in found if item["type"] == "directory")

    def _sizes(self, place: str) -> dict[str, int]:
        with self._asking():
            self.files.invalidate_cache()
            found = self.files.find(f"{self.root}/{place}", detail=True)
        return {name.rpartition(f"{place}/")[2]: int(info["size"]) for name, info in found.items()}

    def _hash(self, place: str) -> str:
        digest = hashlib.sha256()
        with self._asking(), self.files.open(f"{self.root}/{place}", "rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def _download(self, stored: Stored, output: Mapping[str, Any], file: Path) -> None:
        """One file, unless a stopped pull has it already; StoreError when it is not what its manifest says."""
        place = f"artifacts/{stored.kind}/{stored.id}/{stored.attempt}/{output['path']}"
        if not _whole(file, output):
            file.parent.mkdir(parents=True, exist_ok=True)
            with self._asking():
                try:
                    if self.files.size(f"{self.root}/{place}") == output["size"]:  # else it could be without end
                        self.files.get_file(f"{self.root}/{place}", str(file))
                except FileNotFoundError:
                    file.unlink(missing_ok=True)
        if not _whole(file, output):
            file.unlink(missing_ok=True)
            raise StoreError(
                f"{self.url}/{place} is missing or does not match its recorded hash. It was not used. "
                + _again(stored.stage)
            )

    def _replace(self, path: str, text: bytes) -> None:
        """At once: objects always are; a file is renamed to its place."""
        if "file" not in self.files.protocol:
            self.files.pipe_file(path, text)
            return
        part = f"{path}.{uuid.uuid4().hex}"
        self.files.pipe_file(part, text)
        self.files.mv(part, path)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Whatever the library of a protocol raises becomes one sentence; each has errors of its own."""
        try:
            yield
        except JourneymanError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            raise Unreachable(
                f"the remote store {self.url} cannot be used: {type(error).__name__}: {error}. Nothing in the store "
                f"here is lost. Check store.remote, the credentials in the environment (docs/remote.md) and the "
                f"network, or go without: store.remote=null"
            ) from error


def _again(stage: str) -> str:
    return (
        f"Where it was built, `journeyman push {stage} --check experiment=NAME` sends it again; "
        f"`journeyman run ... --force {stage}` builds it here."
    )


def _whole(file: Path, output: Mapping[str, Any]) -> bool:
    return file.is_file() and file.stat().st_size == output["size"] and sha256(file) == output["sha256"]


def open_remote(url: str) -> Remote:
    """The mirror at `url`; nothing is asked of it yet. ConfigError for a url that cannot be one."""
    check_url(url)
    scheme, _, rest = url.partition("://")
    try:
        files = fsspec.filesystem(scheme, **({"auto_mkdir": True} if scheme == "file" else {}))
    except ImportError as error:
        raise ConfigError(f"store.remote: {scheme}:// needs the package {PACKAGES[scheme]}: {error}") from error
    return Remote(url.rstrip("/"), files, rest.rstrip("/"))


def check_url(url: str) -> None:
    """ConfigError for a url that is no place for artifacts, or that holds credentials."""
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            "store.remote: credentials and settings do not belong into the url, since configs are recorded; "
            "they come from the environment (docs/remote.md)"
        )
    if parts.scheme not in PACKAGES or not (parts.netloc or parts.path.strip("/")):
        raise ConfigError(f"store.remote: {url!r} must be s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or file:///FOLDER")
    if ".." in parts.path.split("/") or (parts.scheme == "file" and parts.netloc):
        raise ConfigError(f"store.remote: {url!r} must be a whole path, without '..'")


def fetch(remote: Remote, store: Store, stored: Stored, say: Callable[[str], None]) -> Stored:
    """Pull one artifact under the lock of its id."""
    lock = store.lock(stored.id, lambda: say(f"  waiting: another process works on {stored.stage} ({stored.id})"))
    assert lock is not None
    with lock:
        pulled = remote.pull(store, stored)
    say(f"  pulled {stored.stage}  {stored.kind}  {stored.id}  {mebibytes(stored)}")
    return pulled


def push_all(
    remote: Remote, store: Store, found: Iterable[Stored], say: Callable[[str], None], check: bool = False
) -> list[Stored]:
    """Push what is not there yet, in the given order; returns what was sent."""
    pushed = []
    for stored in found:
        if not check and remote.holds(store, stored):
            continue
        store.verify(stored, full=False)
        sent = remote.push(stored, check)
        say(f"  pushed {stored.stage}  {stored.kind}  {stored.id}  {sent / 2**20:.1f} MiB")
        pushed.append(stored)
    return pushed


def mebibytes(stored: Stored) -> str:
    return f"{sum(output['size'] for output in stored.manifest['outputs']) / 2**20:.1f} MiB"
