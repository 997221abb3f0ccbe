"""Fixtures of the engine's tests: toy stage kinds, a store, a folder with an experiment, and the command in-process."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import pipeline.registry as registry

EXPERIMENT = """# @package _global_
defaults:
  - override /tracker: none
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
    """Only the kinds of toy_stages are known."""
    import toy_stages

    kinds = {
        name: registry.Kind(name, getattr(toy_stages, f"{name.title()}Config"), getattr(toy_stages, name.title()))
        for name in ("base", "prepare", "toy", "evaluate")
    }
    monkeypatch.setattr(registry, "_kinds", kinds)
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    return toy_stages


@pytest.fixture
def project(tmp_path, monkeypatch, toys):
    """A current folder with `experiment=chain`; `.run(*words)` gives (exit code, stdout, stderr)."""
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
    """The command: journeyman("run", ...) -> (exit code, stdout, stderr)."""
    from pipeline.cli import main

    def call(*words):
        code = main([words[0], "experiment=chain", *words[1:]])
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, json=json.loads(out) if "--json" in words else None)

    return call
