"""Reward models as they judge a policy's answers.

On the policy's own base each member of an ensemble is a role of it. A model on another base is loaded beside it where
that is asked for: it never sees the policy's token ids, but the text, rendered by its own template.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError
from stages.models.adapters import peft_config
from stages.models.chain import Chain, Policy, load_policy, resolve_device
from stages.models.chat import answer_ids, encode, prompt_ids
from stages.models.roles import Roles, open_roles
from stages.rewards.combined import Plan, Reward, Row, ScoreFn, read
from stages.rewards.model import Member, raw_scores, read_members
from stages.rewards.model import score as score_alone
from stages.rl.config import NO_JUDGES
from stages.training import probes, several

if TYPE_CHECKING:
    from torch import Tensor


def seat(roles: Roles, name: str, artifact: Artifact) -> list[tuple[str, Member]]:
    """The members of the reward model `artifact`, each with the role that it now has; `name`: the role of its chain."""
    seated = []
    for number, member in enumerate(read_members(artifact)):
        role, adapter = f"{name}/{number}", f"{name}_{number}"  # no input of a stage is called like the one
        roles.add_frozen(adapter, member.layers)
        roles.adapters[role] = (*roles.adapters[name], adapter)
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


def as_judged(answers: Sequence[list[int]], ended: Sequence[bool], eos: int) -> list[list[int]]:
    """The answers as reward models were trained on them: with EOS where one ended, whichever token ended it."""
    return [[*ids[:-1], eos] if end else ids for ids, end in zip(answers, ended, strict=True)]


def judges_of(ctx: Context) -> dict[str, Artifact]:
    """Role -> reward model, of a stage's inputs."""
    return {role: source for role, source in ctx.inputs.items() if role not in NO_JUDGES}


def open_shared(ctx: Context, rewards: Mapping[str, Plan]) -> Roles:
    """The input policy with its new adapter, and the reward models on its base; the template is the recorded one.

    `rewards`: key of the config -> the reward that it describes. ConfigError for a reward model on another base.
    """
    from transformers import set_seed

    config, runtime = ctx.config, ctx.config.runtime
    several.begin(ctx)
    for where, plan in rewards.items():
        _refuse_foreign(ctx, plan, where)
    set_seed(config.seed)  # the new adapter's weights
    own = {role: judge for role, judge in judges_of(ctx).items() if _base(judge) == _base(ctx.inputs["policy"])}
    roles = open_roles(
        ctx.inputs["policy"], own, ctx.lineage, peft_config(config.peft), device=resolve_device(runtime.device),
        method=config.peft.method, cache=ctx.cache, dequant_cache_gib=runtime.dequant_cache_gib,
    )  # fmt: skip
    probes.require(ctx, [probes.template_equals_upstream(roles.policy)])
    return roles


def read_reward(ctx: Context, roles: Roles, mapping: Mapping[str, Any], rows: list[Row]) -> Reward:
    """The reward that `mapping` describes; DataError for a row whose answers it cannot score."""
    models = score_functions(roles, read(mapping).models, judges_of(ctx), ctx.lineage)
    if ctx.processes > 1:
        models = {term: _over_ranks(score) for term, score in models.items()}
    reward = Reward(mapping, models)
    reward.check_rows(rows)
    return reward


def _over_ranks(score: ScoreFn) -> ScoreFn:
    """The scores of a model of which each rank finds some."""
    import torch

    def found(items: Sequence[tuple]) -> list[float]:
        return score(*map(list, zip(*items, strict=True))).tolist() if items else []

    return lambda *columns: torch.tensor(several.dealt(list(zip(*columns, strict=True)), found))


def _base(artifact: Artifact) -> str:
    return Chain.read(artifact).base["artifact"]


def _refuse_foreign(ctx: Context, plan: Plan, where: str) -> None:
    policy, judges = ctx.inputs["policy"], judges_of(ctx)
    for term, role in plan.models.items():
        if _base(judges[role]) == _base(policy):
            continue
        own, other = Chain.read(policy), Chain.read(judges[role])
        same = (other.tokenizer_digest, other.template_digest) == (own.tokenizer_digest, own.template_digest)
        what = "base" if same else "base, with another tokenizer or chat template"
        if plan.settings.rerender:
            ctx.log(f"{where}.terms.{term}: a second base is in memory, for {judges[role].stage} on another {what}")
            continue
        meaning = "" if same else ", so the policy's token ids would mean other words to it"
        raise ConfigError(
            f"{where}.terms.{term}: the reward model {judges[role].stage} is made from another {what} "
            f"({other.base['source']}) than the policy ({own.base['source']}){meaning}. Set {where}.rerender=true: its "
            "base is then loaded beside the policy's, and it reads the answers as text through its own template"
        )


def score_functions(
    roles: Roles, models: Mapping[str, str], judges: Mapping[str, Artifact], lineage: Mapping[str, Artifact]
) -> dict[str, ScoreFn]:
    """Term -> its score function, the mean over the ensemble. `models`: term -> input role of its reward model."""
    made = {}
    for role in sorted(set(models.values())):
        shares = role in roles.adapters
        made[role] = _seated(roles, role, judges[role]) if shares else _apart(roles.policy, judges[role], lineage)
    return {term: made[role] for term, role in models.items()}


def _seated(roles: Roles, role: str, judge: Artifact) -> ScoreFn:
    members = seat(roles, role, judge)

    def score(rows: list[Row], prompts: list[list[int]], answers: list[list[int]]) -> "Tensor":
        sequences = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        return ensemble_scores(roles, members, sequences).mean(dim=0)

    return score


def _apart(policy: Policy, judge: Artifact, lineage: Mapping[str, Artifact]) -> ScoreFn:
    import torch

    model, members = load_policy(judge, dict(lineage), device=policy.device), read_members(judge)

    def rendered(row: Row, answer: list[int]) -> list[int]:
        ended = bool(answer) and answer[-1] == policy.tokenizer.eos_token_id
        text = policy.tokenizer.decode(answer, skip_special_tokens=True)
        own = answer_ids(model.tokenizer, text) if ended else encode(model.tokenizer, text)
        return prompt_ids(model.tokenizer, row["prompt"]) + own

    def score(rows: list[Row], prompts: list[list[int]], answers: list[list[int]]) -> "Tensor":
        sequences = [rendered(row, answer) for row, answer in zip(rows, answers, strict=True)]
        raw = score_alone(model, members, sequences)
        return torch.stack([member.reward(each) for member, each in zip(members, raw, strict=True)]).mean(dim=0)

    return score
