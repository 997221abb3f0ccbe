"""`harness`: the items of tasks of lm-evaluation-harness as a data set, so that they are checked as all others are.

It is made before anything is trained: a task that is not there or cannot be read ends the command then, and the check
of every stage's data compares what is trained on with these items.
"""

import json
from collections import Counter
from dataclasses import dataclass

from omegaconf import MISSING

from pipeline.context import Context
from pipeline.errors import ConfigError
from pipeline.registry import Stage, register
from pipeline.schema import Runtime, StageConfig
from stages.evaluation.harness.files import fingerprints


@dataclass
class HarnessConfig(StageConfig):
    kind: str = "harness"
    tasks: str = MISSING  # a task, group or tag of the harness, or the path of a task file or of a folder with some
    metric: str = ""  # of the suite, as `num_fewshot`: whether the tasks have it is found out here, before any training
    num_fewshot: int = -1


@register("harness", config=HarnessConfig)
class Harness(Stage):
    """All items of the tasks, held out."""

    version, produces = 1, "data"

    def fingerprints(self, config: HarnessConfig) -> dict[str, str]:
        return fingerprints(config.tasks)

    def validate(self, config: HarnessConfig) -> None:
        alone = Runtime(stall_minutes=config.runtime.stall_minutes)
        if config.inputs or config.data or config.runtime != alone:
            raise ConfigError("items of a task need no `inputs` and no `data`, and of `runtime` `stall_minutes` alone")

    def run(self, ctx: Context) -> dict[str, float]:
        """Write data/heldout.jsonl."""
        from stages.evaluation.harness.items import rows
        from stages.evaluation.harness.scores import chosen
        from stages.evaluation.harness.tasks import load

        tasks, counts = load(ctx.config.tasks, ctx.config.num_fewshot), Counter[str]()
        chosen(tasks, ctx.config.metric)
        (ctx.out / "data").mkdir()
        with (ctx.out / "data" / "heldout.jsonl").open("w", encoding="utf-8") as lines:
            for row in rows(tasks):
                counts[row["task"]] += 1
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        ctx.record("data", {"tasks": dict(counts), "origins": tasks.origins()})
        ctx.log(f"{counts.total()} items of {len(counts)} tasks")
        return {"items": float(counts.total())}
