"""A stage in several processes: what the ranks write, whose error counts, and that none outlives its child."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import crowd_stages
import pytest

import pipeline.processes as processes
import pipeline.registry as registry
from pipeline.errors import ConfigError
from pipeline.registry import Kind
from pipeline.schema import Runtime, Tracker

CROWD = Kind("crowd", crowd_stages.CrowdConfig, crowd_stages.Crowd)
TWO = Runtime(threads=1, num_processes=2)
TESTS = Path(__file__).parent


@pytest.fixture
def work(tmp_path):
    """work(trouble=, machines=) -> spec.json of a stage of two processes."""

    def make(trouble="", machines=1):
        for name in ("out", "ckpt"):
            (tmp_path / name).mkdir()
        config = crowd_stages.CrowdConfig(kind="crowd", trouble=trouble, runtime=replace(TWO, num_machines=machines))
        spec = {
            "run_id": "r", "experiment": "e", "stage": "first", "id": "a" * 16, "kind": "crowd",
            "module": "crowd_stages", "config": asdict(config), "inputs": {}, "data": {}, "lineage": [],
            "out": str(tmp_path / "out"), "ckpt": str(tmp_path / "ckpt"), "cache": str(tmp_path / "cache"),
            "cwd": str(TESTS.parent), "tracker": asdict(Tracker()), "tracker_dir": "wandb", "gpu": None,
            "basis": {"inputs": {}, "forced": False},
        }  # fmt: skip
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        return tmp_path / "spec.json"

    return make


def run(spec_file):
    return processes.together(spec_file, json.loads(spec_file.read_text()), debug=False)


def in_a_child(spec_file):
    """The child of a stage in a process of its own."""
    code = (
        "import json, sys; from pathlib import Path; from pipeline.processes import together\n"
        "file = Path(sys.argv[1]); print(together(file, json.loads(file.read_text()), False))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "MASTER_ADDR": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(spec_file)], env=environment, text=True, stdout=subprocess.PIPE
    )


# -- outcomes -----------------------------------------------------------------------------------------------------
def test_rank_0_writes_the_artifact_and_the_log_and_gives_the_outcome(work, tmp_path):
    outcome = run(work())
    assert outcome.error is None and outcome.metrics == {"rank": 0.0} and outcome.sections["says"] == {"rank": 0}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rank.txt"]
    assert (tmp_path / "out" / "rank.txt").read_text() == "0 of 2"
    assert (tmp_path / "log.txt").read_text().count("said once") == 1
    assert outcome.sections["peak_bytes"] == max(outcome.sections["processes"]["peaks"]) > 2**20


def test_the_engine_publishes_what_rank_0_wrote(execute, chain, monkeypatch):
    monkeypatch.setitem(registry._kinds, "crowd", CROWD)
    stage = crowd_stages.CrowdConfig(kind="crowd", inputs={"policy": "base"}, runtime=TWO)
    done = execute(chain(suites=False, stages={"first": stage}))
    assert done.code == 0 and done.statuses["first"] == "BUILT"
    stored = done.store.current("crowd", done.record["stages"]["first"]["id"])
    assert (stored.path / "rank.txt").read_text() == "0 of 2"
    assert stored.manifest["metrics"] == {"rank": 0.0} and stored.manifest["processes"]["strategy"] == "ddp"
    stage.runtime = Runtime()
    assert execute(chain(suites=False, stages={"first": stage})).statuses["first"] == "HIT"  # it is no part of the id


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        ("refuses", 4, "rank 1 of 2: row 3 is broken"),
        ("breaks", 5, "rank 1 of 2: ValueError: no such column (the whole story: {ranks}/1.txt)"),
        ("dies", 5, "ended without a word"),
    ],
)
def test_the_error_of_any_rank_is_that_of_the_stage_and_ends_the_others(work, tmp_path, trouble, code, words):
    outcome = run(work(trouble))
    assert outcome.exit_code == code
    assert words.format(ranks=tmp_path / "ranks") in outcome.error
    processes.wait_for_ranks(tmp_path)


def test_no_rank_outlives_a_child_that_is_killed(work, tmp_path):
    spec = work("all wait")
    child = in_a_child(spec)
    waiting = [tmp_path / "ckpt" / f"waiting-{rank}" for rank in (0, 1)]
    tick = threading.Event()
    while not all(path.exists() and path.read_text() for path in waiting):
        assert child.poll() is None
        tick.wait(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    begin = time.monotonic()
    processes.wait_for_ranks(tmp_path)  # until the last one has ended
    assert time.monotonic() - begin < crowd_stages.PATIENCE / 2
    assert not (tmp_path / "ranks" / "0.json").exists()


def test_two_machines_share_a_stage(work, tmp_path):
    """The second one is given the store alone, and finds the stage there."""
    store = tmp_path / "store"
    (store / "work").mkdir(parents=True)
    spec = work(machines=2)
    (store / "work" / "a").symlink_to(tmp_path, target_is_directory=True)
    child = in_a_child(spec)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    line = [sys.executable, "-m", "pipeline.join", "1", str(store)]
    other = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        said, _ = child.communicate()
    finally:
        other.terminate()
        told = other.communicate()[1]
    assert "waiting for 1 other machines at 127.0.0.1:" in said and "error=None" in said and "'rank': 0.0" in said
    assert "machine 1 joins first" in told and other.returncode == 0
    assert not (tmp_path / processes.MEETING).exists()
    assert {path.name for path in (tmp_path / "ranks").glob("*.json")} == {"0.json", "1.json"}


# -- what is refused ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"device": "gpu"}, "runtime.device=gpu: use one of auto, cpu, cuda"),
        ({"kernels": "cuda"}, "runtime.kernels=cuda: use one of plain, triton"),
        ({"threads": -1}, "runtime.threads=-1: at least 0"),
        ({"dequant_cache_gib": -0.5}, "runtime.dequant_cache_gib=-0.5: at least 0"),
        ({"num_processes": 0}, "at least 1 each"),
        ({"strategy": "zero"}, "use one of ddp, fsdp2, deepspeed"),
        ({"num_processes": 3, "num_machines": 2}, "must be a multiple of runtime.num_machines=2"),
        ({"num_processes": 1, "strategy": "fsdp2"}, "needs runtime.num_processes of 2 or more"),
    ],
)
def test_numbers_that_cannot_be_are_refused(asked, words):
    with pytest.raises(ConfigError, match=words):
        processes.check_runtime(replace(TWO, **asked), CROWD)


def test_a_kind_that_runs_in_one_process_refuses_two(toys):
    with pytest.raises(ConfigError, match="the kind toy runs in one process"):
        processes.check_runtime(TWO, Kind("toy", toys.ToyConfig, toys.Toy))
