"""Signs of life of a stage: lines, files and processor time keep it alive; without any it is stopped, and resumed."""

import os
from types import SimpleNamespace

import pytest

from pipeline.errors import StageFailed
from pipeline.heartbeat import Heartbeat, processor_seconds


@pytest.fixture
def stage(tmp_path):
    """A work folder, a clock and processor seconds that a test sets; `wait(seconds)` lets time pass in small looks."""
    (tmp_path / "log.txt").write_text("starts\n")
    found = SimpleNamespace(work=tmp_path, time=0.0, spent=0.0, log=tmp_path / "log.txt")
    found.heartbeat = Heartbeat(tmp_path, "sft", 1, 600.0, clock=lambda: found.time, used=lambda pid: found.spent)

    def wait(seconds, computing=0.0):
        for _ in range(int(seconds / 10)):
            found.time += 10
            found.spent += 10 * computing
            found.heartbeat.beat()

    found.wait = wait
    return found


def lines(stage):
    return [line.split(" heartbeat: ")[1] for line in stage.log.read_text().splitlines() if "heartbeat" in line]


def test_a_stage_that_does_nothing_is_stopped_and_told_why(stage):
    stage.wait(590)
    with pytest.raises(StageFailed, match=r"for 10 min it wrote nothing.*runtime\.stall_minutes.*same command resumes"):
        stage.wait(20)


@pytest.mark.parametrize("sign", ["line", "file", "processor"])
def test_any_sign_of_life_begins_the_count_anew(stage, sign):
    stage.wait(590)
    if sign == "line":
        stage.log.write_text("starts\nstep 5\n")
    if sign == "file":
        (stage.work / "checkpoint").write_text("x")
    stage.wait(10, computing=1.0 if sign == "processor" else 0.0)
    stage.wait(590)
    with pytest.raises(StageFailed):
        stage.wait(20)


def test_a_stage_that_computes_without_a_word_lives_and_the_log_says_so(stage):
    stage.wait(7200, computing=0.5)
    assert lines(stage)[:2] == [
        "no line for 60 s, 30 s of processor time so far",
        "no line for 120 s, 60 s of processor time so far",
    ]
    assert len(lines(stage)) == 7  # after 1, 2, 4 ... 64 minutes


def test_its_own_lines_in_the_log_are_no_sign_of_life(stage):
    with pytest.raises(StageFailed):
        stage.wait(700)
    assert len(lines(stage)) == 4


def test_a_machine_that_slept_is_no_reason(stage):
    stage.time += 36_000
    stage.heartbeat.beat()
    stage.wait(500)


def test_zero_never_stops(tmp_path):
    now = [0.0]
    heartbeat = Heartbeat(tmp_path, "sft", 1, 0.0, clock=lambda: now[0], used=lambda pid: 0.0)
    for _ in range(10_000):
        now[0] += 10
        heartbeat.beat()


def test_processor_time_of_this_process_grows_and_of_none_is_zero():
    before = processor_seconds(os.getpid())
    sum(i * i for i in range(500_000))
    assert processor_seconds(os.getpid()) > before > 0
    assert processor_seconds(2**22 + 1) == 0


def test_a_stage_that_hangs_is_exit_5_and_resumes(journeyman, project):
    """The toy stage waits for a pipe that nobody opens; its step 2 is in a checkpoint by then."""
    os.mkfifo(project.path / "pipe")
    (project.path / "trouble.txt").write_text("wait")
    stopped = journeyman("run", "--until", "first", "stages.first.runtime.stall_minutes=0.02")
    assert stopped.code == 5 and "stages.first: it hangs" in stopped.err and "Traceback" not in stopped.err
    (project.path / "trouble.txt").unlink()
    again = journeyman("run", "--until", "first")  # with the default: how long one waits is not part of the id
    assert again.code == 0 and "RESUMED first" in again.out


def test_a_negative_wait_is_refused(journeyman):
    wrong = journeyman("plan", "stages.first.runtime.stall_minutes=-1")
    assert wrong.code == 2 and "stages.first.runtime.stall_minutes=-1.0: at least 0" in wrong.err
