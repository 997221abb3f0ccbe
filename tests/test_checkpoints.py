"""Checkpoints: torn ones are dropped, and after a reboot those that may have lost bytes."""

import os
import shutil

import pytest

import pipeline.runner as runner
from pipeline.checkpoints import SEAL, boot, checkpoint_step, drop, drop_torn_checkpoints, drop_unsealed, seal


def test_a_torn_checkpoint_is_dropped_and_a_whole_one_kept(tmp_path):
    for step, whole in ((5, True), (10, True), (100, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model").write_text("x")
        if whole:
            (folder / "trainer_state.json").write_text("{}")
    assert checkpoint_step(tmp_path) == 10
    drop_torn_checkpoints(tmp_path)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]
    assert checkpoint_step(tmp_path / "none") == 0


@pytest.mark.parametrize("text", ["", '{"step": 1', None])
def test_a_checkpoint_whose_state_was_being_written_does_not_count(tmp_path, text):
    """A kill between opening trainer_state.json and its last byte."""
    for step, content in ((1, "{}"), (2, text)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if content is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(content)
    assert checkpoint_step(tmp_path) == 1
    drop_torn_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def checkpoint(ckpt, name, text="{}"):
    (ckpt / name).mkdir(parents=True)
    (ckpt / name / "weights").write_text("weights")
    (ckpt / name / "trainer_state.json").write_text(text)
    return ckpt / name


def test_a_seal_stands_only_where_every_byte_was_flushed(tmp_path, monkeypatch):
    folder = checkpoint(tmp_path, "checkpoint-1")
    (tmp_path / "samples.jsonl").write_text("x")
    flushed = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: flushed.append(os.readlink(f"/proc/self/fd/{handle}")) or real(handle)
    )
    seal(tmp_path, folder)
    assert [str(folder / "weights"), str(tmp_path / "samples.jsonl")] == [
        path for path in flushed if path.endswith(("weights", ".jsonl"))
    ]
    assert flushed.index(str(tmp_path)) < next(i for i, path in enumerate(flushed) if SEAL in path)
    assert (folder / SEAL).exists()


def test_unsealed_checkpoints_are_dropped_also_those_of_members(tmp_path):
    kept = checkpoint(tmp_path, "checkpoint-1")
    seal(tmp_path, kept)
    checkpoint(tmp_path, "checkpoint-2")
    checkpoint(tmp_path / "member-1", "checkpoint-7")
    drop_unsealed(tmp_path)
    assert list(tmp_path.rglob("checkpoint-*")) == [kept]


def test_a_kill_while_checkpoints_are_deleted_leaves_none_that_looks_whole(tmp_path, monkeypatch):
    folder = checkpoint(tmp_path / "ckpt", "checkpoint-1")

    def killed(path, **_):
        if (path / folder.name).exists():
            (path / folder.name / "weights").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            drop(tmp_path / "ckpt")
    assert checkpoint_step(tmp_path / "ckpt") == 0
    drop(tmp_path / "ckpt")  # also what the first one left
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rebooted", [False, True])
def test_after_a_reboot_only_sealed_checkpoints_are_continued(chain, execute, project, monkeypatch, rebooted):
    """The toy stage is killed at step 2; of its two checkpoints the first one is sealed."""
    (project.path / "trouble.txt").write_text("kill")
    stopped = execute(chain(suites=False))
    ckpt = stopped.store.work(stopped.plan.nodes["first"].id) / "ckpt"
    seal(ckpt, ckpt / "checkpoint-1")
    (project.path / "trouble.txt").unlink()
    if rebooted:
        monkeypatch.setattr(runner, "boot", lambda: "another")
    resumed = execute(chain(suites=False))
    assert resumed.plan.nodes["first"].stored.manifest["resumed_from_step"] == (1 if rebooted else 2)
    assert resumed.code == 0 and boot() == boot() != ""
