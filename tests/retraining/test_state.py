"""What is remembered of a judgement, and what counts as a change since."""

from dataclasses import replace

import pytest

from pipeline.errors import StoreError
from pipeline.planner import make_plan
from pipeline.retraining.state import State, changes, folder, gates_digest, marks, model, read_state, write_state
from pipeline.schema import Gate
from pipeline.store import Store


@pytest.fixture
def store(project):
    return Store(project.store)


@pytest.fixture
def plan(chain, store):
    """plan(...) -> the plan of the chain; keywords change its parts."""
    return lambda **parts: make_plan(chain(**parts), store)


@pytest.fixture
def state(plan):
    """state(...) -> a judgement of the chain as it is; keywords change the judgement."""

    def make(**fields):
        found = plan()
        about = {"nodes": marks(found), "gates": gates_digest(found.experiment)}
        plain = State(
            "2026-11-25T10:00:00+00:00", "promoted", "second", {"id": "new"}, {"id": "old"}, [], "run", None, **about
        )
        return replace(plain, **fields)

    return make


def test_what_is_written_is_read(store, state):
    assert read_state(store, "chain") is None
    written = state(rows={"facts": ["1", "2"]})
    write_state(store, "chain", written)
    assert read_state(store, "chain") == written


def test_the_history_begins_with_the_newest_and_ends_somewhere(store, state, monkeypatch):
    monkeypatch.setattr("pipeline.retraining.state.KEPT", 2)
    for verdict in ("promoted", "refused", "kept"):
        write_state(store, "chain", state(verdict=verdict))
    from pipeline.manifest import read_json

    assert [one["verdict"] for one in read_json(folder(store, "chain") / "state.json")["history"]] == [
        "kept",
        "refused",
    ]


@pytest.mark.parametrize("text", ["{", "{}", '{"last": {"judged": "now"}}'])
def test_a_damaged_state_is_an_error_that_says_what_to_do(store, state, text):
    write_state(store, "chain", state())
    (folder(store, "chain") / "state.json").write_text(text)
    with pytest.raises(StoreError, match=r"retrain/chain is damaged .*delete the folder: the next call judges anew"):
        read_state(store, "chain")


@pytest.mark.parametrize(("verdict", "model"), [("promoted", "new"), ("kept", "new"), ("refused", "old")])
def test_the_model_in_use_after_a_judgement(state, verdict, model):
    assert state(verdict=verdict).in_use == {"id": model}


def test_there_is_no_model_without_an_artifact(store):
    assert model(store, None) is None


# -- changes ------------------------------------------------------------------------------------------------------
def test_the_same_experiment_has_not_changed(state, plan):
    assert changes(state(), plan()) == {}


def test_what_only_follows_from_a_change_is_not_named(state, plan):
    assert changes(state(), plan(lr=0.7)) == {"config": ["first"]}


def test_a_file_of_other_content_is_a_change_of_data(state, plan, project):
    before = state()
    (project.path / "facts.jsonl").write_text('{"id": "other"}\n')
    assert changes(before, plan()) == {"data": ["facts"]}


def test_another_base_is_a_change_of_base(state, plan):
    from pipeline.schema import ModelConfig

    assert changes(state(), plan(model=ModelConfig(source="toy", dtype="float16"))) == {"base": ["base"]}


def test_a_gate_is_a_change_of_config(state, plan):
    gate = Gate("second", "quiz", "at_least", value=0.5)
    assert changes(state(), plan(gates={"bar": gate})) == {"config": ["gates"]}


def test_what_is_gone_has_changed(state, plan):
    assert changes(state(), plan(suites=False)) == {
        "config": ["eval_base", "eval_first", "eval_second"],
        "data": ["quiz"],
    }
