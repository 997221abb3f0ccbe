"""Rounds of reinforcement learning from fresh preferences (Bai et al. 2022, arXiv 2204.05862, section 4.5).

    ppo_round1 -> ppo_labels1 -> reward_round2 -> ppo_round2 -> ppo_labels2 -> reward_round3 -> ppo

Each is a stage with an artifact of its own: a later change of the last round builds the last round alone. The policy of
a round continues that of the round before, which is its reference; reward models begin anew on all labels so far.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.schema import StageConfig
from pipeline.typed import stage_config
from stages.rewards import combined

if TYPE_CHECKING:
    from stages.ppo import PpoConfig

Stages = dict[str, StageConfig]
FRESH = "round"  # data roles of a reward model that hold the labels of a round


def written_out(name: str, config: "PpoConfig", stages: Mapping[str, StageConfig]) -> Stages:
    """The stages of all rounds; the last one is called `name`. ConfigError for rounds that cannot be made."""
    if config.rounds == 1:
        return {name: config}
    if config.rounds < 1:
        raise ConfigError(f"stages.{name}.rounds={config.rounds}: at least 1")
    found: Stages = {}
    labels: dict[str, str] = {}  # data role -> the stage whose labels it holds
    policy = config.inputs.get("policy", "")
    for number in range(1, config.rounds + 1):
        judges = {} if number == 1 else _judges(name, config, stages, labels, number)
        found.update({_numbered(config.inputs[role], number): judge for role, judge in judges.items()})
        inputs = {**config.inputs, "policy": policy, **{r: _numbered(config.inputs[r], number) for r in judges}}
        made = name if number == config.rounds else f"{name}_{FRESH}{number}"
        found[made] = replace(copy.deepcopy(config), rounds=1, labels={}, inputs=inputs, seed=config.seed + number - 1)
        if number < config.rounds:
            labels[f"{FRESH}{number}"] = f"{name}_labels{number}"
            found[f"{name}_labels{number}"] = _labelling(name, config, made, number)
        policy = made
    return found


def _judges(
    name: str, config: "PpoConfig", stages: Mapping[str, StageConfig], labels: dict[str, str], number: int
) -> Stages:
    """Input role -> the reward model of this round, for every one that `reward` reads and this experiment trains."""
    roles = set(combined.read(config.reward).models.values())
    trained = {role: stages[config.inputs[role]] for role in sorted(roles) if config.inputs.get(role) in stages}
    if not trained:
        raise ConfigError(
            f"stages.{name}.rounds={config.rounds}: fresh labels are for a reward model, and `reward` reads none that "
            "this experiment trains; add a term of kind model, or set rounds to 1"
        )
    return {
        role: replace(copy.deepcopy(judge), data={**judge.data, **labels}, seed=judge.seed + number - 1)
        for role, judge in trained.items()
    }


def _numbered(stage: str, number: int) -> str:
    return f"{stage}_{FRESH}{number}"


def _labelling(name: str, config: "PpoConfig", policy: str, number: int) -> StageConfig:
    """What `labels` says; without a labeller of its own the terms of `gold` are it."""
    said: dict[str, Any] = dict(config.labels)
    if said.get("by", "terms") == "terms" and "terms" not in said:
        said["terms"] = config.gold.get("terms", {})
    if "file" in said:
        said["file"] = str(said["file"]).replace("{round}", str(number))
    fixed = {
        "kind": "label", "inputs": {"policy": policy}, "data": dict(config.data), "seed": config.seed + number,
        "max_length": config.max_length,
    }  # fmt: skip
    rollout = {"max_new_tokens": config.rollout.max_new_tokens, "samples": 2, **said.pop("rollout", {})}
    return stage_config(f"stages.{name}.labels", {**said, "rollout": rollout, **fixed})
