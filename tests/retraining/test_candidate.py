"""Which model may be promoted, by which gates, and what promotion does to the pins."""

from types import SimpleNamespace

import pytest

from pipeline.config.load import Loaded
from pipeline.errors import Busy, ConfigError
from pipeline.pins import pins
from pipeline.planner import make_plan
from pipeline.retraining.candidate import add_gates, promote, promoted_stage, refusals
from pipeline.schema import Evaluation, Gate, Suite
from pipeline.store import Store

SUITES = Evaluation(suites={"quiz": Suite("choice", "quiz"), "again": Suite("choice", "quiz")})


@pytest.fixture
def planned(chain, project):
    """planned(...) -> .plan and .loaded of the chain first -> second with two suites; keywords change its parts."""

    def make(**parts):
        experiment = chain(**{"eval": SUITES, **parts})
        return SimpleNamespace(plan=make_plan(experiment, Store(project.store)), loaded=Loaded(experiment, [], {}))

    return make


def judged(*verdicts):
    """The part of a run's record that says how gates went: (name, passed)."""
    return {"gates": [{"name": name, "passed": passed, "sentence": f"{name}: told"} for name, passed in verdicts]}


# -- whose model --------------------------------------------------------------------------------------------------
def test_it_is_that_of_the_last_stage_unless_another_is_named(planned):
    plan = planned().plan
    assert promoted_stage(plan, None) == "second" and promoted_stage(plan, "first") == "first"
    plan.experiment.retrain.stage = "first"
    assert promoted_stage(plan, None) == "first" and promoted_stage(plan, "second") == "second"


@pytest.mark.parametrize("stage", ["base", "facts", "eval_second", "third"])
def test_what_trains_no_model_is_not_promoted(planned, stage):
    with pytest.raises(ConfigError, match=f"{stage} trains no model that could be promoted; known: first, second"):
        promoted_stage(planned().plan, stage)


# -- gates --------------------------------------------------------------------------------------------------------
def test_every_suite_of_the_stage_gets_a_gate_against_the_champion(planned):
    made = planned()
    made.plan.experiment.retrain.margin = 0.1
    assert add_gates(made.loaded, made.plan, "second") == ["champion_quiz", "champion_again"]
    gate = made.plan.experiment.gates["champion_quiz"]
    assert gate == Gate("second", "quiz", "not_worse", "champion", margin=0.1)
    assert made.loaded.resolved["gates"]["champion_quiz"]["against"] == "champion", "as the report reads it"


def test_a_gate_of_the_experiment_takes_the_place_of_its_suite_s(planned):
    own = Gate("second", "quiz", "improves", "champion")
    made = planned(gates={"better": own, "elsewhere": Gate("first", "again", "not_worse", "champion")})
    assert add_gates(made.loaded, made.plan, "second") == ["champion_again"]


def test_a_name_that_is_taken_is_not_overwritten(planned):
    made = planned(gates={"champion_quiz": Gate("second", "quiz", "at_least", value=0.0)})
    with pytest.raises(ConfigError, match=r"gates\.champion_quiz: retraining makes a gate of this name; rename yours"):
        add_gates(made.loaded, made.plan, "second")


def test_gates_of_the_model_and_of_what_it_is_made_from_decide(planned):
    gates = {name: Gate(name, "quiz", "at_least", value=0.0) for name in ("base", "first", "second")}
    plan = planned(gates=gates).plan
    record = judged(("base", True), ("first", False), ("second", True))
    assert refusals(plan, "second", record) == ["first: told"]
    assert refusals(plan, "first", judged(("base", True), ("first", True), ("second", False))) == []


def test_a_warning_decides_nothing(planned):
    plan = planned(gates={"soft": Gate("second", "quiz", "at_least", value=0.0, action="warn")}).plan
    assert refusals(plan, "second", judged(("soft", False))) == []


def test_a_gate_that_was_not_judged_is_not_passed(planned):
    plan = planned(gates={"keep": Gate("second", "quiz", "at_least", value=0.0)}).plan
    assert refusals(plan, "second", judged()) == ["keep was not judged: the run did not get that far"]


# -- promotion ----------------------------------------------------------------------------------------------------
def test_the_champion_before_becomes_the_previous_one(chain, execute, project):
    store, run = Store(project.store), execute(chain())
    first, second = (run.plan.nodes[name].stored for name in ("first", "second"))
    promote(store, "chain", first, None)
    assert set(pins(store)) == {"chain-champion"}
    promote(store, "chain", second, first)
    assert {name: entry["id"] for name, entry in pins(store).items()} == {
        "chain-champion": second.id, "chain-previous": first.id,
    }  # fmt: skip


def test_a_champion_that_was_not_compared_with_is_not_replaced(chain, execute, project):
    store, run = Store(project.store), execute(chain())
    first, second = (run.plan.nodes[name].stored for name in ("first", "second"))
    promote(store, "chain", first, None)
    with pytest.raises(Busy, match="the pin chain-champion was changed while the new model was being judged"):
        promote(store, "chain", second, None)
    assert pins(store)["chain-champion"]["id"] == first.id
