"""What an artifact says of itself: `manifest.json`, and the small durable writes that it and the store need."""

import json
import os
import platform
import re
import subprocess
import sys
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.errors import StageFailed, StoreError
from pipeline.fingerprint import combine, sha256

SCHEMA = 1  # of manifest.json
TIME = "%Y%m%dT%H%M%S%f"
STAMPED = re.compile(r"\d{8}T\d{12}Z-")
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "tokenizers",
    "bitsandbytes",
    "journeyman",
)


def stamp(others: Iterable[str] = ()) -> str:
    """A name that sorts by time and never repeats: UTC to the microsecond and six random digits.

    It sorts behind every name in `others`, also when the clock was put back since they were made.
    """
    moment = datetime.now(UTC)
    newest = max((name for name in others if STAMPED.match(name)), default=None)
    if newest is not None:
        moment = max(moment, datetime.strptime(newest[:21], TIME).replace(tzinfo=UTC) + timedelta(microseconds=1))
    return f"{moment.strftime(TIME)}Z-{uuid.uuid4().hex[:6]}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_json(path: Path, value: Any) -> None:
    """Replace the file at once: a reader sees the old text or the new, also after a power cut."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)


def make_folder(path: Path) -> None:
    """The folder and its parents, each of which outlives a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: Path) -> None:
    """fsync every file and folder below `root`, and `root`."""
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))


def read_json(path: Path) -> Any:
    """The JSON value in a file of the store; StoreError when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def describe(folder: Path) -> list[dict[str, Any]]:
    """[{path, size, sha256}] of every file below `folder`, sorted; StageFailed for links and empty folders."""
    files = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    if not files:
        raise StageFailed("the stage wrote no file, so there is nothing to publish")
    for path in files:
        if path.is_symlink():
            raise StageFailed(
                f"the stage wrote a symbolic link ({path.relative_to(folder)}); artifacts hold plain files"
            )
    return [{"path": p.relative_to(folder).as_posix(), "size": p.stat().st_size, "sha256": sha256(p)} for p in files]


def tree_digest(outputs: Sequence[dict[str, Any]]) -> str:
    """One digest over the names and contents of all outputs."""
    return combine((str(item["path"]), str(item["sha256"])) for item in outputs)


@cache
def environment() -> dict[str, Any]:
    """Where this process runs: git state of the current folder, package versions, machine. No environment variables."""
    return {
        **_git(),
        "packages": packages(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": {"cpu": _cpu(), "cores": os.cpu_count(), "gpus": _gpus()},
    }


@cache
def packages() -> dict[str, str]:
    """Installed versions of the packages that decide a result."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, Any]:
    """{git, dirty} of the current folder's repository; {git: None} where there is none."""
    try:
        sha = _ask("git", "rev-parse", "HEAD")
        return {"git": sha, "dirty": bool(_ask("git", "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"git": None, "dirty": None}


def _ask(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Names of NVIDIA cards, from the driver; no CUDA context is made."""
    try:
        return _ask("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def command_line() -> list[str]:
    """The command as typed, with the program's name instead of its path."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
