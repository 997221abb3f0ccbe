"""A stage that learns in no time: it counts which word goes with which answer. Its evaluation is diagnosed for real."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Dict

from pipeline.context import Artifact, Context, Measured
from pipeline.registry import Stage, register
from pipeline.schema import ModelConfig, StageConfig, Suite
from stages.data.artifact import rows, stream
from stages.data.said import texts
from stages.diagnosis.artifacts import diagnosis
from stages.evaluation.measurement import Scored
from stages.evaluation.results import SuiteResult, write


@dataclass
class StartConfig(StageConfig):
    model: ModelConfig = field(default_factory=ModelConfig)


@register("base", config=StartConfig)
class Start(Stage):
    """Knows no word."""

    def run(self, ctx: Context) -> dict[str, float]:
        (ctx.out / "model.json").write_text("{}")
        return {}


@dataclass
class LearnerConfig(StageConfig):
    most: int = 0  # rows that are read at most; 0 = all


@register("learner", config=LearnerConfig)
class Learner(Stage):
    consumes = {"policy": "model"}

    def run(self, ctx: Context) -> dict[str, float]:
        used = rows(ctx.data["train"])[: ctx.config.most or None]
        counts: dict[str, Counter] = {}
        for row in used:
            asked, (answer,) = texts(row)
            for word in asked[-1].lower().split():
                counts.setdefault(word, Counter())[answer] += 1
        (ctx.out / "model.json").write_text(json.dumps(counts))
        ctx.record("data", {"rows_kept": len(used)})
        return {"words": float(len(counts))}


@dataclass
class LearnerEvaluateConfig(StageConfig):
    suites: Dict[str, Suite] = field(default_factory=dict)


@register("evaluate", config=LearnerEvaluateConfig)
class LearnerEvaluate(Stage):
    consumes, produces = {"model": "model"}, "results"

    def diagnose(self, of: Measured, sets: Mapping[str, Artifact], curve: Mapping[float, Measured]) -> dict[str, Any]:
        return diagnosis(of, sets, curve)

    def run(self, ctx: Context) -> dict[str, float]:
        model = json.loads((ctx.inputs["model"].path / "model.json").read_text())
        results = [self.suite(name, model, ctx.data[suite.data]) for name, suite in ctx.config.suites.items()]
        return write(results, ctx.out)

    def suite(self, name: str, model: dict, data) -> SuiteResult:
        items = [self.item(model, row) for row in stream(data, "heldout")]
        return SuiteResult(name, "choice", "accuracy", True, items)

    def item(self, model: dict, row: dict) -> Scored:
        (asked,), (right,) = texts(row)
        votes = Counter()
        for word in asked.lower().split():
            votes.update(model.get(word, {}))
        said = max(sorted(row["choices"]), key=lambda choice: votes[choice])
        return Scored(row["id"], row["id"], float(said == right), slices={"topic": row["topic"]}, prompt=asked,
                      answer=said, reference=right)  # fmt: skip
