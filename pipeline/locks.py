"""Locks between processes of one host: an exclusive flock that a child keeps when its parent is gone."""

import fcntl
import os
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any


class Lock:
    """An exclusive flock, held until every process with its descriptor has closed it. Pickles to child processes."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __reduce__(self) -> tuple[Any, ...]:
        return _received_lock, (DupFd(self.handle),)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)  # never LOCK_UN: that would also take the lock from an orphaned child

    @classmethod
    def acquire(cls, path: Path, waiting: Callable[[], None] | None = None) -> "Lock | None":
        """Take the lock. When another holds it: call `waiting` and queue, or return None if `waiting` is None."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(handle)
        except BlockingIOError:
            if waiting is None:
                os.close(handle)
                return None
        except BaseException:
            os.close(handle)
            raise
        waiting()
        fcntl.flock(handle, fcntl.LOCK_EX)
        return cls(handle)


def _received_lock(handle: Any) -> Lock:
    return Lock(handle.detach())
