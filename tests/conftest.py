"""Fixtures of the engine's tests: toy stage kinds, a project folder with `experiment=chain`, the command in-process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import absl.logging
import pytest
from bench import base, bench, chat_data, domain, dpo, pair_data, rows, sft, tokenizer  # noqa: F401 (fixtures)
from hypothesis import settings

import pipeline.registry as registry
from pipeline.schema import Evaluation, Experiment, ModelConfig, StoreConfig, Suite, Tracker

if not Path("/dev/nvidiactl").exists():  # without a GPU Triton's kernels are interpreted; it reads this when imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A busy machine is no failure, and a change is not refused for examples that the last one was not asked about:
# `pytest --hypothesis-profile=search` draws new ones.
settings.register_profile("journeyman", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=60)
settings.load_profile("journeyman")

# absl, which rouge-score brings, keeps the stderr of its import and closes it when a library configures logging anew
# (submitit does): that must not be the file in which pytest captures a whole session.
absl.logging.get_absl_handler().python_handler.setStream(sys.__stderr__)

EXPERIMENT = """# @package _global_
defaults:
  - override /tracker: none
  - override /contract: null
  - _self_
name: chain
budget: none
model:
  source: toy
data:
  facts: {files: [facts.jsonl]}
  quiz: {files: [quiz.jsonl]}
stages:
  first: {kind: toy, inputs: {policy: base}, data: {train: facts}, train: {lr: 0.5, max_steps: 4}, trouble: trouble.txt}
  second: {kind: toy, inputs: {policy: first}, train: {lr: 0.5, max_steps: 4, beta: 0.1}}
eval:
  suites:
    quiz: {measure: choice, data: quiz}
"""


@pytest.fixture
def toys(monkeypatch):
    """Only the kinds of toy_stages are known; importing them leaves the real ones alone."""
    monkeypatch.setattr(registry, "_kinds", {})
    import toy_stages

    kinds = {
        name: registry.Kind(name, getattr(toy_stages, f"{name.title()}Config"), getattr(toy_stages, name.title()))
        for name in ("base", "prepare", "toy", "contract", "evaluate")
    }
    monkeypatch.setattr(registry, "_kinds", kinds)
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    return toy_stages


@pytest.fixture
def project(tmp_path, monkeypatch, toys):
    """A current folder with two data files, an experiment and no report; `.store` is where its artifacts go."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "chain.yaml").write_text(EXPERIMENT)
    (tmp_path / "facts.jsonl").write_text('{"id": "a"}\n')
    (tmp_path / "quiz.jsonl").write_text('{"id": "q"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))
    monkeypatch.setattr("pipeline.report.write_report", lambda run, store: Path(run) / "report.html")
    return SimpleNamespace(path=tmp_path, store=tmp_path / "store")


@pytest.fixture
def journeyman(project, capfd):
    """The command on `experiment=chain`: journeyman("run", ...) -> .code, .out, .err, .json."""
    from pipeline.cli import main

    def call(verb, *words, experiment="chain"):
        code = main([verb, *([f"experiment={experiment}"] if experiment else []), *words])
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, json=json.loads(out) if "--json" in words else None)

    return call


@pytest.fixture
def chain(project):
    """chain(beta=0.1, ...) -> the same experiment without Hydra; keywords change its parts."""

    def make(beta=0.1, lr=0.5, suites=True, trouble="trouble.txt", **parts):
        found = registry.kind
        first = found("toy").config(
            kind="toy",
            inputs={"policy": "base"},
            data={"train": "facts"},
            train={"lr": lr, "max_steps": 4},
            trouble=trouble,
        )
        train = {"lr": 0.5, "max_steps": 4, "beta": beta}
        second = found("toy").config(kind="toy", inputs={"policy": "first"}, train=train)
        sets = {name: found("prepare").config(kind="prepare", files=[f"{name}.jsonl"]) for name in ("facts", "quiz")}
        experiment = Experiment(
            name="chain",
            model=ModelConfig(source="toy"),
            data=sets,
            stages={"first": first, "second": second},
            eval=Evaluation(suites={"quiz": Suite(measure="choice", data="quiz")} if suites else {}),
            tracker=Tracker(kind="none"),
            store=StoreConfig(root=str(project.store)),
        )
        for name, value in parts.items():
            setattr(experiment, name, value)
        return experiment

    return make


@pytest.fixture
def execute(project):
    """execute(experiment, force=...) -> .code, .record, .plan: plans and runs without Hydra."""
    from pipeline.config.load import Loaded
    from pipeline.display import Screen
    from pipeline.planner import make_plan
    from pipeline.runner import Run
    from pipeline.runner import execute as run_plan
    from pipeline.store import Store

    def call(experiment, **choices):
        store = Store(project.store)
        run = Run(make_plan(experiment, store, **choices), store, Loaded(experiment, [], {}), Screen())
        code = run_plan(run)
        statuses = {name: entry["status"] for name, entry in run.record["stages"].items()}
        return SimpleNamespace(code=code, record=run.record, plan=run.plan, store=store, statuses=statuses)

    return call


# -- an S3 server ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def s3_server():
    """A real S3 server in a thread of this process; nothing outside it is asked."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A url in an empty bucket of that server, and the environment that leads to it."""
    import fsspec

    for name, value in {"ENDPOINT_URL": s3_server, "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    files = fsspec.filesystem("s3")
    if files.exists("bucket"):
        files.rm("bucket", recursive=True)
    files.mkdir("bucket")
    return "s3://bucket/team/models"


# -- the real command on the real stages ----------------------------------------------------------------------------
SECRET = "5ecre7" + "0123456789abcdef" * 2 + "02"  # a key of the tracker's service, as a user would have it


@pytest.fixture(scope="session")
def secret():
    return SECRET


@pytest.fixture(scope="session")
def command():
    """The command in a process of its own: command("run", ..., store=, cwd=) -> .code, .out, .err, .json."""

    def environment(store):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "JOURNEYMAN_"))}
        quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "WANDB_API_KEY": SECRET}
        return {**env, **quiet, "JOURNEYMAN_STORE": str(store)}

    def start(*words, store, cwd, **options):
        line = [sys.executable, "-m", "pipeline", *words]
        return subprocess.Popen(line, cwd=cwd, env=environment(store), text=True, **options)

    def call(*words, store, cwd):
        process = start(*words, store=store, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=300)
        document = json.loads(out) if "--json" in words else None
        return SimpleNamespace(code=process.returncode, out=out, err=err, json=document)

    call.start = start
    return call


@pytest.fixture(scope="session")
def smoke(command, tmp_path_factory):
    """The experiment smoke, run once with its tracker: .store, .cwd, .first (the run). Do not change its store."""
    folder = tmp_path_factory.mktemp("smoke")
    first = command("run", "experiment=smoke", "--json", store=folder / "store", cwd=folder)
    assert first.code == 0, first.err
    return SimpleNamespace(store=folder / "store", cwd=folder, first=first)
