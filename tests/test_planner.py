"""Graph, plan and explanation: order, ids, statuses, reasons, and every reference that does not fit."""

import json
import shutil

import pytest

from pipeline.errors import ConfigError, StoreError
from pipeline.explain import explain
from pipeline.graph import make_nodes
from pipeline.planner import make_plan
from pipeline.registry import kind
from pipeline.schema import Evaluation, Gate, Identity, ModelConfig, Suite
from pipeline.store import Store


def toy(policy="base", **fields):
    return kind("toy").config(kind="toy", inputs={"policy": policy}, **fields)


def ids(nodes):
    return {name: node.id for name, node in nodes.items()}


# -- the graph ----------------------------------------------------------------------------------------------------
def test_order_is_base_data_then_each_stage_with_its_evaluation(chain):
    names = ["base", "facts", "quiz", "eval_base", "first", "eval_first", "second", "eval_second"]
    assert list(make_nodes(chain())) == names


def test_stages_may_be_written_in_any_order(chain):
    backwards = chain(stages=dict(reversed(chain().stages.items())))
    assert list(make_nodes(backwards)) == list(make_nodes(chain()))


def test_only_data_that_is_read_becomes_a_node(chain):
    assert "quiz" not in make_nodes(chain(suites=False))
    assert list(make_nodes(chain(stages={}, suites=False, model=ModelConfig(source="")))) == ["facts", "quiz"]


def test_names_of_stages_do_not_count_and_every_change_reaches_what_follows(chain, project):
    before = ids(make_nodes(chain()))
    stages = chain().stages
    renamed = chain(stages={"one": stages["first"], "two": toy("one", train=stages["second"].train)})
    assert ids(make_nodes(renamed))["two"] == before["second"]
    (project.path / "facts.jsonl").write_text('{"id": "b"}\n')
    after = ids(make_nodes(chain()))
    assert {name for name in before if before[name] != after[name]} == {
        "facts", "first", "eval_first", "second", "eval_second"
    }  # fmt: skip


def test_runtime_and_gates_are_no_part_of_an_id(chain):
    stages = chain().stages
    stages["first"].runtime.threads = 7
    gates = {"g": Gate(stage="first", suite="quiz", rule="at_least", value=0.5)}
    assert ids(make_nodes(chain(stages=stages, gates=gates))) == ids(make_nodes(chain()))


def test_strict_identity_puts_code_and_versions_into_the_id(chain):
    strict = make_nodes(chain(identity=Identity(code="strict")))
    assert set(strict["first"].payload["code"]) == {"digest", "packages"}
    assert strict["first"].id != make_nodes(chain())["first"].id


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            lambda: {"first": toy("bsae")},
            r"stages\.first\.inputs\.policy: there is no stage 'bsae'.*did you mean 'base'",
        ),
        (lambda: {"first": toy("facts")}, r"'facts' makes data, but model is needed"),
        (lambda: {"first": kind("toy").config(kind="toy")}, r"stages\.first\.inputs\.policy: missing"),
        (lambda: {"first": toy(data={"train": "fact"})}, r"there is no data set 'fact'.*did you mean 'facts'"),
        (lambda: {"a": toy("b"), "b": toy("a")}, r"circle: a -> b -> a"),
        (lambda: {"base": toy()}, r"stages\.base: not a free name"),
        (lambda: {"eval_x": toy()}, r"stages\.eval_x: not a free name"),
        (lambda: {"facts": toy()}, r"a data set has the same name"),
    ],
)
def test_references_that_do_not_fit_are_named(chain, stages, message):
    with pytest.raises(ConfigError, match=message):
        make_nodes(chain(stages=stages()))


def test_an_input_that_the_kind_does_not_have_is_named(chain):
    stage = kind("toy").config(kind="toy", inputs={"policy": "base", "polcy": "base"})
    with pytest.raises(ConfigError, match=r"inputs\.polcy: kind 'toy' has no such input.*'policy'"):
        make_nodes(chain(stages={"first": stage}))


def test_a_model_that_is_needed_and_not_chosen_is_named(chain):
    with pytest.raises(ConfigError, match=r"model\.source"):
        make_nodes(chain(model=ModelConfig(source="")))


def test_a_data_file_that_is_missing_is_named(chain, project):
    (project.path / "facts.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"data\.facts: cannot read .*facts\.jsonl"):
        make_nodes(chain())


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (Gate(stage="frist", suite="quiz", rule="at_least", value=1.0), r"gates\.g\.stage=frist.*first"),
        (Gate(stage="first", suite="quizz", rule="at_least", value=1.0), r"gates\.g\.suite=quizz.*quiz"),
        (Gate(stage="first", suite="quiz", rule="improve"), r"gates\.g\.rule=improve.*improves"),
        (Gate(stage="first", suite="quiz", rule="improves", against="secnd"), r"gates\.g\.against=secnd.*second"),
    ],
)
def test_gates_are_checked_before_anything_runs(chain, gate, message):
    with pytest.raises(ConfigError, match=message):
        make_nodes(chain(gates={"g": gate}))


def test_only_the_models_asked_for_are_evaluated(chain):
    suites = {"quiz": Suite(measure="choice", data="quiz")}
    nodes = make_nodes(chain(eval=Evaluation(suites=suites, models=["second"])))
    assert [name for name in nodes if name.startswith("eval_")] == ["eval_second"]
    with pytest.raises(ConfigError, match=r"eval\.models: there is no model 'secnd' \(did you mean 'second'"):
        make_nodes(chain(eval=Evaluation(suites=suites, models=["secnd"])))


# -- the plan -----------------------------------------------------------------------------------------------------
@pytest.fixture
def plan(project):
    return lambda experiment, **choices: make_plan(experiment, Store(project.store), **choices)


def rows(plan):
    return {name: (row["status"], row["reason"]) for name, row in plan.table().items()}


def test_at_first_everything_is_built_and_has_an_id(chain, plan):
    table = plan(chain()).table()
    assert {row["status"] for row in table.values()} == {"BUILD"}
    assert {row["reason"] for row in table.values()} == {"nothing built yet"}
    assert all(set(row) == {"kind", "id", "status", "reason"} and len(row["id"]) == 16 for row in table.values())


def test_reasons_name_the_first_cause(chain, plan, execute, project):
    execute(chain(suites=False))
    assert {status for status, _ in rows(plan(chain(suites=False))).values()} == {"HIT"}
    assert rows(plan(chain(suites=False, beta=0.2)))["second"] == ("BUILD", "train.beta: 0.1 -> 0.2")
    changed = rows(plan(chain(suites=False, lr=0.25)))
    assert changed["first"] == ("BUILD", "train.lr: 0.5 -> 0.25")
    assert changed["second"] == ("BUILD", "input first is rebuilt")
    (project.path / "facts.jsonl").write_text('{"id": "b"}\n')
    changed = rows(plan(chain(suites=False)))
    assert changed["facts"] == ("BUILD", "facts.jsonl changed")
    assert changed["first"] == ("BUILD", "data set facts changed: facts.jsonl changed")


def test_force_from_and_until(chain, plan, execute):
    execute(chain(suites=False))
    forced = rows(plan(chain(suites=False), force=["first"]))
    assert forced["first"] == ("BUILD", "forced") and forced["second"] == ("BUILD", "input first is rebuilt")
    started = rows(plan(chain(suites=False), start="first"))
    assert started["first"] == started["second"] == ("BUILD", "forced") and started["base"][0] == "HIT"
    assert set(rows(plan(chain(), until="first"))) == {"base", "facts", "first"}


def test_from_needs_what_is_above_it(chain, plan):
    with pytest.raises(ConfigError, match=r"--from second: .*first must be built first"):
        plan(chain(suites=False), start="second")


@pytest.mark.parametrize("choice", [{"start": "frist"}, {"until": "frist"}, {"force": ["frist"]}])
def test_a_stage_that_does_not_exist_is_named(chain, plan, choice):
    with pytest.raises(ConfigError, match=r"there is no such stage \(did you mean 'first'\?\)"):
        plan(chain(), **choice)


def test_a_checkpoint_makes_it_resume(chain, plan, project):
    id = plan(chain()).nodes["first"].id
    folder = project.store / "work" / id / "ckpt" / "checkpoint-3"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    assert rows(plan(chain()))["first"] == ("RESUME", "nothing built yet; continues at step 3")


def test_a_rebuilt_input_with_another_content_makes_what_follows_stale(chain, plan, execute, project):
    execute(chain(suites=False))
    store = Store(project.store)
    first = plan(chain(suites=False)).nodes["first"].stored
    out = store.work(first.id) / "out"
    out.mkdir(parents=True)
    (out / "model.txt").write_text("99.0")
    entry = {key: value for key, value in first.manifest.items() if key not in ("attempt", "outputs", "digest")}
    store.publish("toy", first.id, entry)
    assert rows(plan(chain(suites=False)))["second"] == ("BUILD", "input first was rebuilt with another content")


def test_damage_stops_the_plan_unless_the_stage_is_forced(chain, plan, execute):
    execute(chain(suites=False))
    (plan(chain(suites=False)).nodes["first"].stored.path / "model.txt").write_text("5")
    with pytest.raises(StoreError, match="--force first"):
        plan(chain(suites=False))
    assert rows(plan(chain(suites=False), force=["first"]))["first"] == ("BUILD", "forced")


# -- explain ------------------------------------------------------------------------------------------------------
def causes(plan, project, name):
    return [str(cause) for cause in explain(plan, Store(project.store), name).causes]


def test_explain_follows_to_the_first_cause(chain, plan, execute, project):
    assert causes(plan(chain(suites=False)), project, "second") == ["second: nothing built yet"]
    execute(chain(suites=False))
    assert causes(plan(chain(suites=False)), project, "second") == []
    assert causes(plan(chain(suites=False, beta=0.2)), project, "second") == ["second: train.beta: 0.1 -> 0.2"]
    assert causes(plan(chain(suites=False, lr=0.1)), project, "second") == ["first: train.lr: 0.5 -> 0.1"]
    (project.path / "facts.jsonl").write_text('{"id": "b"}\n')
    assert causes(plan(chain(suites=False)), project, "second") == ["facts: facts.jsonl changed"]


def test_explain_lists_drift_apart(chain, plan, execute, project):
    execute(chain(suites=False))
    node = plan(chain(suites=False)).nodes["first"]
    path = node.stored.path / "manifest.json"
    entry = json.loads(path.read_text())
    entry["code_digest"] = "other"
    entry["env"]["packages"]["torch"] = "0.1"
    path.write_text(json.dumps(entry))
    found = explain(plan(chain(suites=False)), Store(project.store), "first")
    assert found.causes == [] and found.status == "HIT"
    assert any("code changed" in line for line in found.drift) and any(
        "package torch: 0.1" in line for line in found.drift
    )


def test_an_artifact_that_was_deleted_is_called_that(chain, plan, execute, project):
    execute(chain(suites=False))
    stored = plan(chain(suites=False)).nodes["second"].stored
    (stored.path.parent / "CURRENT").unlink()
    assert rows(plan(chain(suites=False)))["second"] == ("BUILD", "its artifact is no longer in the store")
    shutil.rmtree(stored.path)
    assert rows(plan(chain(suites=False)))["second"] == ("BUILD", "nothing built yet")
