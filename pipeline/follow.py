"""`journeyman status --follow`: a run that is under way, watched from another terminal until it ends."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.display import Screen, duration
from pipeline.manifest import read_json
from pipeline.progress import read
from pipeline.store import Store

TICK = 0.5  # seconds between two looks
SAID = 10.0  # seconds between two lines of one stage where there is no terminal
DONE = ("BUILT", "RESUMED", "FAILED", "GATED")


def follow(
    store: Store, experiment: str, screen: Screen, wait: Callable[[float], None] = time.sleep
) -> tuple[int, Any]:
    """Show what the newest run of the experiment does until it ends; its exit code and its record.

    Where none is under way, that is said, and the code is 0.
    """
    latest = store.runs(experiment) / "latest" / "run.json"
    file = latest.resolve()  # a run that begins meanwhile is another one
    record = read_json(file) if latest.exists() else None
    if record is None or record["exit"] is not None:
        last = f"; the last one, {record['run_id']}, ended with exit code {record['exit']}" if record else ""
        screen.say(f"no run of {experiment} is under way in {store.root}{last}")
        return 0, {"experiment": experiment, "run": record}
    line, seen = _Line(screen), 0
    screen.say(f"{experiment} {record['run_id']}, {len(record['stages'])} stages")
    while record["exit"] is None and _lives(record):
        seen = _tell_finished(line, record, seen)
        line.show(_running(store, record))
        wait(TICK)
        record = read_json(file)
    _tell_finished(line, record, seen)
    line.end()
    return _told_end(record, screen)


def _told_end(record: Mapping[str, Any], screen: Screen) -> tuple[int, Any]:
    if record["exit"] is None:
        screen.say("its process is gone without a word; the same command resumes it")
        return 5, {"experiment": record["experiment"], "run": record}
    screen.say(f"ended with exit code {record['exit']} after {duration(record['seconds'])}")
    return record["exit"], {"experiment": record["experiment"], "run": record}


def _lives(record: Mapping[str, Any]) -> bool:
    """Whether the run's process is there; of another host nothing can be known but what it writes."""
    if record["process"]["host"] != socket.gethostname():
        return True
    return Path(f"/proc/{record['process']['pid']}").exists()


def _tell_finished(line: "_Line", record: Mapping[str, Any], seen: int) -> int:
    """One line for each stage that ended since the last look; returns how many have been told."""
    ended = [(name, entry) for name, entry in record["stages"].items() if entry["status"] in DONE]
    for name, entry in ended[seen:]:
        line.say(f"  {line.screen.status(entry['status'])} {name}  {duration(entry['seconds'])}")
    return len(ended)


def _running(store: Store, record: Mapping[str, Any]) -> str | None:
    """What the stage that is being built says: its progress, else the last line of its log."""
    names = list(record["stages"])
    for name, entry in record["stages"].items():
        if entry["status"] == "SKIPPED" and store.locked(entry["id"]):
            work = store.work(entry["id"])
            progress = read(work, record["run_id"])
            said = progress.words() if progress else _last_line(work / "log.txt")
            return f"[{names.index(name) + 1}/{len(names)}] {name}  {said}".rstrip()
    return None


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, os.path.getsize(log) - 4096))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    said = [text.strip() for text in lines if text.strip()]
    return said[-1].rpartition("] ")[2][:160] if said else ""


class _Line:
    """One line that changes in place on a terminal; elsewhere a line of its own now and then."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.live, self.shown, self.at = screen, screen.stream.isatty(), "", 0.0

    def show(self, text: str | None) -> None:
        if not text or text == self.shown:
            return
        if self.live:
            width = os.get_terminal_size(self.screen.stream.fileno()).columns
            self.screen.rewrite(text[: width - 1])
        elif time.monotonic() - self.at < SAID and text.split("  ")[0] == self.shown.split("  ")[0]:
            return
        else:
            self.screen.say(f"  {text}")
        self.shown, self.at = text, time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.end()
        self.screen.say(text)

    def end(self) -> None:
        if self.live and self.shown:
            self.screen.rewrite()
        self.shown = ""
