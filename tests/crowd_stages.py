"""A stage kind whose ranks need no model: `trouble` says what goes wrong in rank 1, and what rank 0 does meanwhile."""

import os
import signal
from dataclasses import dataclass

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.registry import Stage, register
from pipeline.schema import StageConfig

PATIENCE = 120  # seconds after which a rank that waits ends by itself


@dataclass
class CrowdConfig(StageConfig):
    trouble: str = ""  # refuses | breaks | dies | all wait


@register("crowd", config=CrowdConfig)
class Crowd(Stage):
    consumes, parallel = {"policy": "model"}, True

    def run(self, ctx: Context) -> dict[str, float]:
        (ctx.out / "rank.txt").write_text(f"{ctx.rank} of {ctx.processes}")
        ctx.log("said once")
        trouble = ctx.config.trouble
        if trouble and (ctx.rank == 0 or trouble == "all wait"):
            (ctx.ckpt / f"waiting-{ctx.rank}").write_text(str(os.getpid()))
            signal.alarm(PATIENCE)
            signal.pause()
        if trouble == "refuses":
            raise DataError("row 3 is broken")
        if trouble == "breaks":
            raise ValueError("no such column")
        if trouble == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        ctx.record("says", {"rank": ctx.rank})
        return {"rank": float(ctx.rank)}
