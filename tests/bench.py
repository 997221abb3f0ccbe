"""A bench for stages: they run in this process on the toy model, their artifacts are published by hand."""

import json
import os
import random
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.context import Artifact, Context
from pipeline.processes import Outcome, command, die_with_parent, joined, meet, settings
from pipeline.registry import kind
from pipeline.schema import ModelConfig, PeftConfig, Runtime, Tracker

TEXT = "the licence allows you to use copy change and share this work keep notice source code program must give"


@dataclass
class Bench:
    """Builds artifacts below `root`. `made`: id -> artifact, the lineage of whatever is built next."""

    root: Path
    made: dict[str, Artifact] = field(default_factory=dict)

    def publish(self, name: str, kind_name: str, folder: Path, payload: dict, inputs: dict) -> Artifact:
        """The artifact in `folder`, with as much of a manifest as stages read."""
        (folder / "manifest.json").write_text(json.dumps({"payload": payload, "inputs": inputs}))
        made = Artifact(folder.name, kind_name, name, folder, f"digest of {folder.name}")
        self.made[made.id] = made
        return made

    def folder(self, name: str) -> Path:
        folder = self.root / f"{name}-{len(list(self.root.iterdir()))}"
        folder.mkdir()
        return folder

    def data(self, name: str, rows: list[dict]) -> Artifact:
        """A prepared data set with these training rows."""
        folder = self.folder(name)
        (folder / "data").mkdir()
        (folder / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self.publish(name, "prepare", folder, {}, {})

    def context(self, name: str, config: Any, inputs: dict, data: dict, ckpt: Path | None = None) -> Context:
        out = self.folder(name)
        return Context(
            run_id="run", experiment="test", stage=name, id=out.name, config=config, inputs=inputs, data=data,
            lineage=dict(self.made), out=out, ckpt=ckpt or self.folder(f"ckpt-{name}"),
            cache=self.root / "cache", tracker=Tracker(kind="none"),
        )  # fmt: skip

    def run(self, ctx: Context) -> SimpleNamespace:
        """Run the stage of `ctx`: its artifact, metrics and manifest sections."""
        metrics = kind(ctx.config.kind).stage().run(ctx)
        payload = {"data": {role: item.id for role, item in ctx.data.items()}}
        inputs = {role: {"id": item.id} for role, item in ctx.inputs.items()}
        made = self.publish(ctx.stage, ctx.config.kind, ctx.out, payload, inputs)
        return SimpleNamespace(artifact=made, metrics=metrics, sections=ctx.sections, ctx=ctx)

    def train(self, kind_name: str, policy: Artifact, data: dict[str, Artifact], **settings: Any) -> SimpleNamespace:
        """Build a training stage on `policy` with small, quick settings."""
        config = self.config(kind_name, **settings)
        return self.run(self.context(kind_name, config, {"policy": policy}, data))

    def spec(self, ctx: Context) -> Path:
        """spec.json of a work folder whose stage is that of `ctx`, as the engine writes it."""
        work = self.folder(f"work-{ctx.stage}")
        (work / "ranks").mkdir()
        told = lambda made: {**vars(made), "path": str(made.path)}  # noqa: E731
        places = {name: str(getattr(ctx, name)) for name in ("out", "ckpt", "cache")}
        spec = {
            **{name: getattr(ctx, name) for name in ("run_id", "experiment", "stage", "id")}, **places,
            "kind": ctx.config.kind, "module": kind(ctx.config.kind).stage.__module__, "config": asdict(ctx.config),
            "inputs": {role: told(made) for role, made in ctx.inputs.items()},
            "data": {role: told(made) for role, made in ctx.data.items()},
            "lineage": [*map(told, ctx.lineage.values())], "cwd": str(self.root), "gpu": None,
            "tracker": asdict(ctx.tracker), "tracker_dir": str(ctx.tracker_dir), "basis": {"forced": False},
        }  # fmt: skip
        (work / "spec.json").write_text(json.dumps(spec))
        return work / "spec.json"

    def together(self, contexts: list[Context], **told: str) -> list[Outcome]:
        """Run the stages of the contexts, all for the same number of processes, one after another in these.

        `told`: what is said to the ranks of tests/ranks.py by their environment.
        """
        specs, runtime = [self.spec(ctx) for ctx in contexts], asdict(contexts[0].config.runtime)
        line = command(runtime, meet(runtime), 0, settings(specs[0].with_name("ranks")), "ranks")
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        code = subprocess.run(
            [*line, *map(str, specs)], cwd=self.root, preexec_fn=die_with_parent,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **told},
        ).returncode  # fmt: skip
        return [joined(spec.with_name("ranks"), runtime, code) for spec in specs]

    def config(self, kind_name: str, **settings: Any) -> Any:
        found = kind(kind_name).config
        runtime = settings.pop("runtime", Runtime(threads=1, device="cpu", logging_steps=1))
        quick = {"max_length": 64, "batch_size": 4, "peft": PeftConfig(r=4, alpha=8.0), "runtime": runtime}
        train = {"learning_rate": 0.02, "num_train_epochs": 1, **settings.pop("train", {})}
        return found(**{"kind": kind_name, **quick, "train": train, **settings})


def sentence(seed: int, count: int) -> str:
    return " ".join(random.Random(seed).choices(TEXT.split(), k=count))


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def base(bench):
    """The toy model as a base artifact."""
    config = kind("base").config(kind="base", model=ModelConfig(source="toy"))
    return bench.run(bench.context("base", config, {}, {})).artifact


@pytest.fixture(scope="session")
def rows():
    """Makers of rows: rows.chat(n), rows.text(n), rows.pairs(n)."""

    def chat(count: int, tag: str = "general", turns: int = 1, start: int = 0) -> list[dict]:
        found = []
        for i in range(start, start + count):
            talk = []
            for turn in range(turns):
                talk.append({"role": "user", "content": sentence(1000 * i + turn, 4 + i % 3)})
                talk.append({"role": "assistant", "content": sentence(1000 * i + turn + 500, 3 + i % 4)})
            found.append({"id": f"{tag}{i}", "messages": talk, "tags": [tag], "task": tag, "cluster": f"{tag}{i}"})
        return found

    def text(count: int, words: int = 30) -> list[dict]:
        return [{"id": f"t{i}", "text": sentence(90_000 + i, words + i % 7), "cluster": f"t{i}"} for i in range(count)]

    def pairs(count: int) -> list[dict]:
        return [
            {"id": f"p{i}", "prompt": [{"role": "user", "content": sentence(50_000 + i, 5)}],
             "chosen": sentence(60_000 + i, 4), "rejected": sentence(70_000 + i, 5)}
            for i in range(count)
        ]  # fmt: skip

    return SimpleNamespace(chat=chat, text=text, pairs=pairs)


@pytest.fixture(scope="session")
def chat_data(bench, rows):
    return bench.data("chat", rows.chat(16) + rows.chat(8, tag="safety", start=100))


@pytest.fixture(scope="session")
def sft(bench, base, chat_data):
    """`sft` on the toy base."""
    return bench.train("sft", base, {"train": chat_data})


@pytest.fixture(scope="session")
def domain(bench, sft, rows):
    """`domain` on `sft`: a chain of two adapters."""
    from stages.domain import Rehearsal

    data = {"train": bench.data("text", rows.text(40))}
    return bench.train("domain", sft.artifact, data, rehearsal=Rehearsal(share=0.2, safety_floor=0.05, general=0.0))


@pytest.fixture(scope="session")
def pair_data(bench, rows):
    return bench.data("pairs", rows.pairs(12))


@pytest.fixture(scope="session")
def dpo(bench, domain, pair_data):
    """`dpo` on `domain`: its input has two adapters."""
    return bench.train("dpo", domain.artifact, {"train": pair_data}, train={"learning_rate": 1e-3})


@pytest.fixture(scope="session")
def tokenizer(base):
    from stages.models.chain import load_tokenizer

    return load_tokenizer(base.path / "model")
