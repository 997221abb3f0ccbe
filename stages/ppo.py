"""`ppo`: reinforcement learning from a reward, against the input policy (Ouyang et al. 2022, arXiv 2203.02155)."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError, DataError
from pipeline.registry import Stage, register
from pipeline.schema import LATER, NOT_IDENTITY, PeftConfig, StageConfig
from stages.data import artifact
from stages.kernels import step
from stages.models.adapters import peft_config
from stages.models.chat import prompt_ids
from stages.rewards import combined
from stages.rl.config import NO_JUDGES, PpoTrain, Rollouts, ValueFunction, check_roles, check_train
from stages.rl.guards import Guards
from stages.training import run, several
from stages.training.config import asked, check_data

if TYPE_CHECKING:
    from stages.models.roles import Roles
    from stages.rl.ppo import Ppo as Learner

STEPS = ("fast", "plain")
SHOWN = 2  # sampled answers of an update that the report may show


@dataclass
class PpoConfig(StageConfig):
    """`inputs` has `policy` and, for each reward model, the role that a term of `reward` or `gold` names."""

    peft: PeftConfig = field(default_factory=PeftConfig)
    max_length: int = 512  # tokens of a prompt and its answer; longer prompts are left out and counted
    batch_size: int = 8  # answers in one optimizer step; an update has train.minibatches times as many
    step: str = "fast"  # fast | plain: Journeyman's own training step, or plain PyTorch; the mathematics is the same
    reward: Dict[str, Any] = field(default_factory=dict)  # terms and weights, see docs/rewards.md
    gold: Dict[str, Any] = field(default_factory=dict)  # the same form; measured on every update beside the reward
    rollout: Rollouts = field(default_factory=Rollouts)
    engine: str = field(default="own", metadata=LATER)  # own | vllm: what writes the answers, see docs/ppo.md#vllm
    value: ValueFunction = field(default_factory=ValueFunction)
    train: PpoTrain = field(default_factory=PpoTrain)
    rounds: int = 1  # above 1: between two rounds fresh labels, and the reward models trained again, see docs/ppo.md
    labels: Dict[str, Any] = field(default_factory=dict)  # who labels between rounds: fields of the kind `label`
    guards: Guards = field(default_factory=Guards, metadata=NOT_IDENTITY)
    contract: Dict[str, Any] = field(default_factory=dict, metadata=NOT_IDENTITY)


@register("ppo", config=PpoConfig)
class Ppo(Stage):
    """One base in four roles: policy, reference (the newest adapter off), value function and reward models."""

    version = 1
    consumes = {"policy": "model"}
    parallel = True

    def fingerprints(self, config: PpoConfig) -> dict[str, str]:
        return combined.fingerprints(config.reward, config.gold)

    def needs(self, config: PpoConfig) -> dict[str, str]:
        return {**self.consumes, **{role: "reward" for role in config.inputs if role not in NO_JUDGES}}

    def expand(self, name: str, config: PpoConfig, stages: Mapping[str, StageConfig]) -> dict[str, StageConfig]:
        from stages.rl.rounds import written_out

        return written_out(name, config, stages)

    def contract(self, config: PpoConfig) -> dict[str, Any]:
        return asked(config, "reward", "gold")

    def preview(self, config: PpoConfig, tokenizer: Any, sets: Mapping[str, Artifact]) -> dict[str, Any]:
        """Nothing to tell; DataError for a prompt that a rule cannot score answers to, before anything is trained."""
        for mapping in filter(None, (config.reward, config.gold)):
            combined.check_rows(combined.read(mapping), artifact.stream(sets["train"]))
        return {}

    def validate(self, config: PpoConfig) -> None:
        check_data(config, "prompts to answer", others=[role for role in config.data if role != "train"])
        _check(config)
        peft_config(config.peft)

    def run(self, ctx: Context) -> dict[str, float]:
        from stages.rl import resume
        from stages.rl.ppo import updates

        learner = _learner(ctx)
        newest = run.newest_checkpoint(ctx.ckpt)
        start = resume.load(learner, newest) if newest else 0
        if newest:
            ctx.log(f"resuming from update {start}")
        total = updates(ctx.config, len(learner.prompts))
        _train(ctx, learner, start, total)
        run.publish_adapter(ctx, learner.actor.roles.policy, learner.actor.roles.model)
        ctx.record("training", {**ctx.sections["training"], "start_step": start, "end_step": total, "max_steps": total})
        return _outcome(ctx, learner)


# -- what cannot work ---------------------------------------------------------------------------------------------
def _check(config: PpoConfig) -> None:
    check_train(config.train)
    if config.labels and config.rounds == 1:
        raise ConfigError("labels: with rounds=1 nothing is labelled; take it out, or set rounds to 2 or more")
    for name, value, least in (
        ("max_length", config.max_length, 2), ("batch_size", config.batch_size, 1),
        ("runtime.micro_batch", config.runtime.micro_batch, 0), ("runtime.save_steps", config.runtime.save_steps, 0),
        ("runtime.logging_steps", config.runtime.logging_steps, 1),
    ):  # fmt: skip
        if value < least:
            raise ConfigError(f"{name}={value}: at least {least}")
    several.check_division(config.batch_size, config.runtime)
    several.check_strategy(config.runtime, ("ddp",))
    _check_beside(config)
    step.check(config.step, STEPS, config.runtime)
    if config.peft.dropout:
        raise ConfigError("peft.dropout: PPO compares probabilities of one token before and after a step; set it to 0")
    answers = config.batch_size * config.train.minibatches
    if config.train.kl_target and config.train.kl_horizon < answers:
        raise ConfigError(
            f"train.kl_horizon={config.train.kl_horizon} is below the {answers} answers of an update (batch_size times "
            "train.minibatches), so that the coefficient could turn over within one; raise it"
        )
    if answers % config.rollout.samples:
        raise ConfigError(
            f"rollout.samples={config.rollout.samples} does not divide the {answers} answers of an update (batch_size "
            "times train.minibatches)"
        )
    _check_sampling(config)
    _check_rewards(config)
    config.guards.check()


def _check_beside(config: PpoConfig) -> None:
    """ConfigError where what stands beside the reward asks for what is not there."""
    rehearsed = [role for role in config.data if role != "train"]
    if config.train.rehearsal_coef and not rehearsed:
        raise ConfigError("train.rehearsal_coef: name what to rehearse, in a role of `data` beside train")
    if rehearsed and not config.train.rehearsal_coef:
        raise ConfigError(f"data.{rehearsed[0]}: it is rehearsed only with train.rehearsal_coef above 0")
    if config.train.baseline == "prompt" and config.rollout.samples < 2:
        raise ConfigError("train.baseline=prompt compares the answers to one prompt; set rollout.samples to 2 or more")


def _check_sampling(config: PpoConfig) -> None:
    from stages.kernels.rollout import Sampling
    from stages.kernels.vllm import check_engine

    asked = config.rollout
    check_engine(config.engine, config.runtime, config.peft.method)
    Sampling(asked.max_new_tokens, asked.temperature, asked.top_k, asked.top_p, asked.samples).check()
    if asked.temperature == 0:
        raise ConfigError("rollout.temperature=0: PPO learns from answers that differ; give a positive number")
    if asked.max_new_tokens >= config.max_length:
        raise ConfigError(
            f"rollout.max_new_tokens={asked.max_new_tokens} leaves no room for a prompt in max_length="
            f"{config.max_length}"
        )


def _check_rewards(config: PpoConfig) -> None:
    check_roles(config.inputs)
    combined.check(config.reward, config.inputs)
    if config.gold:
        combined.check(config.gold, config.inputs, "gold")
        combined.check_measured(config.gold, "gold")
    judges = [role for role in config.inputs if role not in NO_JUDGES]
    if config.value.init != "fresh" and config.value.init not in judges:
        known = ", ".join(["fresh", *judges])
        raise ConfigError(f"value.init={config.value.init}: use one of {known}")
    read = {role for mapping in (config.reward, config.gold) if mapping
            for role in combined.read(mapping).models.values()} | {config.value.init}  # fmt: skip
    if unread := [role for role in judges if role not in read]:
        raise ConfigError(f"inputs.{unread[0]}: no term of `reward` or `gold` reads this reward model")


# -- setting up ---------------------------------------------------------------------------------------------------
def _learner(ctx: Context) -> "Learner":
    import torch
    from transformers import get_scheduler

    from stages.rl import rehearsal
    from stages.rl.judges import read_reward
    from stages.rl.ppo import Ppo as Learner
    from stages.rl.ppo import updates

    config = ctx.config
    roles = _roles(ctx)
    rows, prompts = _prompts(ctx, roles)
    reward = read_reward(ctx, roles, config.reward, rows)
    gold = read_reward(ctx, roles, config.gold, rows) if config.gold else None
    actor = _actor(ctx, roles)
    optimizer = torch.optim.AdamW(_groups(actor, config.train), betas=(0.9, 0.95), eps=1e-5)
    schedule, warmup = config.train.lr_scheduler_type, config.train.warmup_steps
    named = "constant_with_warmup" if schedule == "constant" and warmup else schedule  # `constant` takes no warm-up
    scheduler = get_scheduler(named, optimizer, warmup, updates(config, len(prompts)))
    return Learner(
        actor, reward, gold, optimizer, scheduler, config, rows, prompts, _rows_at_once(ctx, roles),
        config.train.kl_coef, rehearsal.read(ctx, roles.policy.tokenizer),
    )  # fmt: skip


def _rows_at_once(ctx: Context, roles: "Roles") -> int:
    """Answers in one pass, said and recorded; the same when resumed. Activations are kept."""
    from stages.training import memory

    config, policy = ctx.config, roles.policy
    trained = sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    made = memory.plan(
        replace(memory.shape_of(policy.model, config.peft.r), trained=trained), tokens=config.max_length,
        batch=config.batch_size // ctx.processes, memory=several.memory(ctx, policy.device), device=policy.device,
        asked_rows=config.runtime.micro_batch, asked_checkpointing=False,
    )  # fmt: skip
    return run.settle(ctx, made).micro_batch


def _roles(ctx: Context) -> "Roles":
    """The shared model, whose new adapter must change nothing."""
    from stages.kernels.vllm import answered_by
    from stages.rl.judges import open_shared
    from stages.training import probes

    started = time.monotonic()
    rewards = {key: getattr(ctx.config, key) for key in ("reward", "gold")}
    roles = open_shared(ctx, {key: combined.read(mapping, key) for key, mapping in rewards.items() if mapping})
    answered_by(roles.policy, ctx.config.engine)
    with roles.playing("reference"):
        before = probes.next_token_logits(roles.policy.model, roles.policy.tokenizer)
    probes.require(ctx, [probes.starts_at_input(roles.policy.model, roles.policy.tokenizer, before)])
    ctx.record("timing", {"load_seconds": time.monotonic() - started})
    return roles


def _prompts(ctx: Context, roles: "Roles") -> tuple[list[dict], list[list[int]]]:
    """Rows and their prompts as token ids; those that leave no room for an answer are counted, not cut."""
    rows = run.prompts(ctx)
    room = ctx.config.max_length - ctx.config.rollout.max_new_tokens
    ids = [prompt_ids(roles.policy.tokenizer, row["prompt"]) for row in rows]
    kept = [i for i, prompt in enumerate(ids) if len(prompt) <= room]
    ctx.record("data", {
        "rows_kept": len(kept), "rows_rejected": len(rows) - len(kept), "rows_available": len(rows),
        "rejected_because": {"longer than max_length less rollout.max_new_tokens": len(rows) - len(kept)},
        "tokens": sum(len(ids[i]) for i in kept), "trained_tokens": 0,
    })  # fmt: skip
    if not kept:
        raise DataError(f"data.train: none of {len(rows)} prompts has at most {room} tokens; raise max_length")
    return [rows[i] for i in kept], [ids[i] for i in kept]


def _actor(ctx: Context, roles: "Roles") -> Any:
    """The policy with its value function, which may begin as a reward model, of an ensemble as its first member."""
    import torch

    from stages.rewards.model import read_members
    from stages.rl.actor import VALUE, Actor, ValueHead

    wanted, model = ctx.config.value, roles.policy.model
    if wanted.init not in ("fresh", *roles.adapters):
        raise ConfigError(f"value.init={wanted.init}: that reward model is on another base; use fresh")
    head = ValueHead(model.config.get_text_config().hidden_size, model.dtype, roles.policy.device)
    member = None if wanted.init == "fresh" else read_members(ctx.inputs[wanted.init])[0]
    if member is not None:
        with torch.no_grad():
            head.weight.copy_(member.weight[None] / member.scale)
            head.bias.fill_(-member.mean / member.scale)
    kernels = ctx.config.runtime.kernels
    taken = step.install(model, "fast", kernels) if ctx.config.step == "fast" else "plain (asked for)"
    taken = taken if ctx.config.step == "plain" or taken.startswith("fast") else f"plain {taken.partition(' ')[2]}"
    if wanted.adapter:
        roles.add_trained(VALUE, member and member.layers, peft_config(ctx.config.peft))
        below = roles.adapters[wanted.init if member else "reference"]
        roles.adapters[VALUE] = (*below, VALUE)
    ctx.log(f"training step: {taken}")
    ctx.record("training", {"step": taken})
    return Actor(roles, head, taken.startswith("fast"), ctx.config.rollout.temperature)


def _groups(actor: Any, train: PpoTrain) -> list[dict[str, Any]]:
    """The policy's adapter and the value function, each with its learning rate."""
    from stages.models.roles import of_adapter
    from stages.rl.actor import VALUE
    from stages.rl.ppo import trained_parameters

    policy, value = [], []
    for name, parameter in trained_parameters(actor):
        (value if name.startswith("value_head.") or of_adapter(name, VALUE) else policy).append(parameter)
    return [
        {"params": policy, "lr": train.learning_rate, "weight_decay": train.weight_decay},
        {"params": value, "lr": train.value_learning_rate, "weight_decay": 0.0},
    ]


# -- running ------------------------------------------------------------------------------------------------------
def _train(ctx: Context, learner: "Learner", start: int, total: int) -> None:
    from stages.rl import resume
    from stages.training.tracking import tracked

    every = ctx.config.runtime.save_steps or max(1, total // 10)
    samples = (ctx.out / "unread" if ctx.rank else ctx.ckpt) / "samples.jsonl"
    _forget_after(samples, start)
    if learner.history:
        _probe(ctx, learner.history[0])
    with tracked(ctx) as tracking, samples.open("a") as stream:
        for number in range(start, total):
            entry, answers, parts = learner.update(number)
            if number == 0:
                _probe(ctx, entry)
            for i in range(min(SHOWN, len(answers.ids))):
                stream.write(json.dumps(_sample(number, answers, parts, i)) + "\n")
            stream.flush()
            tracking.log({k: v for k, v in entry.items() if k != "update"}, number)
            if (number + 1) % ctx.config.runtime.logging_steps == 0 or number + 1 == total:
                ctx.log(_line(entry, total))
                ctx.progress(number + 1, total, reward=entry["reward"])
            if ctx.rank == 0 and ((number + 1) % every == 0 or number + 1 == total):
                resume.save(learner, ctx.ckpt, number + 1)
    (ctx.out / "samples.jsonl").write_bytes(samples.read_bytes())
    lines = (json.dumps(entry, sort_keys=True) + "\n" for entry in learner.history)
    (ctx.out / "history.jsonl").write_text("".join(lines))


def _forget_after(samples: Path, update: int) -> None:
    """Keep the samples of the updates that the checkpoint has seen; a torn last line belongs to a later one."""
    found = []
    for line in samples.read_text().splitlines(keepends=True) if samples.is_file() else []:
        try:
            if json.loads(line)["update"] < update:
                found.append(line)
        except ValueError:
            continue
    samples.parent.mkdir(parents=True, exist_ok=True)
    part = samples.with_suffix(".part")
    part.write_text("".join(found))
    part.replace(samples)  # whole or as before


def _sample(number: int, answers: Any, parts: Any, i: int) -> dict[str, Any]:
    shown = answers.rows[i]["prompt"][-1]["content"]
    return {"update": number, "prompt": shown, "answer": answers.texts[i], "reward": float(parts.total[i])}


def _line(entry: dict[str, float], total: int) -> str:
    gold = f" gold {entry['gold']:.3f}" if "gold" in entry else ""
    return (
        f"update {int(entry['update']) + 1}/{total} reward {entry['reward']:.3f}{gold} KL {entry['kl']:.3f} "
        f"entropy {entry['entropy']:.2f} length {entry['response_length']:.1f} EOS {entry['eos_share']:.0%}"
    )


def _probe(ctx: Context, entry: dict[str, float]) -> None:
    """The first update's samples come from the input policy itself: KL 0, and ratio 1 until the first step."""
    from stages.training.probes import Probe, require

    require(ctx, [
        Probe("kl_starts_at_0", entry["kl"] == 0.0, f"KL of the first answers {entry['kl']:.2e} nats",
              "The reference is not the input policy: another chain, or an adapter that does not start at zero"),
        Probe("ratio_starts_at_1", entry["first_ratio_error"] == 0.0,
              f"ratio of the first minibatch differs from 1 by {entry['first_ratio_error']:.2e}",
              "Scoring and training compute another probability of the same token: dropout, or another batch"),
    ])  # fmt: skip


def _outcome(ctx: Context, learner: "Learner") -> dict[str, float]:
    from stages.rl.guards import alarms

    found = alarms(learner.history, ctx.config.guards)
    if found:
        ctx.record("alarms", [asdict(alarm) for alarm in found])
        for alarm in found:
            ctx.log(f"alarm: {alarm.name}: {alarm.detail}")
    if learner.actor.roles.policy.engine is not None:
        learner.actor.roles.policy.engine.record(ctx)
    seconds = learner.seconds
    ctx.record("timing", {
        **ctx.sections["timing"], "train_seconds": sum(seconds.values()),
        **{f"{name}_seconds": value for name, value in seconds.items()},
    })  # fmt: skip
    tail = learner.history[-max(1, len(learner.history) // 4) :]
    shown = ("reward", "gold", "kl", "entropy", "response_length", "eos_share", "explained_variance", "clip_share")
    means = {key: sum(e[key] for e in tail) / len(tail) for key in shown if key in tail[0]}
    return {
        **means, "steps": float(len(learner.history)), "first_reward": learner.history[0]["reward"],
        "rollout_tokens_per_second": learner.sampled_tokens / max(1e-9, seconds["rollout"]),
    }  # fmt: skip
