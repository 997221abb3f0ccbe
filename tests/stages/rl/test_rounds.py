"""Rounds: one stage of an experiment stands for several, each an artifact of its own."""

import pytest

from pipeline.config.typed import typed_experiment
from pipeline.errors import ConfigError
from pipeline.registry import kind

RESOLVED = {
    "name": "rounds",
    "model": {"source": "toy"},
    "data": {
        "chats": {"files": ["chats.jsonl"]}, "pairs": {"files": ["pairs.jsonl"]}, "asked": {"files": ["asked.jsonl"]},
    },
    "stages": {
        "sft": {"kind": "sft", "inputs": {"policy": "base"}, "data": {"train": "chats"}},
        "reward": {"kind": "reward", "inputs": {"policy": "sft"}, "data": {"train": "pairs"}},
        "ppo": {
            "kind": "ppo", "inputs": {"policy": "sft", "reward": "reward"}, "data": {"train": "asked"}, "rounds": 3,
            "reward": {"terms": {"helpful": {"kind": "model"}}}, "gold": {"terms": {"right": {"kind": "checker"}}},
            "labels": {"count": 8},
        },
    },
}  # fmt: skip


def experiment(**changes):
    plain = {key: value for key, value in RESOLVED["stages"]["ppo"].items() if key not in changes or changes[key]}
    stages = {**RESOLVED["stages"], "ppo": {**plain, **{key: value for key, value in changes.items() if value}}}
    return typed_experiment({**RESOLVED, "stages": stages})


def test_three_rounds_are_eight_stages_in_a_chain():
    stages = experiment().stages
    assert list(stages) == [
        "sft", "reward", "ppo_round1", "ppo_labels1", "reward_round2", "ppo_round2", "ppo_labels2", "reward_round3",
        "ppo",
    ]  # fmt: skip
    assert [stages[name].inputs for name in ("ppo_round1", "ppo_round2", "ppo")] == [
        {"policy": "sft", "reward": "reward"},
        {"policy": "ppo_round1", "reward": "reward_round2"},
        {"policy": "ppo_round2", "reward": "reward_round3"},
    ]
    assert stages["reward_round3"].data == {"train": "pairs", "round1": "ppo_labels1", "round2": "ppo_labels2"}
    assert stages["reward_round3"].inputs == {"policy": "sft"}
    assert stages["ppo_labels2"].inputs == {"policy": "ppo_round2"} and stages["ppo_labels2"].count == 8
    assert stages["ppo_labels1"].terms == {"right": {"kind": "checker"}}  # gold labels, where nothing else is said
    assert len({stages[name].seed for name in ("ppo_round1", "ppo_round2", "ppo")}) == 3


def test_labels_are_of_answers_as_the_policy_writes_them():
    runtime, rollout = {"device": "cpu", "threads": 3, "save_steps": 7}, {"max_new_tokens": 9, "temperature": 0.6}
    made = experiment(runtime=runtime, rollout=rollout).stages["ppo_labels1"]
    assert (made.rollout.max_new_tokens, made.rollout.temperature, made.rollout.samples) == (9, 0.6, 2)
    assert (made.runtime.device, made.runtime.threads) == ("cpu", 3)
    kind("label").stage().validate(made)


def test_what_labels_says_counts():
    gold = {"terms": {"right": {"kind": "checker"}, "short": {"kind": "length", "target": 3}}, "weights": {"short": 0}}
    assert experiment(gold=gold).stages["ppo_labels2"].weights == {"short": 0}
    own = {"by": "file", "file": "round{round}.jsonl", "data": {"train": "chats"}, "rollout": {"samples": 4}}
    made = experiment(labels=own).stages["ppo_labels2"]
    assert (made.file, made.data, made.rollout.samples, made.terms) == ("round2.jsonl", {"train": "chats"}, 4, {})


def test_what_is_rehearsed_is_not_labelled():
    stages = experiment(data={"train": "asked", "general": "chats"}, train={"rehearsal_coef": 0.5}).stages
    assert stages["ppo_round2"].data == {"train": "asked", "general": "chats"}
    assert stages["ppo_labels1"].data == {"train": "asked"}
    kind("label").stage().validate(stages["ppo_labels1"])


def test_one_round_is_the_stage_itself():
    stages = experiment(rounds=1, labels=None).stages
    assert list(stages) == ["sft", "reward", "ppo"]


def test_the_first_round_is_shared_with_an_experiment_of_more(tmp_path, monkeypatch):
    """The ids of a first round do not know how many follow."""
    from pipeline.graph import make_nodes

    monkeypatch.chdir(tmp_path)
    for name in ("chats", "pairs", "asked"):
        (tmp_path / f"{name}.jsonl").write_text('{"id": "a"}\n')
    two, three = (make_nodes(experiment(rounds=count)) for count in (2, 3))
    for name in ("ppo_round1", "ppo_labels1", "reward_round2"):
        assert two[name].id == three[name].id
    assert two["ppo"].id != three["ppo"].id
    assert "check_reward_round2" in two and two["check_reward_round2"].data["round1"] == "ppo_labels1"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rounds": -1}, "stages.ppo.rounds=-1: at least 1"),
        ({"reward": {"terms": {"short": {"kind": "length", "target": 3}}}}, "`reward` reads none that this experiment"),
        ({"labels": {"rollout": 5}}, "stages.ppo.labels.rollout=5: expected a mapping"),
        ({"labels": {"cuont": 3}}, "stages.ppo.labels.cuont: unknown key .did you mean 'count'"),
        ({"labels": {"inputs": {"policy": "sft"}}}, "stages.ppo.labels.inputs: it follows from the rounds"),
        ({"gold": None}, "stages.ppo.labels: nobody labels; give `gold`"),
        ({"labels": {"by": "file", "file": "labels.jsonl"}}, "labels.file=labels.jsonl: each round has a file of its"),
    ],
)
def test_rounds_that_cannot_be_made_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        experiment(**changes)


def test_labels_of_a_single_round_would_not_be_read():
    stages = experiment(rounds=1).stages
    with pytest.raises(ConfigError, match="labels: with rounds=1 nothing is labelled"):
        kind("ppo").stage().validate(stages["ppo"])


def test_a_name_that_a_round_needs_is_not_free():
    stages = {**RESOLVED["stages"], "reward_round2": RESOLVED["stages"]["sft"]}
    with pytest.raises(ConfigError, match=r"stages.reward_round2: the stage ppo makes one of this name; rename yours"):
        typed_experiment({**RESOLVED, "stages": stages})
