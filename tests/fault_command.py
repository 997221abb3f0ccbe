"""The command `journeyman` with a fault at a chosen moment, as a process of its own.

A moment is a step, which is one change of the store (`rename work/<id>/out -> artifacts/toy/<id>/<attempt>`), in the
command's process (`main`) or in that of a stage (`child`), and which occurrence of it. Python's audit events name
them, so no step has to be listed and no code of the command knows of it. Environment:

FAULT_TRACE   a file to which every moment is written: process, step
FAULT_AT      process|step|occurrence
FAULT_KIND    kill: SIGKILL to the process group before the step; full: from then on the disk is full
FAULT_FLAG    a file that tells all processes of the command that the disk is full by now
FAULT_TOYS    1: the toy kinds instead of the real ones
"""

import errno
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path

import pipeline.registry
from pipeline.cli import main

STORE = os.environ["JOURNEYMAN_STORE"]
PROCESS = "main" if __name__ == "__main__" else "child"  # which imports this file as __mp_main__
NAMES = (  # what differs between two runs
    (r"\d{8}T\d{12}Z-[0-9a-f]{6}", "<attempt>"),
    (r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])", "<id>"),
    (rf"(?<!\d){os.getpid()}(?!\d)", "<pid>"),
    (r"checkpoint-\d+", "checkpoint-<n>"),
    (r"[0-9a-f]{24,}", "<hash>"),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename": "rename", "os.mkdir": "mkdir", "os.rmdir": "rmdir", "os.remove": "remove", "os.symlink": "link",
           "os.utime": "utime", "os.truncate": "truncate"}  # fmt: skip
NEEDS_SPACE = ("open", "mkdir", "link", "write")
seen: Counter[str] = Counter()


def place(path) -> str | None:
    """The path below the store, without what differs between two runs; None outside of it."""
    if isinstance(path, int):
        path = os.readlink(f"/proc/self/fd/{path}")
    path = os.path.abspath(os.fsdecode(path))
    if not path.startswith(STORE + os.sep):
        return None
    name = path.removeprefix(STORE + os.sep)
    for pattern, word in NAMES:
        name = re.sub(pattern, word, name)
    return name


def step(event: str, args: tuple) -> str | None:
    """What an audit event changes in the store, if anything."""
    if event == "open" and isinstance(args[0], (str, bytes)) and (args[2] or 0) & WRITING:
        return f"open {where}" if (where := place(args[0])) else None
    if event in CHANGES and (first := place(args[0])):
        second = place(args[1]) if event == "os.rename" else None
        return f"{CHANGES[event]} {first}" + (f" -> {second}" if second else "")
    return None


def reach(name: str) -> None:
    """Called before each step: note it, and let the fault happen if this is its moment."""
    seen[name] += 1
    if trace := os.environ.get("FAULT_TRACE"):
        line = f"{PROCESS}|{name}|{seen[name]}\n".encode()
        handle = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(handle, line)
        os.close(handle)
    if os.environ.get("FAULT_AT") == f"{PROCESS}|{name}|{seen[name]}":
        if os.environ["FAULT_KIND"] == "kill":
            os.killpg(os.getpgrp(), signal.SIGKILL)
        Path(os.environ["FAULT_FLAG"]).touch()
    if name.startswith(NEEDS_SPACE) and "FAULT_FLAG" in os.environ and os.path.exists(os.environ["FAULT_FLAG"]):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.path.join(STORE, name.split()[1]))


def hook(event: str, args: tuple) -> None:
    if name := step(event, args):
        reach(name)


def fsync(handle: int, real=os.fsync) -> None:
    """fsync has no audit event."""
    if where := place(handle):
        reach(f"fsync {where}")
    real(handle)


os.fsync = fsync
sys.addaudithook(hook)
if os.environ.get("FAULT_TOYS"):
    import toy_stages  # noqa: F401  registers the kinds

if __name__ == "__main__":
    if os.environ.get("FAULT_TOYS"):
        pipeline.registry.entry_points = lambda group: []
    sys.exit(main())
