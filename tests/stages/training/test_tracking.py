"""Tracking: a wandb run for a stage, offline, with ids and names only; nothing with `none`."""

import subprocess

import pytest

from pipeline.errors import ConfigError
from pipeline.schema import Tracker
from stages.training.tracking import tracked

SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def context(bench, tmp_path, monkeypatch):
    """A context with a tracker; the environment holds a key that must not be written anywhere."""
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.chdir(tmp_path)

    def make(**settings):
        ctx = bench.context("stage", None, {}, {})
        ctx.tracker, ctx.tracker_dir, ctx.run_id = Tracker(**settings), tmp_path / "runs", "run-1"
        return ctx

    return make


def test_none_tracks_nothing(context, tmp_path):
    ctx = context(kind="none")
    with tracked(ctx) as run:
        assert run is None
    assert not (tmp_path / "runs").exists() and "tracking" not in ctx.sections


def test_offline_run_has_its_group_its_name_and_no_key(context, tmp_path):
    ctx = context(kind="wandb", project="my-project")
    with tracked(ctx) as run:
        assert (run.group, run.name, run.project) == ("run-1", "stage", "my-project")
        assert dict(run.config) == {"experiment": "test", "stage": "stage", "artifact": ctx.id}
        run.log({"loss": 1.0}, step=1)
    recorded = ctx.sections["tracking"]
    assert recorded == {"kind": "wandb", "mode": "offline", "run": run.id, "group": "run-1"}
    (folder,) = (tmp_path / "runs" / "wandb").glob("offline-run-*")
    assert run.id in folder.name
    found = subprocess.run(["grep", "-rl", SECRET, str(tmp_path), str(ctx.out)], capture_output=True, text=True)
    assert found.stdout == ""


def test_a_failed_stage_still_closes_its_run(context):
    ctx = context(kind="wandb")
    with pytest.raises(RuntimeError), tracked(ctx) as run:
        raise RuntimeError("the stage failed")
    with pytest.raises(Exception, match="finished"):
        run.log({"loss": 1.0})


def test_online_without_a_key_says_what_to_do(context, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(ConfigError, match=r"tracker\.mode=online needs a key"), tracked(context(mode="online")):
        pass
