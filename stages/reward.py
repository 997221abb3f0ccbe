"""`reward`: a reward model on the input policy, by Bradley-Terry on pairs of answers (Ouyang et al. 2022, 2203.02155).

TRL's RewardTrainer trains an adapter on the input policy's chain and a score head; with `ensemble` above 1 several, one
after another on the one base. `stages.rewards.model` says what is published and how it is read.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError, DataError, StageFailed
from pipeline.registry import Stage, register
from stages.data import artifact
from stages.data.shares import LATER
from stages.models.adapters import peft_config
from stages.models.chain import Policy, file_digest
from stages.models.chat import IGNORE, Example, answer_ids, prompt_ids
from stages.rewards import normalise, votes
from stages.rewards.model import HEAD, Member, raw_scores, read_members
from stages.rewards.normalise import Normalise
from stages.rewards.pairs import Comparison, Judged, comparisons, judged
from stages.rewards.votes import Votes
from stages.rl.rounds import FRESH
from stages.training import arguments, probes, run, several
from stages.training.config import TrainConfig, asked, check_data
from stages.training.memory import Plan

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from trl import RewardTrainer

    from stages.rewards.heldout import Scores


@dataclass
class RewardConfig(TrainConfig):
    max_pairs: int = 0  # pairs of one epoch, drawn at random under the seed; 0 = all
    ensemble: int = 1  # members: adapters with heads, whose spread says how unsure the reward is
    votes: Votes = field(default_factory=Votes, metadata=LATER)
    normalise: Normalise = field(default_factory=Normalise)


@dataclass
class Pair:
    """A judged pair as token ids: both answers follow the same prompt and end with EOS."""

    judged: Judged
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def sequences(self) -> tuple[list[int], list[int]]:
        return self.prompt + self.chosen, self.prompt + self.rejected

    @property
    def tokens(self) -> int:
        return sum(map(len, self.sequences))

    @property
    def longest(self) -> int:
        return max(map(len, self.sequences))


@dataclass
class Training:
    """What all members have in common: one model, the pairs, and what is known before the first is trained."""

    ctx: Context
    policy: Policy  # its model is the classifier
    model: "PeftModel"
    pairs: list[Pair]
    memory: Plan
    usual: list[list[int]]  # answers that are to earn 0 on average
    start: "Tensor"  # (H,): the input policy's last hidden state at the end of the first pair's chosen answer


@dataclass
class Trained:
    """One member after its training: its metrics and its raw scores of the usual answers, (N,)."""

    metrics: dict[str, float]
    usual: "Tensor"


@register("reward", config=RewardConfig)
class Reward(Stage):
    """TRL's RewardTrainer on pairs of answers: an adapter on the input policy's chain, and a score head."""

    version, consumes, produces, parallel = 1, {"policy": "model"}, "reward", True

    def contract(self, config: RewardConfig) -> dict[str, Any]:
        return asked(config, "max_pairs", "data")

    def preview(self, config: RewardConfig, tokenizer: Any, sets: Mapping[str, Artifact]) -> dict[str, Any]:
        """Nothing to tell; DataError where the model could not be measured, before anything is trained."""
        if "heldout" not in config.data:
            _heldout_rows(sets["train"])
        return {}

    def measures(self, config: RewardConfig) -> list[str]:
        return ["heldout" if "heldout" in config.data else "train"]

    def validate(self, config: RewardConfig) -> None:
        from trl import RewardConfig as Arguments

        fresh = [role for role in config.data if role.startswith(FRESH)]
        check_data(config, "preference pairs, votes or rankings", ("heldout", *fresh))
        if config.max_pairs < 0:
            raise ConfigError(f"max_pairs={config.max_pairs}: use 0 for all pairs, or a positive number")
        if config.ensemble < 1:
            raise ConfigError(f"ensemble={config.ensemble}: a reward model has at least one member")
        votes.check(config.votes)
        normalise.check(config.normalise)
        several.check_strategy(config.runtime, ("ddp", "deepspeed"))
        arguments.check(Arguments, config)
        if (centred := config.train.get("center_rewards_coefficient")) is not None and centred < 0:
            raise ConfigError(f"train.center_rewards_coefficient={centred}: it would drive scores apart; 0 or more")
        if peft_config(config.peft).lora_dropout and config.train.get("disable_dropout", True):
            raise ConfigError(
                f"peft.dropout={config.peft.dropout}: TRL's reward trainer switches dropout off; set "
                "train.disable_dropout=false, or peft.dropout=0"
            )

    def run(self, ctx: Context) -> dict[str, float]:
        policy = run.open_policy(ctx)
        pairs, held = _training_pairs(ctx, policy), _heldout_pairs(ctx, policy)
        answers = [_example(p.prompt, answer) for p in pairs for answer in (p.chosen, p.rejected)]
        run.check_examples(ctx, policy, answers, ctx.data["train"].stage)
        training, said = _prepare(ctx, policy, pairs)
        trained = [_train(training, number) for number in range(ctx.config.ensemble)]
        members = _publish(training, trained, said)
        return {**_mean([each.metrics for each in trained]), **_measure(training, members, trained, held)}


def _example(prompt: list[int], answer: list[int]) -> Example:
    return Example(prompt + answer, [IGNORE] * len(prompt) + answer)


def _training_pairs(ctx: Context, policy: Policy) -> list[Pair]:
    """Tokenized pairs in seeded order; what cannot be trained on is counted, not cut."""
    sets = [run.training_set(ctx, source) for role, source in ctx.data.items() if role != "heldout"]
    found = comparisons([row for source in sets for row in artifact.rows(source)])
    pairs, because = [], {"longer than max_length": 0, "chosen equals rejected": 0, "tied": 0}
    for pair in (_tokenized(policy, each) for each in judged(found, ctx.config.votes)):
        if pair.chosen == pair.rejected:
            because["chosen equals rejected"] += 1
        elif pair.longest > ctx.config.max_length:
            because["longer than max_length"] += 1
        elif pair.judged.tied and ctx.config.votes.targets == "hard":
            because["tied"] += 1
        else:
            pairs.append(pair)
    random.Random(ctx.config.seed).shuffle(pairs)
    pairs = pairs[: ctx.config.max_pairs or None]
    if pairs and not any(pair.judged.weight for pair in pairs):
        raise DataError(
            f"{ctx.data['train'].stage}: the votes on every pair are tied, so with votes.weights="
            f"{ctx.config.votes.weights} none counts; set votes.weights=none, or collect more votes"
        )
    ctx.record("data", {
        "rows_kept": len(pairs), "rows_rejected": sum(because.values()), "rejected_because": because,
        "rows_available": len(found), "tokens": sum(pair.tokens for pair in pairs),
        "trained_tokens": 2 * len(pairs),  # an answer is judged at its end
    })  # fmt: skip
    _record_annotators(ctx, found)
    return pairs


def _record_annotators(ctx: Context, found: Sequence[Comparison]) -> None:
    """Who voted how often, and how often right by the annotator model, whatever the targets are."""
    ballots = [each.votes for each in found if each.votes]
    if ballots:
        fitted = votes.dawid_skene(ballots)
        right = {name: (fitted.right_a[name] + fitted.right_b[name]) / 2 for name in fitted.votes}
        ctx.record("annotators", {name: {"votes": fitted.votes[name], "right": right[name]} for name in sorted(right)})


def _tokenized(policy: Policy, each: Judged) -> Pair:
    answers = (answer_ids(policy.tokenizer, text) for text in (each.chosen, each.rejected))
    return Pair(each, prompt_ids(policy.tokenizer, each.row["prompt"]), *answers)


def _heldout_pairs(ctx: Context, policy: Policy) -> list[Pair]:
    """What the model is measured on; votes count by their share. DataError where there is nothing to measure on."""
    source = ctx.data.get("heldout", ctx.data["train"])
    pairs = [_tokenized(policy, each) for each in judged(comparisons(_heldout_rows(source)), Votes())]
    limit = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    for pair in pairs:
        if limit is not None and pair.longest > limit:
            raise DataError(
                f"row {pair.judged.row['id']} of {source.stage} takes {pair.longest} tokens, the model reads at most "
                f"{limit}; shorten it"
            )
    if all(pair.judged.tied for pair in pairs):
        raise DataError(f"every held-out pair of {source.stage} is a tie; a reward model cannot be measured on these")
    return pairs


def _heldout_rows(source: Artifact) -> list[dict[str, Any]]:
    rows = artifact.rows(source, "heldout")
    if not rows:
        raise DataError(
            f"data set {source.stage} has no held-out rows to measure a reward model on; set data.{source.stage}."
            "holdout, or name another set under the stage's data.heldout"
        )
    return rows


def _prepare(ctx: Context, policy: Policy, pairs: list[Pair]) -> tuple[Training, dict[str, Any]]:
    """What needs the policy as it is, then the classifier made of it; and what is said of the usual answers."""
    from stages.rewards import classifier
    from stages.rewards.probes import last_hidden

    prompts, chosen = [pair.prompt for pair in pairs], [pair.chosen for pair in pairs]
    usual, said = normalise.usual_answers(policy, prompts, chosen, ctx.config.normalise, ctx.config.seed)
    start = last_hidden(policy, pairs[0].sequences[0])
    memory = run.fit_memory(ctx, policy, max(pair.tokens for pair in pairs))
    policy = classifier.as_classifier(policy)
    model = classifier.adapted(policy.model, run.new_adapter(ctx))
    return Training(ctx, policy, model, pairs, memory, usual, start), said


def member_seed(seed: int, number: int) -> int:
    """The seed of a member: the stage's own for the first, made from that and the number for the others."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4]) if number else seed


def adapter_path(number: int) -> str:
    return f"model/adapter_{number}"


def _train(training: Training, number: int) -> Trained:
    """One member from a draw of its own. Its files are below `ctx.out`; the next one is trained in its place."""
    from stages.rewards import classifier
    from stages.rewards.probes import eos_is_judged, starts_at_input

    ctx, policy, model, pairs = training.ctx, training.policy, training.model, training.pairs
    classifier.draw(model, member_seed(ctx.config.seed, number))
    trainer = _trainer(training, number)
    run.take_step(ctx, policy)
    start = starts_at_input(model, pairs[0].sequences[0], training.start)
    probes.require(ctx, [start, eos_is_judged(trainer, policy.tokenizer.eos_token_id)])
    metrics = run.fit(ctx, policy, trainer, sum(pair.tokens for pair in pairs))
    folder = ctx.out / adapter_path(number)
    classifier.save(model, folder)
    run.normalise(folder / "adapter_config.json", policy.chain.base["artifact"])
    run.write_history(ctx.out / ("history.jsonl" if number == 0 else f"history_{number}.jsonl"), trainer)
    return Trained(metrics, raw_scores(classifier.trunk(model), classifier.head_weight(model), training.usual))


def _trainer(training: Training, number: int) -> "RewardTrainer":
    from trl import RewardConfig as Arguments

    from stages.rewards.trainer import as_dataset, reward_trainer

    ctx, pairs = training.ctx, training.pairs
    ckpt = ctx.ckpt / f"member_{number}" if number else ctx.ckpt
    args = arguments.build(
        Arguments, ctx.config, rows=len(pairs), ckpt=ckpt, device=training.policy.device, fit=training.memory
    )
    args.seed = args.data_seed = member_seed(ctx.config.seed, number)
    said = [(pair.judged.target, pair.judged.margin, pair.judged.weight) for pair in pairs]
    of = f"member {number + 1} of {ctx.config.ensemble}: " if ctx.config.ensemble > 1 else ""
    ctx.log(f"{of}{len(pairs)} pairs, {args.per_device_train_batch_size} pairs at a time")
    dataset = as_dataset([pair.sequences for pair in pairs], said)
    return reward_trainer(training.model, args, dataset, training.policy.tokenizer)


def _publish(training: Training, trained: Sequence[Trained], said: dict[str, Any]) -> list[Member]:
    """Write `model/model.json`; the members as they are read from it. StageFailed when all answers score the same."""
    ctx = training.ctx
    entries = [_entry(ctx, number, each.usual) for number, each in enumerate(trained)]
    chain = training.policy.chain
    replace(chain, heads={**chain.heads, HEAD: {"members": entries, "normalisation": said}}).write(ctx.out / "model")
    ctx.record("normalisation", {**said, "members": [{key: e[key] for key in ("mean", "scale")} for e in entries]})
    return read_members(Artifact(ctx.id, "reward", ctx.stage, ctx.out, ""))


def _entry(ctx: Context, number: int, usual: "Tensor") -> dict[str, Any]:
    scale = float(usual.std(correction=0))
    if not 1e-6 < scale < float("inf"):
        raise StageFailed(
            f"the {len(usual)} answers that rewards are normalised on get scores without a scale ({scale}): they are "
            "all the same, or no numbers; give more of them with normalise.count, or lower train.learning_rate"
        )
    folder = adapter_path(number)
    return {
        "adapter": folder, "digest": file_digest(ctx.out / folder / "adapter_model.safetensors"),
        "score": f"{folder}/score.safetensors", "score_digest": file_digest(ctx.out / folder / "score.safetensors"),
        "method": ctx.config.peft.method, "r": ctx.config.peft.r, "mean": float(usual.mean()), "scale": scale,
    }  # fmt: skip


def _mean(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Metrics of training, averaged over the members."""
    return {name: sum(each[name] for each in metrics) / len(metrics) for name in metrics[0]}


def _measure(
    training: Training, members: Sequence[Member], trained: Sequence[Trained], held: Sequence[Pair]
) -> dict[str, float]:
    """Results on the held-out pairs by the published files, whose scores are compared with those before saving."""
    from stages.rewards import heldout
    from stages.rewards.probes import survives_reload

    ctx, pairs = training.ctx, [pair.judged for pair in held]
    sequences = [pair.sequences[side] for side in (0, 1) for pair in held]
    reloaded, raw = zip(*(_scores(training.model, each, training.usual, sequences) for each in members), strict=True)
    probes.require(ctx, [survives_reload([each.usual for each in trained], reloaded, training.model.dtype)])
    scores = _held_scores(members, raw, held)
    found = heldout.examine(pairs, scores)
    heldout.write(pairs, scores, found, ctx.out / "results")
    ctx.record("alarms", heldout.alarms(found))
    return heldout.metrics(found)


def _scores(model: "PeftModel", member: Member, *groups: Sequence[list[int]]) -> "list[Tensor]":
    """A published member's raw scores of the sequences in each group."""
    from stages.rewards import classifier

    classifier.load(model, member)
    return [raw_scores(classifier.trunk(model), member.weight, group) for group in groups]


def _held_scores(members: Sequence[Member], raw: Sequence["Tensor"], held: Sequence[Pair]) -> "Scores":
    """`raw`: for each member its scores of all chosen answers, then of all rejected ones, (2 N,)."""
    import numpy as np

    from stages.rewards.heldout import Scores

    scores = np.stack([each.double().numpy() for each in raw])
    rewards = np.stack([member.reward(each).double().numpy() for member, each in zip(members, raw, strict=True)])
    tokens = np.array([[len(pair.chosen) for pair in held], [len(pair.rejected) for pair in held]], dtype=float)
    return Scores(*np.split(scores, 2, axis=1), *np.split(rewards, 2, axis=1), tokens)
