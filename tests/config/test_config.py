"""Compositions are remembered as long as nothing that Hydra read has changed; and what a config may hold."""

import importlib
from pathlib import Path

import pytest
import yaml

import pipeline.config.compose as compose
import pipeline.config.load as config
import pipeline.config.search as search
from pipeline.config.search import config_folders, named
from pipeline.config.typed import typed
from pipeline.errors import ConfigError


@pytest.fixture
def composed(project, monkeypatch):
    """composed(*overrides) -> (Loaded, whether Hydra was asked)."""
    (project.store / "cache").mkdir(parents=True)
    asked = []
    real = compose.composition
    monkeypatch.setattr(compose, "composition", lambda *given: asked.append(given) or real(*given))

    def call(*overrides):
        before = len(asked)
        return config.load(["experiment=chain", *overrides]), len(asked) > before

    return call


def test_the_second_time_hydra_is_not_asked_and_the_answer_is_the_same(composed):
    first, asked = composed("stages.second.train.beta=0.3")
    again, asked_again = composed("stages.second.train.beta=0.3")
    assert asked and not asked_again and first == again


def test_other_overrides_are_composed_anew(composed):
    composed()
    other, asked = composed("stages.second.train.beta=0.3")
    assert asked and other.experiment.stages["second"].train["beta"] == 0.3


def test_a_changed_file_is_composed_anew(composed, project):
    composed()
    file = project.path / "conf" / "experiment" / "chain.yaml"
    file.write_text(file.read_text().replace("beta: 0.1", "beta: 0.35"))
    changed, asked = composed()
    assert asked and changed.experiment.stages["second"].train["beta"] == 0.35


def test_a_variable_that_a_file_names_counts_and_is_not_written_down(composed, project, monkeypatch):
    file = project.path / "conf" / "experiment" / "chain.yaml"
    file.write_text(file.read_text() + "tracker:\n  project: ${oc.env:TEAM_NAME}\n")
    monkeypatch.setenv("TEAM_NAME", "one")
    composed()
    assert not composed()[1]
    monkeypatch.setenv("TEAM_NAME", "two")
    changed, asked = composed()
    assert asked and changed.experiment.tracker.project == "two"


def test_nothing_is_written_where_there_is_no_store(project):
    config.load(["experiment=chain"])
    assert not project.store.exists()


def test_only_the_newest_are_kept(composed, project, monkeypatch):
    monkeypatch.setattr(config, "KEPT", 2)
    for seed in range(4):
        composed(f"stages.first.seed={seed}")
    assert len(list((project.store / "cache" / "compose").glob("*.json"))) == 2


def test_inline_stages_take_overrides_of_fields_they_do_not_mention(composed):
    loaded, _ = composed("stages.first.seed=7", "stages.first.runtime.threads=2", "data.quiz.seed=3")
    assert loaded.experiment.stages["first"].seed == 7 and loaded.experiment.stages["first"].runtime.threads == 2
    assert loaded.experiment.data["quiz"].seed == 3
    assert loaded.overrides == [
        "experiment=chain",
        "stages.first.seed=7",
        "stages.first.runtime.threads=2",
        "data.quiz.seed=3",
    ]


def test_folders_with_odd_names_are_searched(composed, project):
    folder = project.path / "it's mine, all of it"
    (folder / "experiment").mkdir(parents=True)
    chain = project.path / "conf" / "experiment" / "chain.yaml"
    (folder / "experiment" / "odd.yaml").write_text(chain.read_text().replace("name: chain", "name: odd"))
    assert config.load(["experiment=odd"], [str(folder)]).experiment.name == "odd"
    assert config_folders([str(folder)]) == [folder, project.path / "conf"]


def test_the_last_override_of_a_group_counts():
    assert named("budget", ["budget=cpu", "+budget=gpu"]) == "gpu"
    assert named("budget", ["budgets=cpu"]) is None


def test_a_budget_may_come_from_the_experiment_that_an_experiment_builds_on(composed, project):
    (project.path / "conf" / "budget").mkdir()
    (project.path / "conf" / "budget" / "tiny.yaml").write_text("# @package _global_\ndescription: tiny\n")
    chain = project.path / "conf" / "experiment" / "chain.yaml"
    chain.write_text(chain.read_text().replace("budget: none", "budget: tiny"))
    (chain.parent / "more.yaml").write_text("# @package _global_\ndefaults: [chain, _self_]\nname: more\n")
    loaded = config.load(["experiment=more"])
    assert loaded.experiment.budget == "tiny" and loaded.experiment.description == "tiny"
    assert "this experiment's own" in loaded.chosen[0]


@pytest.mark.parametrize("given", [[], ["budget=tiny"]])
def test_a_budget_that_an_experiment_has_for_itself_comes_first(composed, project, given):
    """Also for what builds on that experiment; a budget made for one experiment never speaks to another."""
    budgets, experiments = project.path / "conf" / "budget", project.path / "conf" / "experiment"
    budgets.mkdir()
    for name in ("tiny", "chain_tiny"):
        (budgets / f"{name}.yaml").write_text(f"# @package _global_\ndescription: {name}\n")
    chain = (experiments / "chain.yaml").read_text().replace("budget: none", "budget: tiny")
    (experiments / "chain.yaml").write_text(chain)
    (experiments / "more.yaml").write_text("# @package _global_\ndefaults: [chain, _self_]\nname: more\n")
    (experiments / "other.yaml").write_text(chain.replace("name: chain", "name: other"))
    for experiment, budget in (("chain", "chain_tiny"), ("more", "chain_tiny"), ("other", "tiny")):
        loaded = config.load([f"experiment={experiment}", *given])
        assert loaded.experiment.description == budget and f"budget={budget}" in loaded.overrides


@pytest.mark.parametrize(
    ("sizes", "cuda", "bfloat16", "expected"),
    [({"chain_cpu", "chain_cpu_float32"}, False, False, "chain_cpu_float32"),
     ({"chain_cpu", "chain_cpu_float32"}, False, True, "chain_cpu"),
     ({"chain_cpu"}, False, False, "chain_cpu"),
     ({"chain_cpu", "chain_cpu_float32", "gpu"}, True, False, "gpu")],
)  # fmt: skip
def test_a_processor_without_bfloat16_takes_smaller_sizes_where_there_are_any(
    composed, project, monkeypatch, sizes, cuda, bfloat16, expected
):
    monkeypatch.setattr(search, "has_cuda", lambda: cuda)
    monkeypatch.setattr(search, "has_bfloat16", lambda: bfloat16)
    (budgets := project.path / "conf" / "budget").mkdir()
    for name in sizes:
        (budgets / f"{name}.yaml").write_text(f"# @package _global_\ndescription: {name}\n")
    chain = project.path / "conf" / "experiment" / "chain.yaml"
    chain.write_text(chain.read_text().replace("budget: none\n", ""))
    loaded = config.load(["experiment=chain"])
    assert f"budget={expected}" in loaded.overrides and loaded.chosen[0].startswith(f"budget={expected} (")


@pytest.mark.parametrize(
    ("dtype", "cuda", "bfloat16", "expected"),
    [("auto", False, True, "bfloat16"), ("auto", False, False, "float32"), ("auto", True, False, "bfloat16"),
     ("float16", False, True, "float16")],
)  # fmt: skip
def test_dtype_auto_becomes_what_the_machine_is_fast_at(
    composed, project, monkeypatch, dtype, cuda, bfloat16, expected
):
    monkeypatch.setattr(search, "has_cuda", lambda: cuda)
    monkeypatch.setattr(search, "has_bfloat16", lambda: bfloat16)
    loaded = config.load(["experiment=chain", f"model.dtype={dtype}"])
    assert loaded.experiment.model.dtype == expected
    said = [sentence for sentence in loaded.chosen if sentence.startswith(f"model.dtype={expected} (")]
    assert bool(said) is (dtype == "auto")


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"stages": {"a": {"train": {"_target_": "os.system"}}}}, r"stages\.a\.train"),
        ({"stages": {"a": [{"b": "${now:%H}"}]}}, r"stages\.a\[0\]\.b"),
        ({"model": {"source": "${ oc.env:HOME}"}}, r"model\.source"),
        ({"data": {"x": {"files": ["${hydra:job.num}"]}}}, r"data\.x\.files\[0\]"),
        ({"store": {"_target_": "x"}}, "store"),
    ],
)
def test_code_and_what_changes_from_run_to_run_is_refused(value, where):
    with pytest.raises(ConfigError, match=where):
        compose.refuse_code(value)


def test_the_store_may_come_from_the_environment():
    compose.refuse_code({"store": {"root": "${oc.env:JOURNEYMAN_STORE}"}, "tracker": {"project": "${oc.env:TEAM}"}})


def test_a_required_value_that_is_missing_is_named(toys):
    from pipeline.schema import Gate

    with pytest.raises(ConfigError, match=r"gates\.g\.rule: a value is required"):
        typed("gates.g", Gate, {"stage": "first", "suite": "quiz"})


# -- the contract -------------------------------------------------------------------------------------------------
def test_the_shipped_contract_is_what_the_code_takes_by_itself():
    from stages.data.contract.config import DEFAULT_LEVELS, ContractConfig

    folder = Path(importlib.import_module("conf").__path__[0]) / "contract"
    shipped = yaml.safe_load((folder / "default.yaml").read_text())
    assert shipped["levels"] == DEFAULT_LEVELS
    assert typed("contract", ContractConfig, {**shipped, "levels": {}}) == ContractConfig()
    strict = yaml.safe_load((folder / "strict.yaml").read_text())["levels"]
    assert strict == {code: "error" for code, level in DEFAULT_LEVELS.items() if level == "warning"}
