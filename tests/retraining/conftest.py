"""A chain with feedback and a sample of production; forty items, so that a loss can be told from luck."""

import json
from types import SimpleNamespace

import pytest

EXPERIMENT = """# @package _global_
defaults:
  - override /tracker: none
  - override /contract: null
  - _self_
name: learner
budget: none
model:
  source: toy
data:
  facts: {files: [facts.jsonl]}
  votes: {files: [votes.jsonl]}
  quiz: {files: [quiz.jsonl]}
  asked: {files: [asked.jsonl]}
stages:
  first: {kind: toy, inputs: {policy: base}, data: {train: facts}, trouble: trouble.txt}
  second: {kind: toy, inputs: {policy: first}, data: {train: votes}, add: 1.0}
eval:
  suites:
    quiz: {measure: choice, data: quiz}
"""
BETTER, WORSE = "stages.second.add=2.0", "stages.second.add=0.5"


@pytest.fixture
def learner(project):
    """The project with experiment=learner: .write(file, rows) writes so many rows, or those that are given."""
    (project.path / "conf" / "experiment" / "learner.yaml").write_text(EXPERIMENT)

    def write(file, rows):
        rows = range(rows) if isinstance(rows, int) else rows
        (project.path / file).write_text("".join(json.dumps({"id": f"{file[0]}{i}"}) + "\n" for i in rows))

    for file, rows in (("facts.jsonl", 4), ("votes.jsonl", 4), ("quiz.jsonl", 40)):
        write(file, rows)
    (project.path / "asked.jsonl").write_text((project.path / "facts.jsonl").read_text())
    return SimpleNamespace(path=project.path, store=project.store, write=write, home=project.store / "retrain/learner")


@pytest.fixture
def call(learner, journeyman):
    """call(verb, ...) -> .code, .out, .err of a verb on experiment=learner."""
    return lambda verb, *words: journeyman(verb, *words, experiment="learner")


@pytest.fixture
def champion(learner):
    """champion() -> what the pin names, or None."""

    def read():
        file = learner.store / "pins" / "learner-champion"
        return json.loads(file.read_text()) if file.exists() else None

    return read


@pytest.fixture
def state(learner):
    """state() -> state.json of the last judgement."""
    return lambda: json.loads((learner.home / "state.json").read_text())
