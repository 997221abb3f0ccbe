"""Points of a learning curve: one stage reads a share of its data, everything else of the experiment stays."""

import pytest

import pipeline.registry as registry
from pipeline.config.load import Loaded
from pipeline.curve import at_share, measured, plan_point, seconds
from pipeline.errors import ConfigError
from pipeline.planner import make_plan
from pipeline.store import Store


@pytest.fixture
def resolved():
    """Two stages that read the same facts; the second also mixes in replay, of which it already takes a half."""
    return {
        "name": "chain", "gates": {"g": {"stage": "second"}},
        "data": {"facts": {"files": ["facts.jsonl"]}, "replay": {"files": ["old.jsonl"], "fraction": 0.5}},
        "stages": {
            "first": {"kind": "toy", "data": {"train": "facts"}},
            "second": {"kind": "toy", "data": {"train": "facts", "replay": "replay", "probe": "quiz"}, "lr": 0.5},
        },
    }  # fmt: skip


def test_the_stage_reads_copies_with_a_fraction_and_no_other_stage_does(resolved):
    found = at_share(resolved, "second", {"train": "facts", "replay": "replay"}, 0.25)
    assert found["data"]["facts-25"] == {"files": ["facts.jsonl"], "fraction": 0.25}
    assert found["data"]["facts"] == resolved["data"]["facts"]
    assert found["stages"]["first"] == resolved["stages"]["first"]
    assert found["stages"]["second"] == {
        "kind": "toy", "data": {"train": "facts-25", "replay": "replay-25", "probe": "quiz"}, "lr": 0.5,
    }  # fmt: skip


def test_a_share_of_a_set_of_which_a_fraction_is_used_is_a_share_of_that(resolved):
    assert at_share(resolved, "second", {"replay": "replay"}, 0.25)["data"]["replay-25"]["fraction"] == 0.125


def test_a_point_is_an_experiment_of_its_own_without_gates(resolved):
    found = at_share(resolved, "first", {"train": "facts"}, 0.5)
    assert found["name"] == "chain-curve" and found["gates"] == {} and resolved["gates"]


def test_rows_that_another_stage_makes_cannot_be_cut(resolved):
    with pytest.raises(ConfigError, match=r"stages\.first\.data: 'labelled' is made by a stage; no share of it"):
        at_share(resolved, "first", {"train": "labelled"}, 0.5)


def test_a_round_of_another_stage_has_no_data_of_its_own_to_cut(resolved):
    with pytest.raises(ConfigError, match=r"stages\.second_round1: it is one round of another stage"):
        at_share(resolved, "second_round1", {"train": "facts"}, 0.5)


@pytest.fixture
def learner(tmp_path, monkeypatch):
    """learner() -> a loaded experiment with a trained and a later stage, and its store; nothing is built."""
    monkeypatch.setattr(registry, "_kinds", {})
    import learner_stages as toys

    from pipeline.config.typed import typed_experiment
    from stages.prepare import Prepare, PrepareConfig

    kinds = {
        "base": (toys.StartConfig, toys.Start), "prepare": (PrepareConfig, Prepare),
        "learner": (toys.LearnerConfig, toys.Learner), "evaluate": (toys.LearnerEvaluateConfig, toys.LearnerEvaluate),
    }  # fmt: skip
    monkeypatch.setattr(registry, "_kinds", {name: registry.Kind(name, *both) for name, both in kinds.items()})
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    monkeypatch.chdir(tmp_path)
    for name in ("lessons", "quiz"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    stage = {"kind": "learner", "data": {"train": "lessons"}}
    resolved = {
        "name": "learn", "model": {"source": "toy"}, "gates": {}, "tracker": {"kind": "none"},
        "data": {"lessons": {"kind": "prepare", "format": "chat", "files": ["lessons.jsonl"]},
                 "quiz": {"kind": "prepare", "format": "choice", "files": ["quiz.jsonl"]}},
        "stages": {"first": {**stage, "inputs": {"policy": "base"}},
                   "later": {**stage, "inputs": {"policy": "first"}}},
        "eval": {"suites": {"quiz": {"measure": "choice", "data": "quiz"}}},
    }  # fmt: skip
    return Loaded(typed_experiment(resolved), [], resolved), Store(tmp_path / "store")


def test_a_point_is_planned_up_to_the_evaluation_of_its_stage_and_no_further(learner):
    loaded, store = learner
    whole = make_plan(loaded.experiment, store)
    less, point = plan_point(loaded, store, whole.nodes["later"], 0.5)
    assert set(point.nodes) == {"base", "lessons", "lessons-50", "quiz", "first", "later", "eval_later"}
    assert less.experiment.name == "learn-curve"
    assert point.nodes["first"].id == whole.nodes["first"].id  # what stands before it stays as it is
    assert point.nodes["later"].id != whole.nodes["later"].id
    assert measured(point, "later") is None  # nothing is built


def test_building_takes_a_share_of_training_and_all_of_measuring():
    class Stored:
        def __init__(self, seconds):
            self.manifest = {"seconds": seconds}

    class Node:
        def __init__(self, name, status, took=None):
            self.name, self.status, self.stored = name, status, took and Stored(took)

    class Plan:
        def __init__(self, *nodes):
            self.nodes = {node.name: node for node in nodes}
            self.to_build = [node for node in nodes if node.status != "HIT"]

    whole = Plan(Node("sft", "HIT", 100.0), Node("eval_sft", "HIT", 30.0), Node("base", "HIT", 7.0))
    point = Plan(Node("sft", "BUILD"), Node("eval_sft", "BUILD"), Node("base", "HIT"), Node("chat-25", "BUILD"))
    assert seconds([(0.25, point), (0.5, point)], whole) == 25 + 30 + 50 + 30
