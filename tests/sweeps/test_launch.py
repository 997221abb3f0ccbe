"""Cells of a sweep in processes of their own: shared work once, readable output, failures, interrupts, job queues."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.schema import Launcher
from pipeline.sweeps.launch import Cell, launch, local, slurm, threads

HERE = Path(__file__).parents[1]
LOCAL = ["launcher=local", "launcher.workers=2"]


def attempts(project, kind):
    """The id of every attempt of a kind."""
    return [path.parent.name for path in (project.store / "artifacts" / kind).glob("*/2*")]


# -- what a sweep of cells at a time gives --------------------------------------------------------------------------
def test_cells_at_a_time_build_what_they_share_once(journeyman, project):
    swept = journeyman("run", "-m", *LOCAL, "stages.second.train.beta=0.2,0.3,0.4", "--json")
    assert swept.code == 0 and len(swept.json["runs"]) == 3, swept.err
    assert len(attempts(project, "toy")) == len(set(attempts(project, "toy"))) == 4  # first, and second three times
    betas = [run["resolved_config"]["stages"]["second"]["train"]["beta"] for run in swept.json["runs"]]
    assert betas == [0.2, 0.3, 0.4]  # in the order of the cells, whichever ended first
    assert len({run["sweep"] for run in swept.json["runs"]}) == 1
    assert len({run["stages"]["first"]["digest"] for run in swept.json["runs"]}) == 1


def test_it_makes_what_one_cell_after_the_other_makes(journeyman):
    def digests(*words):
        found = journeyman("run", "-m", *words, "stages.second.add=1,2", "--json").json["runs"]
        return [{name: (s["id"], s["digest"]) for name, s in run["stages"].items()} for run in found]

    assert digests("store.root=one") == digests("store.root=other", *LOCAL)


def test_a_half_done_sweep_does_only_the_rest(journeyman, project):
    journeyman("run", "-m", "stages.second.add=1,2")
    done = set(attempts(project, "toy"))
    again = journeyman("run", "-m", *LOCAL, "stages.second.add=1,2,3", "--json")
    assert again.code == 0, again.err
    built = [[n for n, s in run["stages"].items() if s["status"] == "BUILT"] for run in again.json["runs"]]
    assert built == [[], [], ["second", "eval_second"]]
    assert len(set(attempts(project, "toy")) - done) == 1


def test_a_forced_stage_is_built_once_for_all_cells(journeyman, project):
    journeyman("run", "-m", "stages.second.add=1,2")
    for words in (LOCAL, []):
        before = len(attempts(project, "toy"))
        forced = journeyman("run", "-m", *words, "stages.second.add=1,2", "--force", "first")
        assert forced.code == 0 and len(attempts(project, "toy")) == before + 1


def test_every_line_says_of_which_cell_it_is(journeyman):
    swept = journeyman("run", "-m", *LOCAL, "stages.second.add=1,2")
    assert swept.code == 0
    lines = [line for line in swept.out.splitlines() if line]
    assert lines and all(line.startswith(("[cell 1] ", "[cell 2] ")) for line in lines)
    assert any("BUILT   second" in line for line in lines) and any("starts at step 0" in line for line in lines)


# -- what goes wrong ------------------------------------------------------------------------------------------------
def test_a_failed_cell_does_not_lose_the_others(journeyman, project):
    (project.path / "trouble.txt").write_text("data")
    swept = journeyman(
        "run", "-m", *LOCAL, "stages.first.trouble=trouble.txt,none.txt", "stages.first.add=1,2", "--json"
    )
    assert swept.code == 4 and [run["exit"] for run in swept.json["runs"]] == [4, 4, 0, 0]


def ending(cell, screen):
    """Cells that answer, fail and die."""
    if cell.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if cell.number == 3:
        os._exit(7)
    print("words of a cell\nwithout an end", end="")
    return cell.number, {"overrides": cell.overrides, "gpu": cell.gpu}


@pytest.fixture
def still(monkeypatch):
    """No fork server: these cells have no stages."""
    monkeypatch.setattr(local, "warm_ahead", lambda: None)
    return [Cell(number, [f"x={number}"]) for number in (1, 2, 3, 4)]


def test_a_cell_whose_process_dies_is_one_that_failed(still, capfd):
    answers = launch(still, Launcher("local", workers=2), ending, Screen())
    assert [code for code, _ in answers] == [1, 5, 5, 4] and answers[3][1]["overrides"] == ["x=4"]
    out, err = capfd.readouterr()
    own = [line for line in out.splitlines() if line.startswith("[cell 1]")]
    assert own == ["[cell 1] words of a cell", "[cell 1] without an end"]
    assert "[cell 2] its process was killed by SIGKILL" in err and "[cell 3] its process ended with code 7" in err


def test_a_large_answer_and_much_output_hold_nothing_up(still, capfd):
    def talking(cell, screen):
        for _ in range(2000):
            screen.say("x" * 100)
        return 0, {"much": "y" * 500_000}

    answers = launch(still, Launcher("local", workers=3), talking, Screen())
    assert [len(document["much"]) for _, document in answers] == [500_000] * 4
    assert capfd.readouterr().out.count("x" * 100 + "\n") == 8000


def interrupted(cell, screen):
    """The first cell is interrupted once the second waits; the second says how it ended."""
    if cell.number == 1:
        Path("began").read_text()  # until the second has opened the other end
        return 130, {}
    try:
        Path("began").write_text("now")
        signal.pause()
    except KeyboardInterrupt:
        Path("stopped").write_text("yes")
    return 130, {}


def test_an_interrupt_of_one_stops_all_and_starts_no_more(still, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("began")
    with pytest.raises(KeyboardInterrupt):
        launch(still, Launcher("local", workers=2), interrupted, Screen())
    assert Path("stopped").read_text() == "yes"


@pytest.mark.parametrize("group", [False, True])
def test_an_interrupted_sweep_ends_with_130_and_the_same_command_continues(journeyman, project, group):
    """As `kill` does it to the command alone, and as Ctrl-C does it to all its processes."""
    os.mkfifo(project.path / "pipe")
    (project.path / "trouble.txt").write_text("wait")
    line = [sys.executable, HERE / "toy_command.py", "run", "-m", "experiment=chain", *LOCAL, "stages.first.add=1,2"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    sweep = subprocess.Popen(
        line, env=env, start_new_session=True, **streams,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )  # fmt: skip
    waiting = set()
    for said in sweep.stdout:
        waiting |= {said[:8]} if "starts at step 0" in said else set()
        if len(waiting) == 2:
            break
    os.killpg(sweep.pid, signal.SIGINT) if group else sweep.terminate()
    out, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130 and "interrupted; the same command continues" in out and "Traceback" not in out
    (project.path / "trouble.txt").unlink()
    again = journeyman("run", "-m", *LOCAL, "stages.first.add=1,2", "--json")
    assert again.code == 0 and {run["stages"]["first"]["status"] for run in again.json["runs"]} <= {"RESUMED", "BUILT"}


# -- what cells share of a machine ----------------------------------------------------------------------------------
def test_stages_of_cells_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    assert threads(Launcher("local", workers=4), 8) == 3
    assert threads(Launcher("local", workers=4), 2) == 6  # of two cells no more than two run
    assert threads(Launcher("local", workers=40), 40) == 1
    assert threads(Launcher("local", workers=4, threads=2), 8) == 2
    assert threads(Launcher("serial"), 8) == threads(Launcher("slurm"), 8) == 0


def test_cells_take_turns_at_several_gpus(still, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    answers = launch([still[0], still[3]], Launcher("local", workers=2), ending, Screen())
    assert [document["gpu"] for _, document in answers] == ["4", "7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    (answer,) = launch(still[:1], Launcher("local", workers=2), ending, Screen())
    assert answer[1]["gpu"] is None


# -- job queues -----------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_cells_are_jobs_of_submitit(still, capfd, monkeypatch, tmp_path):
    """Slow because each job is a Python of its own, which imports what these tests import."""
    pytest.importorskip("submitit")
    monkeypatch.setattr(slurm, "POLL", 0.05)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # where a job finds this file and its toys
    monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))
    answers = launch(still[:2], Launcher("slurm", cluster="local"), ending, Screen())
    assert [code for code, _ in answers] == [1, 5] and answers[0][1]["overrides"] == ["x=1"]
    out, err = capfd.readouterr()
    assert "[cell 1] words of a cell" in out and "[cell 2] job " in err and "the same command continues it" in err
    assert list((tmp_path / "store" / "cache" / "jobs").glob("*"))


def test_a_job_that_slurm_ends_queues_again_with_the_same_cell():
    submitit = pytest.importorskip("submitit")
    job = slurm.Requeued(submitit, ending)
    again = job.checkpoint(Cell(1, ["x=1"]))
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function is job and again.args == (Cell(1, ["x=1"]),)


def test_what_slurm_is_asked_for():
    asked = slurm.parameters(
        Launcher("slurm", workers=3, cpus=4, gpus=1, memory_gib=32, minutes=60, params={"slurm_partition": "a"})
    )
    assert asked["slurm_array_parallelism"] == 3 and asked["timeout_min"] == 60 and asked["slurm_partition"] == "a"
    assert (asked["cpus_per_task"], asked["gpus_per_node"], asked["mem_gb"]) == (4, 1, 32)


@pytest.mark.parametrize(("kind", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_without_its_package_a_launcher_says_what_to_install(still, monkeypatch, kind, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs the package {package}: pip install"):
        launch(still, Launcher(kind), ending, Screen())


# -- mistakes -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["launcher=locl"], "unknown launcher 'locl' (did you mean 'local'?); known: local, ray, serial, slurm"),
        (["launcher.kind=locl"], "launcher.kind=locl: use serial or local or slurm or ray (did you mean 'local'?)"),
        (["launcher=local", "launcher.workers=0"], "launcher.workers=0: at least 1"),
        (["launcher=local,serial"], "one launcher and one sweeper have all cells"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib: Hydra's own launchers and sweepers are not used"),
        (["stages.second.add=interval(0, 1)"], "an interval is searched, not enumerated: sweeper=optuna"),
        (["sweeper=optunna"], "unknown sweeper 'optunna' (did you mean 'optuna'?)"),
    ],
)
def test_a_mistake_is_said_before_the_first_cell(journeyman, project, words, message):
    wrong = journeyman("run", "-m", *words, "stages.second.add=1,2" if "interval" not in words[0] else "tracker=none")
    assert wrong.code == 2 and message in wrong.err and not (project.store / "runs").exists()
