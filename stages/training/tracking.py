"""Where the numbers of a training stage go beside its manifest: wandb, TensorBoard, MLflow, or nowhere.

A tracker gets numbers and the names and ids of what is trained, never a config, a text or the environment. Offline, all
of it is in files of the run's own folder.
"""

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pipeline.context import Context


class Tracking:
    """The numbers of one stage, step by step. This one keeps none; the others differ in three methods."""

    id: str | None = None  # of the stage's run, as the tracker calls it

    def __init__(self, ctx: Context) -> None:
        """Open the run of this stage."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Keep the numbers of a step, by name."""

    def finish(self, failed: bool) -> None:
        """Close the run; nothing can be logged any more."""


class Wandb(Tracking):
    """One run for a stage, in one group for each run of the pipeline."""

    def __init__(self, ctx: Context) -> None:
        import wandb

        settings = wandb.Settings(
            silent=True, console="off", disable_code=True, disable_git=True, save_code=False,
            x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True, disable_job_creation=True,
        )  # fmt: skip
        self.run = wandb.init(
            project=ctx.tracker.project, group=ctx.run_id, name=ctx.stage, mode=ctx.tracker.mode,
            dir=str(ctx.tracker_dir), config=_about(ctx), settings=settings,
        )  # fmt: skip
        self.id = self.run.id

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.run.log(dict(numbers), step=step)

    def finish(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class TensorBoard(Tracking):
    """Event files below `tensorboard/STAGE`; `tensorboard --logdir` of any folder above shows them."""

    def __init__(self, ctx: Context) -> None:
        from torch.utils.tensorboard import SummaryWriter

        taken = len(list(ctx.tracker_dir.glob(f"tensorboard/{ctx.stage}*")))  # by other models of the same stage
        self.id = f"tensorboard/{ctx.stage}" + (f"-{taken + 1}" if taken else "")
        self.writer = SummaryWriter(str(ctx.tracker_dir / self.id), flush_secs=10)
        self.writer.add_text("about", json.dumps({"run": ctx.run_id, **_about(ctx)}))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        for name, number in numbers.items():
            self.writer.add_scalar(name, number, step)

    def finish(self, failed: bool) -> None:
        self.writer.close()


class MLflow(Tracking):
    """One run for a stage, tagged with the pipeline's run; offline in `mlflow.db`, as its plain files are given up.

    The client is used, not `mlflow.start_run`: that would add the user, the command and the commit. A server that fails
    while training costs the numbers of that step, which is said once, and not the training.
    """

    def __init__(self, ctx: Context) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read on import: it would tell its makers of each use
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self.ctx, self.lost = ctx, 0
        offline = ctx.tracker.mode == "offline"
        self.client = MlflowClient(f"sqlite:///{ctx.tracker_dir.absolute() / 'mlflow.db'}" if offline else None)
        files = (ctx.tracker_dir / "mlflow").absolute().as_uri() if offline else None
        experiment = self._experiment(ctx.tracker.project, files)
        run = self.client.create_run(experiment, run_name=ctx.stage, tags={"run": ctx.run_id, **_about(ctx)})
        self.id = run.info.run_id

    def _experiment(self, name: str, files: str | None) -> str:
        """The id of MLflow's experiment, which is what the others call a project."""
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.client.create_experiment(name, files))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        now = int(1000 * time.time())
        metrics = [Metric(re.sub(r"[^\w./ -]", "_", name), value, now, step) for name, value in numbers.items()]
        try:
            self.client.log_batch(self.id, metrics)
        except MlflowException as error:
            self.lost += 1
            if self.lost == 1:
                self.ctx.log(f"warning: MLflow did not take the numbers of step {step}: {error}; training goes on")

    def finish(self, failed: bool) -> None:
        if self.lost:
            self.ctx.log(f"warning: MLflow has not the numbers of {self.lost} steps")
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


KINDS: dict[str, type[Tracking]] = {"none": Tracking, "wandb": Wandb, "tensorboard": TensorBoard, "mlflow": MLflow}


@contextmanager
def tracked(ctx: Context) -> Iterator[Tracking]:
    """The stage's run with the experiment's tracker; a stage that fails closes it as failed."""
    if ctx.tracker.kind != "none":
        ctx.tracker_dir.mkdir(parents=True, exist_ok=True)
    tracking = KINDS[ctx.tracker.kind](ctx)
    if tracking.id is not None:
        about = {"kind": ctx.tracker.kind, "mode": ctx.tracker.mode, "run": tracking.id, "group": ctx.run_id}
        ctx.record("tracking", about)
    try:
        yield tracking
    except BaseException:
        tracking.finish(failed=True)
        raise
    tracking.finish(failed=False)


def _about(ctx: Context) -> dict[str, str]:
    return {"experiment": ctx.experiment, "stage": ctx.stage, "artifact": ctx.id}
