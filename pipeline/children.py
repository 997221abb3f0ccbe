"""Child processes of stages, from a warm fork server (each starts in hundredths of a second); their log on stderr."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, DataError, JourneymanError, StageFailed
from pipeline.heartbeat import Heartbeat
from pipeline.locks import Lock
from pipeline.manifest import read_json
from pipeline.node import located
from pipeline.processes import Outcome
from pipeline.registry import WARM, load_kinds
from pipeline.visible import on_terminal
from pipeline.worker import Request, build, validate

TICK = 0.1  # seconds between two looks at a child's log
GRACE = 10  # seconds that an interrupted child gets before it is killed


def warm(modules: Iterable[str]) -> None:
    """Name the modules whose packages' `warm` the fork server imports; it starts with the first child, or ahead."""
    # glibc reads this once, when the server starts: large pages make a tenth of the page faults in tensor-sized buffers
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    packages = dict.fromkeys(module.partition(".")[0] for module in modules)
    multiprocessing.set_forkserver_preload(["pipeline.worker", *(f"{package}.{WARM}" for package in packages)])


def warm_ahead() -> None:
    """Start the fork server for all known kinds now, while the command still composes and plans."""
    from multiprocessing import forkserver

    warm(found.stage.__module__ for found in load_kinds().values())
    forkserver._forkserver.ensure_running()


def share_server() -> None:
    """Let this process, forked from the command's, have its stages forked from the command's server.

    The standard library would ask whether the server still runs in a way that only the server's parent can, and fail.
    """
    from multiprocessing import forkserver, resource_tracker

    forkserver._forkserver.ensure_running = resource_tracker.ensure_running  # type: ignore[method-assign]


def run_build(spec: Path, lock: Lock, debug: bool) -> Outcome:
    """Run one stage in a child; its Outcome, or StageFailed if it died without a word or hangs."""
    asked = read_json(spec)
    limit = 60 * asked["config"]["runtime"]["stall_minutes"]
    watch = partial(Heartbeat, spec.parent, asked["stage"], limit=limit)
    return _child(build, (str(spec), lock), (debug,), spec.with_name("log.txt"), watch)


def run_validate(requests: list[Request]) -> None:
    """Validate configs in one child; raises all complaints as one error."""
    errors = _child(validate, (requests,), ())
    if errors:
        text = "\n".join(dict.fromkeys(located(where, message) for where, message, _ in errors))
        codes = {code for _, _, code in errors}
        raise {2: ConfigError, 4: DataError}.get(min(codes), StageFailed)(text)


def _child(
    entry: Callable[..., None],
    before: tuple[Any, ...],
    after: tuple[Any, ...],
    log: Path | None = None,
    watch: Callable[[int], Heartbeat] | None = None,
) -> Any:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("forkserver").Process(target=entry, args=(*before, sender, *after))
    tail = _Tail(log)
    started = time.time()
    try:
        process.start()
        sender.close()  # the child has the other copy: its death then reads as end of file
        answer = _listen(receiver, process.sentinel, tail, watch(process.pid) if watch and process.pid else None)
    except (KeyboardInterrupt, StageFailed):
        _stop(process)
        raise
    finally:
        tail.show()
        receiver.close()
    process.join(GRACE)
    _stop(process)  # a library's thread may keep it from ending
    if answer is None:
        raise _death(process.exitcode, log, time.time() - started)
    return answer


def _listen(receiver: Connection, sentinel: int, tail: "_Tail", heartbeat: Heartbeat | None) -> Any:
    """The child's answer, or None if it ended without one; shows its log meanwhile. StageFailed if it hangs."""
    while not wait([receiver, sentinel], TICK):
        if heartbeat:
            heartbeat.beat()
        tail.show()
    try:
        return receiver.recv() if receiver.poll() else None
    except EOFError:
        return None


def _stop(process: Any) -> None:
    """End a child that still runs: SIGTERM, then SIGKILL."""
    if process.pid is None or process.exitcode is not None:
        return
    try:
        process.terminate()
        process.join(GRACE)
    finally:  # also when the person is impatient
        process.kill()
        process.join()


def _death(code: int | None, log: Path | None, seconds: float) -> JourneymanError:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = "; perhaps the machine ran out of memory" if name == "SIGKILL" else ""
        what = f"its process was killed by {name} after {seconds:.0f} s{hint}"
    else:
        what = f"its process ended with code {code} and no result"
    return StageFailed(f"{what}. The same command resumes it." + (f" Log: {log}" if log else ""))


class _Tail:
    """Copies what a child adds to its log to stderr."""

    def __init__(self, log: Path | None) -> None:
        self.log = log
        self.position = log.stat().st_size if log and log.exists() else 0

    def show(self) -> None:
        if self.log is None or not self.log.exists():
            return
        with self.log.open("rb") as stream:
            stream.seek(self.position)
            text = stream.read()
        self.position += len(text)
        shown = text.decode("utf-8", "replace").replace("\r", "\n")  # progress bars of libraries go on below
        sys.stderr.write(on_terminal(shown))
        sys.stderr.flush()
