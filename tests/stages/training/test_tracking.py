"""Tracking: one run for a stage, offline in files, with numbers, ids and names only; nothing with `none`."""

import json
import shutil
import subprocess

import pytest

from pipeline.schema import Tracker
from stages.training.tracking import Tracking, tracked

SECRET = "0123456789abcdef0123456789abcdef01234567"
KINDS = ("wandb", "tensorboard", "mlflow")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """MLflow's database without a run, made once: its tables take seconds."""
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    client(folder)
    return folder / "mlflow.db"


@pytest.fixture
def context(bench, tmp_path, monkeypatch, request):
    """A context with a tracker; the environment holds keys that must not be written anywhere."""
    for name in ("WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.chdir(tmp_path)

    def make(**settings):
        if settings["kind"] != "none":
            pytest.importorskip(settings["kind"])
        ctx = bench.context("stage", None, {}, {})
        ctx.tracker, ctx.tracker_dir, ctx.run_id = Tracker(**settings), tmp_path / "runs", "run-1"
        if settings["kind"] == "mlflow":
            ctx.tracker_dir.mkdir()
            shutil.copy(request.getfixturevalue("tables"), ctx.tracker_dir)
        return ctx

    return make


def scalars(folder):
    """name -> [(step, value)] of the event files of a folder, and the text of `about`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder)).Reload()
    about = found.Tensors("about/text_summary")[0].tensor_proto.string_val[0]
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}, json.loads(about)


def client(folder):
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def test_none_tracks_nothing(context, tmp_path):
    ctx = context(kind="none")
    with tracked(ctx) as tracking:
        tracking.log({"loss": 1.0}, 1)
    assert type(tracking) is Tracking
    assert not (tmp_path / "runs").exists() and "tracking" not in ctx.sections


def test_wandb_has_a_group_for_the_run_and_a_name_for_the_stage(context, tmp_path):
    ctx = context(kind="wandb", project="my-project")
    with tracked(ctx) as tracking:
        run = tracking.run
        assert (run.group, run.name, run.project) == ("run-1", "stage", "my-project")
        assert dict(run.config) == {"experiment": "test", "stage": "stage", "artifact": ctx.id}
        tracking.log({"loss": 1.0}, 1)
    assert ctx.sections["tracking"] == {"kind": "wandb", "mode": "offline", "run": run.id, "group": "run-1"}
    (folder,) = (tmp_path / "runs" / "wandb").glob("offline-run-*")
    assert run.id in folder.name


def test_tensorboard_has_every_number_at_its_step(context, tmp_path):
    ctx = context(kind="tensorboard")
    with tracked(ctx) as tracking:
        tracking.log({"loss": 2.0, "rewards/chosen": 0.5}, 1)
        tracking.log({"loss": 1.0}, 3)
    found, about = scalars(tmp_path / "runs" / ctx.sections["tracking"]["run"])
    assert found == {"loss": [(1, 2.0), (3, 1.0)], "rewards/chosen": [(1, 0.5)]}
    assert about == {"run": "run-1", "experiment": "test", "stage": "stage", "artifact": ctx.id}


def test_tensorboard_keeps_the_models_of_one_stage_apart(context, tmp_path):
    ctx = context(kind="tensorboard")
    for loss in (2.0, 1.0):
        with tracked(ctx) as tracking:
            tracking.log({"loss": loss}, 1)
    folders = sorted((tmp_path / "runs" / "tensorboard").iterdir())
    assert [folder.name for folder in folders] == ["stage", "stage-2"]
    assert [scalars(folder)[0]["loss"] for folder in folders] == [[(1, 2.0)], [(1, 1.0)]]


def test_mlflow_has_every_number_at_its_step_and_no_user_or_command(context, tmp_path):
    ctx = context(kind="mlflow", project="my-project")
    (tmp_path / "runs" / "mlflow.db").unlink()  # a run finds none
    with tracked(ctx) as tracking:
        tracking.log({"loss": 2.0, "rewards/chosen": 0.5}, 1)
        tracking.log({"loss": 1.0, "share (all)": 0.1}, 3)
    found = client(tmp_path / "runs")
    run = found.get_run(ctx.sections["tracking"]["run"])
    assert found.get_experiment(run.info.experiment_id).name == "my-project"
    assert (run.info.run_name, run.info.status, run.info.user_id) == ("stage", "FINISHED", "unknown")
    tags = {"run": "run-1", "experiment": "test", "stage": "stage", "artifact": ctx.id}
    assert run.data.tags == {**tags, "mlflow.runName": "stage"}
    assert run.data.metrics == {"loss": 1.0, "rewards/chosen": 0.5, "share _all_": 0.1}
    assert [(one.step, one.value) for one in found.get_metric_history(run.info.run_id, "loss")] == [(1, 2.0), (3, 1.0)]


def test_mlflow_tells_its_makers_nothing(context):
    with tracked(context(kind="mlflow")):
        from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY

        assert MLFLOW_DISABLE_TELEMETRY.get()


def test_two_stages_of_a_run_share_its_mlflow_experiment(context, tmp_path):
    ctx = context(kind="mlflow")
    for stage in ("sft", "dpo"):
        ctx.stage = stage
        with tracked(ctx):
            pass
    found = client(tmp_path / "runs")
    (experiment,) = [one for one in found.search_experiments() if one.name == "journeyman"]
    assert {run.info.run_name for run in found.search_runs([experiment.experiment_id])} == {"sft", "dpo"}


def test_numbers_that_mlflow_does_not_take_cost_no_training_and_are_told_once(context, monkeypatch, capsys):
    with tracked(context(kind="mlflow")) as tracking:
        from mlflow.exceptions import MlflowException

        def refuse(*_):
            raise MlflowException("the server is gone")

        monkeypatch.setattr(tracking.client, "log_batch", refuse)
        for step in (1, 2):
            tracking.log({"loss": 1.0}, step)
    said = capsys.readouterr().err
    assert said.count("the server is gone") == 1 and "numbers of step 1" in said
    assert "has not the numbers of 2 steps" in said


@pytest.mark.parametrize("kind", KINDS)
def test_no_key_is_written(context, tmp_path, kind):
    ctx = context(kind=kind)
    with tracked(ctx) as tracking:
        tracking.log({"loss": 1.0}, 1)
    assert any((tmp_path / "runs").rglob("*"))
    found = subprocess.run(["grep", "-rlF", SECRET, str(tmp_path), str(ctx.out)], capture_output=True, text=True)
    assert found.stdout == ""


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_is_in_the_folder_of_the_run(context, tmp_path, kind):
    before = {path.name for path in tmp_path.iterdir()}
    ctx = context(kind=kind)
    with tracked(ctx) as tracking:
        tracking.log({"loss": 1.0}, 1)
    assert {path.name for path in tmp_path.iterdir()} - before == {"runs"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_stage_closes_its_run_as_failed(context, monkeypatch, kind):
    closed = []
    with pytest.raises(RuntimeError, match="the stage failed"), tracked(context(kind=kind)) as tracking:
        finish = tracking.finish
        monkeypatch.setattr(tracking, "finish", lambda failed: closed.append(failed) or finish(failed))
        raise RuntimeError("the stage failed")
    assert closed == [True]
    if kind == "mlflow":
        assert tracking.client.get_run(tracking.id).info.status == "FAILED"
    if kind == "wandb":
        with pytest.raises(Exception, match="finished"):
            tracking.log({"loss": 1.0}, 1)
