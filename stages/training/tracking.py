"""Experiment tracking with wandb: one group for a run, one run for a stage. Off with `tracker=none`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.context import Context
from pipeline.errors import ConfigError


@contextmanager
def tracked(ctx: Context) -> Iterator[Any]:
    """The stage's wandb run, or None without a tracker. Only ids and names are sent, never the environment."""
    if ctx.tracker.kind == "none":
        yield None
        return
    if ctx.tracker.mode == "online" and not os.environ.get("WANDB_API_KEY"):
        raise ConfigError("tracker.mode=online needs a key: run `wandb login` or set WANDB_API_KEY")
    import wandb

    ctx.tracker_dir.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        silent=True, console="off", disable_code=True, disable_git=True, save_code=False,
        x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True, disable_job_creation=True,
    )  # fmt: skip
    run = wandb.init(
        project=ctx.tracker.project, group=ctx.run_id, name=ctx.stage, mode=ctx.tracker.mode, dir=str(ctx.tracker_dir),
        config={"experiment": ctx.experiment, "stage": ctx.stage, "artifact": ctx.id}, settings=settings,
    )  # fmt: skip
    ctx.record("tracking", {"kind": "wandb", "mode": ctx.tracker.mode, "run": run.id, "group": ctx.run_id})
    try:
        yield run
    finally:
        run.finish()
