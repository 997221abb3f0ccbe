"""Rounds of reinforcement learning from fresh preferences (Bai et al. 2022, arXiv 2204.05862, section 4.5).

    ppo_round1 -> ppo_labels1 -> reward_round2 -> ppo_round2 -> ppo_labels2 -> reward_round3 -> ppo

Each is a stage with an artifact of its own: a later change of the last round builds the last round alone. The policy of
a round continues that of the round before, which is its reference; reward models begin anew on all labels so far.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from pipeline.config.typed import stage_config
from pipeline.errors import ConfigError
from pipeline.schema import StageConfig
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
    """What `labels` says; without a labeller of its own the terms of `gold` are it, with their weights.

    The answers are those that the policy writes in its stage: to the same prompts, sampled in the same way.
    """
    where, said = f"stages.{name}.labels", dict(config.labels)
    if taken := {"kind", "inputs"} & said.keys():
        raise ConfigError(f"{where}.{min(taken)}: it follows from the rounds; take it out")
    if said.get("by", "terms") == "terms" and "terms" not in said:
        said = {**{key: config.gold[key] for key in ("terms", "weights") if key in config.gold}, **said}
        if "terms" not in said:
            raise ConfigError(
                f"{where}: nobody labels; give `gold`, `labels: {{terms: ...}}` or `labels: {{by: file, file: ...}}`"
            )
    if "file" in said:
        said["file"] = _file_of(where, str(said["file"]), number, config.rounds)
    rollout = said.pop("rollout", {})
    if not isinstance(rollout, Mapping):
        raise ConfigError(f"{where}.rollout={rollout!r}: expected a mapping, as that of the stage itself")
    usual = {
        "data": {role: data for role, data in config.data.items() if role == "train"}, "seed": config.seed + number,
        "max_length": config.max_length, "engine": config.engine,
        "runtime": {key: getattr(config.runtime, key) for key in ("device", "threads", "dequant_cache_gib")},
    }  # fmt: skip
    answers = {**asdict(config.rollout), "samples": 2, **rollout}
    fixed = {"kind": "label", "inputs": {"policy": policy}, "rollout": answers}
    return stage_config(where, {**usual, **said, **fixed})


def _file_of(where: str, file: str, number: int, rounds: int) -> str:
    """The file of one round. Labels are part of what is made from them, so later ones must not be added to them."""
    if rounds > 2 and "{round}" not in file:
        raise ConfigError(f"{where}.file={file}: each round has a file of its own; write {{round}} where its number is")
    return file.replace("{round}", str(number))
