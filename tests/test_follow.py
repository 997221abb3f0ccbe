"""Watching a run from another terminal: what is under way, how far, until it ends."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from pipeline import progress
from pipeline.context import Context
from pipeline.display import Screen
from pipeline.follow import follow
from pipeline.manifest import write_json
from pipeline.store import Store

RUN = "20260101T000000000000Z-abcdef"


def record(exit=None, pid=None, **statuses):
    stages = {
        name: {"id": f"{number:016x}", "status": status, "seconds": 1.5}
        for number, (name, status) in enumerate(statuses.items())
    }
    process = {"host": socket.gethostname(), "pid": pid or os.getpid()}
    return {"run_id": RUN, "experiment": "chain", "exit": exit, "seconds": 9.0, "process": process, "stages": stages}


@pytest.fixture
def watched(tmp_path, capsys):
    """watched(record, record, ...) -> (code, lines): each look finds the next record; `.locks` are held meanwhile."""
    store = Store(tmp_path / "store")
    store.prepare()
    folder = store.runs("chain") / RUN
    folder.mkdir(parents=True)
    store.make_latest(folder)

    def call(*records):
        held = [store.lock(entry["id"]) for entry in records[0]["stages"].values() if entry["status"] == "SKIPPED"][:1]
        waiting = iter(records)
        write_json(folder / "run.json", next(waiting))
        code, document = follow(store, "chain", Screen(), lambda _: write_json(folder / "run.json", next(waiting)))
        for lock in held:
            lock.__exit__()
        assert document["run"]["run_id"] == RUN
        return code, capsys.readouterr().out.splitlines()

    call.store, call.work = store, store.work(f"{1:016x}")
    call.work.mkdir(parents=True)
    return call


def test_a_run_is_told_until_its_end_and_gives_its_exit_code(watched):
    progress.write(
        watched.work,
        progress.Progress(RUN, 20, 400, 0, 100.0, 110.0, 2**30, {"loss": 1.5, "tokens_per_second": 1204.0}),
    )
    code, lines = watched(
        record(base="BUILT", sft="SKIPPED"), record(base="BUILT", sft="SKIPPED"), record(3, base="BUILT", sft="FAILED")
    )
    assert code == 3 and lines == [
        f"chain {RUN}, 2 stages",
        "  BUILT   base  1.5 s",
        "  [2/2] sft  step 20/400  loss 1.5  1,204 tokens/s  3 min 10 s left  1.0 GiB",
        "  FAILED  sft  1.5 s",
        "ended with exit code 3 after 9.0 s",
    ]


def test_a_stage_that_tells_no_steps_is_told_by_its_log(watched):
    (watched.work / "log.txt").write_text("12:00:00 [sft] 40 rows read\n\n")
    progress.write(watched.work, progress.Progress("an earlier run", 1, 2, 0, 1.0, 2.0, 2**30))
    _, lines = watched(record(base="BUILT", sft="SKIPPED"), record(0, base="BUILT", sft="BUILT"))
    assert "  [2/2] sft  40 rows read" in lines


def test_a_run_whose_process_is_gone_does_not_keep_anyone_waiting(watched):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    code, lines = watched(record(pid=int(gone.stdout), base="BUILT", sft="SKIPPED"))
    assert code == 5 and "gone without a word" in lines[-1]


def test_nothing_under_way_is_said(watched, capsys):
    code, lines = watched(record(0, base="BUILT"))
    assert code == 0 and lines == [
        f"no run of chain is under way in {watched.store.root}; the last one, {RUN}, ended with exit code 0"
    ]
    assert follow(watched.store, "other", Screen()) == (0, {"experiment": "other", "run": None})


def test_on_a_terminal_one_line_changes_in_place(watched, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((40, 20)))
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    (watched.work / "log.txt").write_text("12:00:00 [sft] " + "x" * 90 + "\n")
    code, _ = watched(record(base="BUILT", sft="SKIPPED"), record(0, base="BUILT", sft="BUILT"))
    assert code == 0


# -- what a stage says --------------------------------------------------------------------------------------------
def test_a_stage_says_how_far_it_is(tmp_path):
    ctx = Context(RUN, "chain", "sft", "1", None, {}, {}, {}, tmp_path / "out", tmp_path / "ckpt", tmp_path / "cache")
    assert ctx.progress(10, 100).startswith("step 10/100")  # where a resumed stage begins: no speed yet
    assert "left" not in ctx.progress(10, 100)
    words = ctx.progress(40, 100, loss=0.25, gpu_bytes=2.0**31)
    found = progress.read(tmp_path, RUN)
    assert (found.step, found.total, found.start, found.numbers["loss"]) == (40, 100, 10, 0.25)
    assert found.left == pytest.approx((found.at - found.begin) / 30 * 60)
    assert "loss 0.25" in words and "2.0 GiB on the GPU" in words and found.memory > 2**20
    assert progress.read(tmp_path, "another run") is None and [path.name for path in tmp_path.iterdir()] == [
        "progress.json"
    ]


@pytest.mark.parametrize(("seconds", "said"), [(5, "5.0 s left"), (130, "2 min 10 s left"), (7260, "2 h 1 min left")])
def test_the_time_that_is_left(seconds, said):
    assert said in progress.Progress(RUN, 1, 2, 0, 0.0, float(seconds), 0).words()


def test_a_real_run_is_watched_from_a_second_terminal(journeyman, project):
    """`status --follow` beside a run that waits at its second step."""
    os.mkfifo(project.path / "pipe")
    (project.path / "trouble.txt").write_text("wait")
    from pipeline.cli import main

    command = [
        sys.executable,
        "-c",
        "import json, sys; from pathlib import Path; import time\n" + WATCH,
        str(project.store),
    ]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    opener = threading.Thread(
        target=lambda: (watcher.stdout.readline(), open(project.path / "pipe", "w").close()), daemon=True
    )
    opener.start()
    if code := main(["run", "experiment=chain"]):
        watcher.kill()  # of a run that failed the pipe is never opened, nor is there an end to watch
    assert code == 0
    opener.join(timeout=60)
    out = watcher.communicate(timeout=60)[0]
    assert watcher.returncode == 0
    assert "BUILT   first" in out and "ended with exit code 0" in out


WATCH = """
from pipeline.display import Screen
from pipeline.follow import follow
from pipeline.store import Store
store = Store(Path(sys.argv[1]))
while not (store.runs("chain") / "latest" / "run.json").exists():
    time.sleep(0.05)
sys.exit(follow(store, "chain", Screen())[0])
"""
