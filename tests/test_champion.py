"""A gate against the champion: the model that a pin names, measured on the same items like any other."""

import pytest

from pipeline.errors import ConfigError, StoreError
from pipeline.graph import make_nodes
from pipeline.pins import set_pin
from pipeline.schema import Gate, Suite
from pipeline.store import Store

KEEP = {"keep": Gate("second", "quiz", "not_worse", "champion")}


@pytest.fixture
def store(project):
    return Store(project.store)


@pytest.fixture
def compared(monkeypatch):
    """What the gates are given to compare: a set of names for each judgement."""
    import pipeline.judging.gates as gates

    seen = []
    monkeypatch.setattr(gates, "judge", lambda asked, results, *_: [seen.append({*results}) for _ in asked][:0])
    return seen


def crown(store, run, stage="second"):
    stored = run.plan.nodes[stage].stored
    set_pin(store, "chain-champion", stored)
    return stored


def test_without_a_pin_there_is_no_champion_and_nothing_more_is_built(chain, execute, compared):
    run = execute(chain(gates=KEEP))
    assert run.code == 0 and "champion" not in run.statuses and compared == [{"base", "first", "second"}]


def test_the_champion_is_taken_as_it_is_and_measured(chain, execute, store, compared):
    before = execute(chain(beta=0.1))
    stored = crown(store, before)
    run = execute(chain(beta=0.2, gates=KEEP))
    assert run.code == 0 and run.plan.nodes["champion"].id == stored.id != run.plan.nodes["second"].id
    assert run.record["stages"]["champion"]["digest"] == stored.digest
    assert run.plan.nodes["champion"].reason == f"pinned: second of {stored.attempt}"
    assert compared == [{"base", "champion", "first", "second"}]


def test_its_results_are_those_that_it_had_when_it_was_made(chain, execute, store, compared):
    """Same model, same suites, same items: the same artifact, under whatever name it was measured."""
    before = execute(chain(beta=0.1))
    crown(store, before)
    run = execute(chain(beta=0.2, gates=KEEP))
    assert run.statuses["eval_champion"] == "HIT"
    assert run.plan.nodes["eval_champion"].id == before.plan.nodes["eval_second"].id


def test_it_is_measured_anew_when_the_suites_have_changed(chain, execute, store, compared):
    crown(store, execute(chain()))
    changed = chain(beta=0.2, gates=KEEP)
    changed.eval.suites["quiz"] = Suite("choice", "quiz", version=2)
    assert execute(changed).statuses["eval_champion"] == "BUILT"


def test_evaluation_gets_all_that_the_champion_was_made_from(chain, execute, store, compared, monkeypatch):
    from pipeline import runner

    crown(store, execute(chain(beta=0.1)))
    changed = chain(beta=0.2, lr=0.7, gates=KEEP)
    changed.eval.suites["quiz"] = Suite("choice", "quiz", version=2)
    specs, write = [], runner.write_json
    monkeypatch.setattr(runner, "write_json", lambda path, value: (specs.append(value), write(path, value)))
    run = execute(changed)
    (spec,) = [one for one in specs if one.get("stage") == "eval_champion"]
    stages = [one["stage"] for one in spec["lineage"] if one["kind"] != "prepare"]
    assert stages == ["champion", "first", "base"]
    assert run.plan.nodes["first"].id not in {one["id"] for one in spec["lineage"]}, "not the stages of this experiment"


def test_what_is_no_model_cannot_be_champion(chain, execute, store):
    crown(store, execute(chain()), "eval_second")
    with pytest.raises(ConfigError, match="the pinned champion is of kind 'evaluate', which is no model"):
        execute(chain(gates=KEEP))


def test_a_champion_whose_artifact_is_gone_is_no_silent_absence(chain, execute, store):
    import shutil

    shutil.rmtree(crown(store, execute(chain())).path)
    with pytest.raises(StoreError, match=r"manifest.json is missing"):
        execute(chain(beta=0.2, gates=KEEP))


def test_nobody_may_call_a_stage_champion(chain):
    made = chain()
    made.stages["champion"] = made.stages.pop("second")
    with pytest.raises(ConfigError, match=r"stages\.champion: not a free name"):
        make_nodes(made)
