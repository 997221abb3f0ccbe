"""Reward models on the policy's own base: each member of an ensemble is a role of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.context import Artifact
from stages.models.roles import Roles
from stages.rewards.combined import Row, ScoreFn
from stages.rewards.model import Member, raw_scores, read_members

if TYPE_CHECKING:
    from torch import Tensor


def seat(roles: Roles, name: str, artifact: Artifact) -> list[tuple[str, Member]]:
    """The members of the reward model `artifact`, each with the role that it now has; `name`: the role of its chain."""
    seated = []
    for number, member in enumerate(read_members(artifact)):
        role = f"{name}_{number}"
        roles.add_frozen(role, member.layers)
        roles.adapters[role] = (*roles.adapters[name], role)
        seated.append((role, member))
    return seated


def ensemble_scores(roles: Roles, seated: list[tuple[str, Member]], sequences: list[list[int]]) -> "Tensor":
    """Rewards (members, N) of sequences that hold prompt and answer."""
    import torch

    found = []
    for role, member in seated:
        with roles.playing(role):
            found.append(member.reward(raw_scores(roles.policy.model.base_model, member.weight, sequences)))
    return torch.stack(found)


def score_functions(roles: Roles, models: Mapping[str, str], judges: Mapping[str, Artifact]) -> dict[str, ScoreFn]:
    """Term -> its score function, the mean over the ensemble. `models`: term -> input role of its reward model."""
    seated = {role: seat(roles, role, judges[role]) for role in sorted(set(models.values()))}

    def function(role: str) -> ScoreFn:
        def score(rows: list[Row], prompts: list[list[int]], answers: list[list[int]]) -> "Tensor":
            sequences = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
            return ensemble_scores(roles, seated[role], sequences).mean(dim=0)

        return score

    return {term: function(role) for term, role in models.items()}
