"""The child's own parts, called in this process: config, context, outcomes."""

import json
import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest

import pipeline.worker as worker
from pipeline.errors import DataError, StageFailed
from pipeline.registry import kind
from pipeline.schema import Tracker


@pytest.fixture
def spec(project):
    """spec.json of stage `first`, made from a folder that plays the base artifact."""
    folders = {name: project.path / name for name in ("out", "ckpt", "base")}
    for folder in folders.values():
        folder.mkdir()
    (folders["base"] / "model.txt").write_text("10")
    base = {"id": "b" * 16, "kind": "base", "stage": "base", "path": str(folders["base"]), "digest": "d"}
    config = kind("toy").config(kind="toy", inputs={"policy": "base"}, train={"lr": 1, "max_steps": 2})
    return {
        "run_id": "r", "experiment": "chain", "stage": "first", "id": "a" * 16, "kind": "toy", "module": "toy_stages",
        "config": asdict(config), "inputs": {"policy": base}, "data": {}, "lineage": [base], "out": str(folders["out"]),
        "ckpt": str(folders["ckpt"]), "cache": str(project.path / "cache"), "cwd": str(project.path),
        "tracker": asdict(Tracker()), "tracker_dir": "wandb", "gpu": None,
        "basis": {"inputs": {}, "forced": False},
    }  # fmt: skip


def test_runs_a_stage_from_its_spec(spec, project):
    metrics, sections = worker.run_stage(json.loads(json.dumps(spec)))
    assert metrics == {"value": 12.0, "loss": 0.25, "final_loss": 0.0}
    assert sections["training"]["end_step"] == 2
    assert 2**20 < sections["peak_bytes"] < 2**36  # bytes of this process at its largest
    assert (project.path / "out" / "model.txt").read_text() == "12.0"


def test_a_removed_key_does_not_come_back_as_default(toys):
    config = kind("toy").config(kind="toy", train={"max_steps": 2})
    assert worker.instance(kind("toy"), asdict(config)).train == {"max_steps": 2}


@pytest.mark.parametrize(("seed", "refused"), [(-1, True), (0, False), (2**32 - 1, False), (2**32, True)])
def test_a_seed_that_no_generator_takes_is_refused(toys, seed, refused):
    told = []
    config = asdict(kind("toy").config(kind="toy", seed=seed, train={"lr": 1, "max_steps": 2}))
    request = worker.Request("stages.first", "toy_stages", "toy", config)
    worker.validate([request], SimpleNamespace(send=told.extend))
    expected = [("stages.first", f"seed={seed}: from 0 to 4294967295", 2)]
    assert told == (expected if refused else [])


def test_the_config_arrives_as_it_was(toys):
    config = kind("toy").config(kind="toy", seed=5, train={"a": [1, {"b": None}]}, add=2.5)
    assert worker.instance(kind("toy"), json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": [1.0, {"b": float("-inf")}]}])
def test_numbers_that_no_one_can_read_are_refused(value):
    with pytest.raises(StageFailed, match=r"m\.a.* is (nan|-inf)"):
        worker._check_finite(value, "m")


def wrapped():
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("could not serialize") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DataError("row 3"), 4, "row 3"),
        (wrapped(), 5, "the disk is full"),
        (RuntimeError("I/O: No space left on device (os error 28)"), 5, "the disk is full"),
        (MemoryError("9 GiB"), 5, "out of memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), 5, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("\n\nfirst line\nsecond"), 5, "ValueError: first line (the whole story"),
    ],
)
def test_errors_become_one_sentence(error, code, text, tmp_path):
    outcome = worker.failure(error, 0.0, tmp_path / "log.txt", debug=False)
    assert outcome.exit_code == code and text in outcome.error and "second" not in outcome.error


def test_a_stages_time_ends_after_its_work(monkeypatch, tmp_path):
    """What the engine is charged with is the rest of the run."""
    done, sent = [], SimpleNamespace(send=lambda outcome: done.append(outcome))
    (tmp_path / "out").mkdir()
    spec = {"out": str(tmp_path / "out"), "config": {"runtime": {"num_processes": 1}}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))

    def work(asked):
        done.append(time.time())
        return {}, {}

    monkeypatch.setattr(worker, "write_to", lambda log: None)
    monkeypatch.setattr(worker, "run_stage", work)
    with pytest.raises(SystemExit):
        worker.build(str(tmp_path / "spec.json"), None, sent, False)
    worked, outcome = done
    assert outcome.begin <= worked <= outcome.end and outcome.error is None
