"""Stage kinds that need no model: a `toy` stage adds numbers; files named in its config make it fail in every way."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

import pyarrow as pa
from pyarrow import parquet

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError, DataError
from pipeline.fingerprint import digest_file
from pipeline.registry import Stage, register
from pipeline.schema import NOT_IDENTITY, ModelConfig, StageConfig, Suite


@dataclass
class BaseConfig(StageConfig):
    model: ModelConfig = field(default_factory=ModelConfig)


@register("base", config=BaseConfig)
class Base(Stage):
    def run(self, ctx: Context) -> dict[str, float]:
        (ctx.out / "model.txt").write_text("0")
        return {"parameters": 1.0}


@dataclass
class ToySplit:
    method: str = "holdout"
    k: int = 3
    fold: Optional[int] = None


@dataclass
class PrepareConfig(StageConfig):
    files: List[str] = field(default_factory=list, metadata=NOT_IDENTITY)
    split: ToySplit = field(default_factory=ToySplit)


@register("prepare", config=PrepareConfig)
class Prepare(Stage):
    produces = "data"

    def fingerprints(self, config: PrepareConfig) -> dict[str, str]:
        return {Path(name).name: digest_file(name) for name in config.files}

    def row_digests(self, config: PrepareConfig) -> set[str]:
        return {line for name in config.files for line in Path(name).read_text().splitlines()}

    def drift(self, config: PrepareConfig, trained: Sequence[Artifact]) -> dict[str, dict[str, float]]:
        """Which lines of production no set that was trained on has: a share, in place of an index."""
        known = {line for one in trained for line in (one.path / "data" / "train.jsonl").read_text().splitlines()}
        rows = self.row_digests(config)
        return {"length": {"psi": 0.0, "chance": 0.0}, "topic": {"psi": len(rows - known) / len(rows), "chance": 0.1}}

    def run(self, ctx: Context) -> dict[str, float]:
        text = "".join(Path(name).read_text() for name in ctx.config.files)
        (ctx.out / "data").mkdir()
        (ctx.out / "data" / "train.jsonl").write_text(text)
        (ctx.out / "data" / "fold.txt").write_text(str(ctx.config.split.fold or 0))
        ctx.record("data", {"rows_kept": text.count("\n")})
        return {"rows": float(text.count("\n"))}


@dataclass
class ToyConfig(StageConfig):
    train: Dict[str, Any] = field(default_factory=lambda: {"lr": 0.5, "max_steps": 4})
    trouble: str = field(default="", metadata=NOT_IDENTITY)  # a file that says what goes wrong, "" = nothing
    add: float = 1.0
    contract: Dict[str, Any] = field(default_factory=dict, metadata=NOT_IDENTITY)  # {} = its data has none


@register("toy", config=ToyConfig)
class Toy(Stage):
    consumes = {"policy": "model"}

    def contract(self, config: ToyConfig) -> dict[str, Any] | None:
        return {"contract": config.contract} if config.contract else None

    def validate(self, config: ToyConfig) -> None:
        if "lr" not in config.train:
            raise ConfigError("train.lr is missing")

    def run(self, ctx: Context) -> dict[str, float]:
        trouble = (
            Path(ctx.config.trouble).read_text() if ctx.config.trouble and Path(ctx.config.trouble).exists() else ""
        )
        with (ctx.ckpt.parent / "runs.txt").open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        fold = sum(int((data.path / "data" / "fold.txt").read_text()) for data in ctx.data.values())
        start, value = self.resume(ctx)
        ctx.log(f"starts at step {start}")
        for step in range(start, ctx.config.train["max_steps"]):
            value += ctx.config.add
            self.save(ctx, step + 1, value)
            if step == 1:
                self.fail(trouble.removesuffix(f" in fold {fold}"))
        value += fold * fold
        (ctx.out / "model.txt").write_text(str(value))
        ctx.record(
            "training",
            {"start_step": start, "end_step": step_end(ctx, trouble), "max_steps": ctx.config.train["max_steps"]},
        )
        return {"value": value, "loss": float("nan") if trouble == "nan" else 0.25, "final_loss": 0.25 * fold}

    def resume(self, ctx: Context) -> tuple[int, float]:
        found = sorted(ctx.ckpt.glob("checkpoint-*/trainer_state.json"))
        if found:
            state = json.loads(found[-1].read_text())
            return state["step"], state["value"]
        return 0, float((ctx.inputs["policy"].path / "model.txt").read_text())

    def save(self, ctx: Context, step: int, value: float) -> None:
        folder = ctx.ckpt / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"step": step, "value": value}))

    def fail(self, trouble: str) -> None:
        if trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble.startswith("say "):
            print(trouble)
        if trouble == "bug":
            raise KeyError("no such thing")
        if trouble == "data":
            raise DataError("3 rows have no answer")
        if trouble == "full":
            raise RuntimeError("writing failed: No space left on device (os error 28)")
        if trouble == "memory":
            raise MemoryError("tried to allocate 9 GiB")
        if trouble == "wait":  # until a test has opened and closed the other end
            Path("pipe").read_text()
        if trouble == "interrupt":
            raise KeyboardInterrupt


def step_end(ctx: Context, trouble: str) -> int:
    return 2 if trouble == "idle" else ctx.config.train["max_steps"]


@dataclass
class ToyContract:
    finds: str = ""  # the level of the one thing that is found; "" = nothing
    leaks: str = "refuse"


@dataclass
class ContractConfig(StageConfig):
    after: List[str] = field(default_factory=list)
    contract: ToyContract = field(default_factory=ToyContract)


@register("contract", config=ContractConfig)
class Contract(Stage):
    consumes = {"start": "model"}
    produces = "findings"

    def run(self, ctx: Context) -> dict[str, float]:
        finding = {
            "level": ctx.config.contract.finds, "code": "too_plain", "count": 1, "of": 1, "message": "A row is plain.",
            "remedy": "Colour it.", "examples": [{"file": "facts.jsonl", "line": 1, "text": "a plain row"}],
            "data": "facts",
        }  # fmt: skip
        found = [finding] if ctx.config.contract.finds else []
        ctx.record("findings", found)
        (ctx.out / "findings.json").write_text(json.dumps(found))
        return {"roles": float(len(ctx.data))}


@dataclass
class EvaluateConfig(StageConfig):
    suites: Dict[str, Suite] = field(default_factory=dict)


@register("evaluate", config=EvaluateConfig)
class Evaluate(Stage):
    consumes = {"model": "model"}
    produces = "results"

    def run(self, ctx: Context) -> dict[str, float]:
        value = float((ctx.inputs["model"].path / "model.txt").read_text())
        (ctx.out / "results").mkdir()
        plain = {"value": value, "low": value, "high": value, "metric": "accuracy", "higher_is_better": True}
        summary = dict.fromkeys(ctx.config.suites, plain)
        (ctx.out / "results" / "summary.json").write_text(json.dumps(summary))
        items = [(suite, str(i)) for suite in summary for i in range(self.lines(ctx))]
        columns = {
            "suite": [suite for suite, _ in items],
            "item": [i for _, i in items],
            "cluster": [i for _, i in items],
        }
        columns |= {"score": [value] * len(items), "weight": [1.0] * len(items)}
        parquet.write_table(pa.table(columns), ctx.out / "results" / "items.parquet")
        return dict.fromkeys(ctx.config.suites, value)

    def lines(self, ctx: Context) -> int:
        """An item for each row of the data."""
        return sum(len((one.path / "data" / "train.jsonl").read_text().splitlines()) for one in ctx.data.values())
