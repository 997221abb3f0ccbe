"""Suites written out: tasks named in one line, and the data sets of suites that bring their items."""

import pytest

from pipeline.config.suites import complete_suites
from pipeline.config.typed import typed_experiment
from pipeline.errors import ConfigError
from pipeline.graph import make_nodes
from pipeline.schema import Evaluation, Suite

RESOLVED = {
    "name": "mine", "model": {"source": "toy"}, "data": {"quiz": {"files": ["quiz.jsonl"], "format": "choice"}},
    "stages": {}, "gates": {"keep": {"stage": "base", "suite": "about=general", "rule": "at_least", "value": 0.1}},
}  # fmt: skip


def completed(retention=(), **suites):
    asked = Evaluation(suites=suites, retention=list(retention))
    return complete_suites(asked, {"quiz"}), asked.suites


def test_one_line_is_a_suite_for_each_task():
    made, suites = completed(["hellaswag", "./tasks/my tasks.yaml"])
    assert suites["hellaswag"] == Suite("harness", "hellaswag_items", params={"tasks": "hellaswag"}, about="general")
    assert suites["my_tasks"].params == {"tasks": "./tasks/my tasks.yaml"}
    assert made["hellaswag_items"] == {"kind": "harness", "tasks": "hellaswag", "metric": "", "num_fewshot": -1}


def test_a_share_is_of_the_limits_there_are():
    """A suite without a limit, as those of `eval=full`, stays whole; no suite is left without an item."""
    asked = Evaluation({"some": Suite("choice", "quiz", limit=5), "all": Suite("choice", "quiz")}, share=0.5)
    complete_suites(asked, {"quiz"})
    assert {name: suite.limit for name, suite in asked.suites.items()} == {"some": 3, "all": 0}


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match=r"eval\.share=.*: above 0 and at most 1"):
        complete_suites(Evaluation({}, share=share), {})


def test_other_suites_keep_their_data():
    made, suites = completed(quiz=Suite("choice", "quiz"))
    assert made == {} and suites == {"quiz": Suite("choice", "quiz")}


@pytest.mark.parametrize(
    ("retention", "suites", "message"),
    [
        ([], {"a": Suite("choice")}, r"eval\.suites\.a\.data: a value is required"),
        ([], {"a": Suite("harnes")}, r"eval\.suites\.a\.measure=harnes: .*did you mean harness\?"),
        ([], {"a": Suite("harness", "quiz", params={"tasks": "b"})}, r"a\.data=quiz: harness brings its own items"),
        ([], {"a": Suite("harness")}, r"eval\.suites\.a\.params\.tasks: name a task"),
        (["a"], {"a": Suite("choice", "quiz")}, r"eval\.retention: a becomes a suite 'a', and there is one"),
    ],
)
def test_what_does_not_fit_is_told_by_its_key(retention, suites, message):
    with pytest.raises(ConfigError, match=message):
        completed(retention, **suites)


def test_a_data_set_of_that_name_is_not_overwritten():
    with pytest.raises(ConfigError, match=r"data\.a_items: the items of the suite a get this name"):
        complete_suites(Evaluation(suites={"a": Suite("harness", params={"tasks": "b"})}), {"a_items"})


def test_the_items_are_measured_and_gates_on_general_suites_judge_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quiz.jsonl").write_text("")
    experiment = typed_experiment({**RESOLVED, "eval": {"retention": ["hellaswag"]}})
    assert experiment.data["hellaswag_items"].tasks == "hellaswag"
    assert [gate.suite for gate in experiment.gates.values()] == ["hellaswag"]
    nodes = make_nodes(experiment)
    assert nodes["eval_base"].data == {"hellaswag_items": "hellaswag_items"}
    assert list(nodes).index("hellaswag_items") < list(nodes).index("eval_base")


def test_another_version_of_the_harness_is_another_evaluation(tmp_path, monkeypatch):
    from stages.evaluation.harness import files

    monkeypatch.chdir(tmp_path)
    (tmp_path / "quiz.jsonl").write_text("")
    ids = []
    for version in ("0.4.13", "0.5.0"):
        monkeypatch.setattr(files, "version", lambda name, v=version: v)
        ids.append(make_nodes(typed_experiment({**RESOLVED, "eval": {"retention": ["hellaswag"]}}))["eval_base"].id)
    assert ids[0] != ids[1]
