"""A function on many things in several processes, in the order of the things."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Thing = TypeVar("Thing")


def mapped(function: Callable[[Thing], Any], parts: Sequence[Thing], alone: int) -> Iterator[Any]:
    """`map` in all cores, in order; in this process where there are no more than `alone` parts."""
    cores = len(os.sched_getaffinity(0))
    if cores == 1 or len(parts) <= alone:
        yield from map(function, parts)
        return
    with closing(in_processes(function, parts, cores)) as found:
        yield from (result for _, result in found)


def in_processes(function: Callable[[Thing], Any], things: Iterable[Thing], count: int) -> Iterator[tuple[Thing, Any]]:
    """(thing, what the function makes of it). What it raises is raised here.

    Each process has at most one thing, so that a pipe is never written from both ends at once.
    """
    import multiprocessing

    context = multiprocessing.get_context("forkserver")
    pipes = [context.Pipe() for _ in range(count)]
    processes = [context.Process(target=_work, args=(theirs, function), daemon=True) for _, theirs in pipes]
    try:
        for process in processes:
            process.start()
        for _, theirs in pipes:
            theirs.close()
        yield from _dealt(things, [ours for ours, _ in pipes])
    finally:
        for ours, _ in pipes:
            ours.close()
        for process in processes:
            process.terminate()
            process.join()


def _dealt(things: Iterable[Thing], workers: "list[Connection]") -> Iterator[tuple[Thing, Any]]:
    waiting: deque[tuple[Connection, Thing]] = deque()
    for number, thing in enumerate(things):
        if len(waiting) == len(workers):
            yield _result(*waiting.popleft())
        worker = workers[number % len(workers)]
        worker.send(thing)
        waiting.append((worker, thing))
    while waiting:
        yield _result(*waiting.popleft())


def _result(worker: "Connection", thing: Thing) -> tuple[Thing, Any]:
    try:
        found = worker.recv()
    except EOFError as error:
        raise RuntimeError("a process that works on rows was ended from outside, perhaps for lack of memory") from error
    if isinstance(found, Exception):
        raise found
    return thing, found


def _work(pipe: "Connection", function: Callable[[Any], Any]) -> None:
    """A process: things in, results out, until the other end is closed, also because its process died."""
    try:
        while True:
            thing = pipe.recv()
            try:
                found: Any = function(thing)
            except Exception as error:
                found = error
            pipe.send(found)
    except (EOFError, OSError, KeyboardInterrupt):
        return
