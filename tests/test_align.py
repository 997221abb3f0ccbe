"""`align`: one word that brings a stage with all it needs, in the shipped experiments and in one's own."""

import pytest

from pipeline.config.load import load
from pipeline.errors import ConfigError
from pipeline.graph import make_nodes

WORDS = {"dpo": ["dpo"], "kto": ["kto"], **{name: ["reward", name] for name in ("ppo", "grpo", "rloo")}}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing is remembered, and only the shipped configuration is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))


def experiment(*words):
    return load([*words, "tracker=none"]).experiment


@pytest.mark.parametrize("name", ["legal", "smoke"])
@pytest.mark.parametrize("word", WORDS)
def test_every_word_composes_with_the_shipped_experiments(name, word):
    """The stages it needs, under the names of their kinds, with data, checked and judged by the gates."""
    found = experiment(f"experiment={name}", f"align={word}")
    assert list(found.stages) == ["sft", "domain", *WORDS[word]] and found.align == word
    nodes = make_nodes(found)
    for stage in WORDS[word]:
        assert nodes[stage].kind.name == stage and nodes[stage].data["train"] in nodes
        assert nodes[stage].inputs["policy"] == "domain" and f"check_{stage}" in nodes
    if "reward" in WORDS[word]:
        assert nodes[word].inputs["reward"] == "reward"
    assert {gate.stage for gate in found.gates.values()} == {"sft", "domain", word}
    for stage in WORDS[word]:
        nodes[stage].kind.stage().validate(nodes[stage].config)


@pytest.mark.parametrize("word", ["ppo", "grpo", "rloo"])
def test_reinforcement_by_every_word_is_judged_beside_dpo(word):
    found = experiment("experiment=legal_rlhf", f"align={word}")
    assert found.stages.keys() == {"sft", "domain", "dpo", "reward", word}
    assert found.stages[word].reward["weights"] == {"right": 2.0, "helpful": 0.1}
    assert found.gates["reinforcement_improves"].stage == word and found.gates["preference_improves"].stage == "dpo"
    make_nodes(found)


def test_a_stage_that_the_experiment_and_the_word_bring_is_told():
    with pytest.raises(ConfigError, match=r"stages\.dpo: both `align` and the experiment itself bring this stage"):
        experiment("experiment=legal_rlhf", "align=dpo")


@pytest.mark.parametrize("name", ["legal", "smoke"])
def test_without_a_word_it_is_dpo_and_all_share_what_comes_before(name):
    plain = make_nodes(experiment(f"experiment={name}"))
    ids = {word: make_nodes(experiment(f"experiment={name}", f"align={word}")) for word in WORDS}
    assert {key: node.id for key, node in plain.items()} == {key: node.id for key, node in ids["dpo"].items()}
    for stage in ("base", "sft", "domain", "eval_domain"):
        assert len({nodes[stage].id for nodes in ids.values()}) == 1, stage


def test_keys_of_the_chosen_stage_are_set_as_ever():
    found = experiment("experiment=smoke", "align=kto", "stages.kto.train.desirable_weight=2.0")
    assert found.stages["kto"].train["desirable_weight"] == 2.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["align=orpo"], r"unknown align 'orpo'.*known: dpo, grpo, kto, ppo, rloo"),
        (["align=kto", "stages.dpo.data.train=smoke_text"], r"stages\.dpo\.data\.train=.*align=kto has no such stage"),
        (["align=kto", "stages.dpo.train.beta=0.2"], r"stages\.dpo\.train"),
    ],
)
def test_what_does_not_fit_is_told(words, message):
    with pytest.raises(ConfigError, match=message):
        experiment("experiment=smoke", *words)


def own(tmp_path, text):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")


def test_an_experiment_builds_on_another_with_another_word(tmp_path):
    own(tmp_path, "defaults: [smoke, {override /align: rloo}, _self_]\nname: mine\nstages: {rloo: {batch_size: 6}}\n")
    found = experiment("experiment=mine", "budget=smoke")
    assert found.stages.keys() == {"sft", "domain", "reward", "rloo"}
    assert {gate.stage for gate in found.gates.values()} == {"sft", "domain", "rloo"}


def test_a_comparison_has_several(tmp_path):
    """What an experiment itself brings stays beside what `align` brings."""
    own(tmp_path, "defaults: [smoke, /stage@stages.kto: kto, _self_]\nname: mine\n".replace(
        "/stage@stages.kto: kto", "{/stage@stages.kto: kto}"))  # fmt: skip
    assert experiment("experiment=mine", "budget=smoke").stages.keys() == {"sft", "domain", "dpo", "kto"}


def test_a_stage_that_comes_too_late_for_the_values_below_it_is_told(tmp_path):
    """OmegaConf merges no types between two mappings of values."""
    text = "name: mine\nstages: {kto: {data: {train: smoke_pairs}}}\n"
    late = "defaults: [smoke, {/stage@stages.kto: kto}, _self_]\n"
    own(tmp_path, late + text)
    with pytest.raises(ConfigError, match=r"put `/stage@stages\.kto: KIND` before it in the defaults, or .*override"):
        experiment("experiment=mine", "budget=none")
    early = late.replace("smoke, {/stage@stages.kto: kto}", "{/stage@stages.kto: kto}, smoke")
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{early}{text}")
    assert "kto" in experiment("experiment=mine", "budget=none").stages


def test_the_word_as_a_value_alone_is_refused(tmp_path):
    own(tmp_path, "defaults: [{override /model: toy}, _self_]\nname: mine\nalign: dpo\n")
    with pytest.raises(ConfigError, match=r"align: dpo brings no stage; .*override /align: NAME"):
        experiment("experiment=mine", "budget=none")


def test_stages_of_no_alignment_are_not_touched(tmp_path):
    """A stage without a kind is a mistake, as it always was."""
    own(tmp_path, "defaults: [smoke, _self_]\nname: mine\nstages: {extra: {seed: 3}}\n")
    with pytest.raises(ConfigError, match=r"stages\.extra: `kind` is missing"):
        experiment("experiment=mine", "budget=smoke")
