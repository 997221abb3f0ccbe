"""Checks of the data: where they stand in the graph, who hears what they find, and what stops because of it."""

import json
from dataclasses import replace

import pytest

import pipeline.registry as registry
from pipeline.errors import ConfigError
from pipeline.graph import make_nodes


@pytest.fixture
def watched(chain):
    """The chain whose stages both have a contract."""

    def make(first=None, second=None, **parts):
        experiment = chain(**parts)
        stages = experiment.stages
        stages["first"] = replace(stages["first"], contract=first or {"finds": ""})
        stages["second"] = replace(stages["second"], contract=second or {"finds": ""}, data={"train": "more"})
        experiment.data["more"] = replace(experiment.data["facts"])
        return experiment

    return make


@pytest.fixture
def strict(journeyman, project):
    """strict(level) -> the command on a chain whose first stage's check finds something of that level."""
    file = project.path / "conf" / "experiment" / "chain.yaml"
    plain = file.read_text()

    def make(level):
        file.write_text(
            plain.replace(
                "{kind: toy, inputs: {policy: base},",
                "{kind: toy, inputs: {policy: base}, contract: {finds: " + level + "},",
            )
        )
        return journeyman

    return make


# -- in the graph -------------------------------------------------------------------------------------------------
def test_all_checks_come_after_the_data_and_before_anything_is_trained(watched):
    names = list(make_nodes(watched()))
    assert names[:6] == ["base", "facts", "quiz", "more", "check_first", "check_second"]


def test_a_check_reads_the_data_of_its_stage_of_those_before_it_and_what_is_measured(watched):
    nodes = make_nodes(watched())
    assert nodes["check_first"].data == {"train": "facts", "measured_quiz": "quiz"}
    assert nodes["check_second"].data == {"upstream:toy": "facts", "train": "more", "measured_quiz": "quiz"}
    assert nodes["check_second"].config.after == ["toy"] and nodes["check_second"].inputs == {"start": "base"}


def test_samples_are_read_by_every_check(watched):
    experiment = watched()
    experiment.data["production_sample"] = replace(experiment.data["facts"])
    nodes = make_nodes(experiment)
    assert all(nodes[name].data["production_sample"] == "production_sample" for name in ("check_first", "check_second"))


def test_how_strictly_one_looks_is_no_part_of_what_is_trained(watched):
    usual, strict = make_nodes(watched()), make_nodes(watched(first={"finds": "warning"}))
    assert usual["first"].id == strict["first"].id and usual["check_first"].id != strict["check_first"].id


def test_dropping_rows_is(watched):
    usual, dropping = make_nodes(watched()), make_nodes(watched(first={"leaks": "drop"}))
    assert dropping["first"].inputs["checked"] == "check_first" and usual["first"].id != dropping["first"].id
    assert "checked" not in dropping["second"].inputs


def test_later_checks_read_what_an_earlier_stage_dropped(watched):
    nodes = make_nodes(watched(first={"leaks": "drop"}))
    assert nodes["check_second"].inputs == {"start": "base", "upstream:toy": "check_first"}
    assert "check_first" in list(nodes)[: list(nodes).index("check_second")]


def test_the_experiments_contract_is_for_all_and_a_stages_own_comes_on_top(watched):
    nodes = make_nodes(watched(contract={"finds": "warning", "leaks": "drop"}, second={"finds": "info"}))
    found = [nodes[name].config.contract for name in ("check_first", "check_second")]
    assert [(each.finds, each.leaks) for each in found] == [("", "drop"), ("info", "drop")]


def test_a_wrong_key_is_named_with_its_place(watched):
    with pytest.raises(ConfigError, match=r"stages\.first\.contract\.fnds: unknown key \(did you mean 'finds'"):
        make_nodes(watched(first={"fnds": "warning"}))


# -- with a reward model ------------------------------------------------------------------------------------------
@pytest.fixture
def rewarded(watched, toys, monkeypatch):
    """first -> judge (a reward model) -> learner, which reads both; `heldout`: the set the judge is measured on."""

    class Judge(toys.Toy):
        produces = "reward"

        def measures(self, config):
            return ["heldout" if "heldout" in config.data else "train"]

    class Learner(toys.Toy):
        consumes = {"policy": "model", "reward": "reward"}

    for name, stage in (("judge", Judge), ("learner", Learner)):
        monkeypatch.setitem(registry._kinds, name, registry.Kind(name, toys.ToyConfig, stage))

    def make(learner_policy="first", learner_reward="judge", **judge_data):
        experiment = watched()
        experiment.stages["judge"] = replace(
            experiment.stages.pop("second"), kind="judge", data={"train": "more", **judge_data}
        )
        experiment.stages["learner"] = replace(
            experiment.stages["first"], kind="learner", data={"train": "asked"},
            inputs={"policy": learner_policy, "reward": learner_reward},
        )  # fmt: skip
        for name in ("pairs", "asked"):
            experiment.data[name] = replace(experiment.data["facts"])
        return make_nodes(experiment)

    return make


def test_what_a_reward_model_was_trained_on_is_upstream_of_who_uses_it(rewarded):
    found = rewarded()["check_learner"]
    assert {found.data[role] for role in found.data if role.startswith("upstream:")} == {"facts", "more"}
    assert found.config.after == ["toy", "judge"]


def test_what_a_stage_measures_itself_on_is_trained_on_by_nobody(rewarded):
    nodes = rewarded(heldout="pairs")
    for name in ("check_first", "check_judge", "check_learner"):
        assert nodes[name].data["measured_pairs"] == "pairs"
        assert [role for role, used in nodes[name].data.items() if used == "pairs"] == ["measured_pairs"]
    own = rewarded()["check_judge"].data  # the held-out part of the set whose other part it is trained on
    assert own["train"] == own["measured_more"] == "more"


def test_a_reward_model_is_not_evaluated_as_a_model_and_no_policy(rewarded):
    assert "eval_judge" not in rewarded() and "eval_learner" in rewarded()
    with pytest.raises(ConfigError, match=r"inputs\.policy: 'judge' makes reward, but model is needed"):
        rewarded(learner_policy="judge")
    with pytest.raises(ConfigError, match=r"inputs\.reward: there is no reward model 'jugde' \(did you mean 'judge'"):
        rewarded(learner_reward="jugde")


# -- in a run -----------------------------------------------------------------------------------------------------
def test_an_error_ends_the_run_before_anything_is_trained_and_again_when_it_is_known(strict, project):
    for _ in range(2):
        ended = strict("error")("run")
        assert ended.code == 4 and "check_first: facts: too_plain: A row is plain." in ended.err
        assert "facts.jsonl, line 1: a plain row" in ended.err and "Colour it." in ended.err
        stages = json.loads((project.store / "runs" / "chain" / "latest" / "run.json").read_text())["stages"]
        assert {stages[name]["status"] for name in ("first", "second", "eval_base")} == {"SKIPPED"}


def test_a_warning_is_told_when_it_is_new(strict):
    first = strict("warning")("run")
    assert first.code == 0 and "warning: facts: too_plain: A row is plain." in first.out
    assert "warning:" not in strict("warning")("run").out


def test_a_note_is_only_named(strict):
    done = strict("info")("run")
    assert done.code == 0 and "too_plain" in done.out and "A row is plain." not in done.out


# -- alone --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("level", "code"), [("error", 4), ("warning", 0), ("info", 0)])
def test_data_check_tells_everything_and_trains_nothing(strict, project, level, code):
    told = strict(level)("data", "check")
    assert told.code == code and f"{level}: facts: too_plain: A row is plain." in told.out
    assert sorted(path.name for path in (project.store / "artifacts").iterdir()) == ["base", "contract", "prepare"]
    assert not list((project.store / "runs").iterdir())


def test_data_check_says_the_same_as_one_document(strict):
    document = strict("error")("data", "check", "--json")
    assert document.code == 4 and document.json["experiment"] == "chain"
    assert document.json["checks"]["check_first"][0]["code"] == "too_plain"


def test_an_experiment_without_contracts_is_told(journeyman):
    told = journeyman("data", "check")
    assert told.code == 0 and "no stage of this experiment has a contract" in told.out
