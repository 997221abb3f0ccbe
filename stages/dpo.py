"""`dpo`: direct preference optimization against the input policy (Rafailov et al. 2023, arXiv 2305.18290)."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.errors import ConfigError
from pipeline.registry import Stage, register
from stages.data import artifact
from stages.data.shares import LATER
from stages.models.adapters import peft_config
from stages.models.chain import Policy
from stages.models.chat import Example, answer_ids, prompt_ids
from stages.rewards.pairs import Judged, comparisons
from stages.rewards.pairs import judged as judge
from stages.rewards.votes import Votes
from stages.training import alarms, arguments, judged, losses, probes, reference, run
from stages.training.config import TrainConfig, asked, check_data
from stages.training.divided import divided

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOTrainer


@dataclass
class DpoConfig(TrainConfig):
    max_pairs: int = 0  # pairs of one epoch, drawn at random under the seed; 0 = all
    votes: Votes = field(default_factory=Votes, metadata=LATER)  # what votes on a pair are to its loss


@dataclass
class Pair:
    """A preference as token ids: both answers follow the same prompt and end with EOS."""

    source: Judged
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def tokens(self) -> int:
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


@register("dpo", config=DpoConfig)
class Dpo(Stage):
    """TRL's DPOTrainer; the reference is the loaded model with this stage's adapter off: the input policy."""

    version = 1
    consumes = {"policy": "model"}
    parallel = True

    def contract(self, config: DpoConfig) -> dict[str, Any]:
        return asked(config, "max_pairs")

    def validate(self, config: DpoConfig) -> None:
        from trl import DPOConfig

        check_data(config, "preference pairs")
        if config.max_pairs < 0:
            raise ConfigError(f"max_pairs={config.max_pairs}: use 0 for all pairs, or a positive number")
        arguments.check(DPOConfig, config)
        losses.check(config.train, config.batch_size)
        if together := losses.of_a_batch(config.train):
            losses.check_one_pass(config, together)
        judged.check(config.votes, config.train)
        peft_config(config.peft)

    def run(self, ctx: Context) -> dict[str, float]:
        policy = run.open_policy(ctx)
        pairs = _pairs(ctx, policy)
        answers = [Example(p.prompt + p.chosen, [-100] * len(p.prompt) + p.chosen) for p in pairs]
        run.check_examples(ctx, policy, answers, ctx.data["train"].stage)
        before = probes.next_token_logits(policy.model, policy.tokenizer)
        trainer = _trainer(ctx, policy, pairs)
        _probe(ctx, policy, trainer, before)
        metrics = run.train(ctx, policy, trainer, sum(pair.tokens for pair in pairs))
        return {**metrics, **_alarms(ctx, trainer)}


def _pairs(ctx: Context, policy: Policy) -> list[Pair]:
    """Tokenized pairs in seeded order; those that are too long or equal are counted, not cut."""
    rows = artifact.rows(run.training_sets(ctx)["train"])
    pairs, because = [], {"longer than max_length": 0, "chosen equals rejected": 0}
    compared = judge(comparisons(rows), ctx.config.votes)
    for found in compared:
        pair = _pair(policy, found)
        if found.tied:
            because["votes are tied"] = because.get("votes are tied", 0) + 1
        elif pair.chosen == pair.rejected:
            because["chosen equals rejected"] += 1
        elif len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) > ctx.config.max_length:
            because["longer than max_length"] += 1
        else:
            pairs.append(pair)
    random.Random(ctx.config.seed).shuffle(pairs)
    pairs = pairs[: ctx.config.max_pairs or None]
    ctx.record("data", {
        "rows_kept": len(pairs), "rows_rejected": sum(because.values()), "rejected_because": because,
        "rows_available": len(rows), "pairs_available": len(compared), "tokens": sum(pair.tokens for pair in pairs),
        "trained_tokens": sum(len(pair.chosen) + len(pair.rejected) for pair in pairs),
    })  # fmt: skip
    return pairs


def _pair(policy: Policy, found: Judged) -> Pair:
    chosen, rejected = (answer_ids(policy.tokenizer, text) for text in (found.chosen, found.rejected))
    return Pair(found, prompt_ids(policy.tokenizer, found.row["prompt"]), chosen, rejected)


def _dataset(ctx: Context, pairs: Sequence[Pair]) -> "Dataset":
    """The pairs in TRL's columns, with those of `judged` where votes say more than which answer is better."""
    from datasets import Dataset

    columns = {
        "prompt_ids": [pair.prompt for pair in pairs], "chosen_ids": [pair.chosen for pair in pairs],
        "rejected_ids": [pair.rejected for pair in pairs],
    }  # fmt: skip
    sources = [pair.source for pair in pairs]
    if more := judged.columns(sources):
        judged.check_pairs(sources, ctx.config.train)
    return Dataset.from_dict({**columns, **more})


def _trainer(ctx: Context, policy: Policy, pairs: list[Pair]) -> "DPOTrainer":
    from trl import DPOConfig, DPOTrainer

    dataset = _dataset(ctx, pairs)
    votes = "pair_weight" in dataset.column_names

    class Trainer(DPOTrainer):
        """The pairs are tokenized already, and reference log-probabilities are cached under what decides them."""

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """The manifest describes the artifact; a card for each checkpoint would only cost time."""

        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset

        def _set_signature_columns_if_needed(self) -> None:
            if self._signature_columns is None:
                super()._set_signature_columns_if_needed()
                self._signature_columns += judged.COLUMNS

        def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
            plain = super()._compute_loss
            return judged.loss(self, plain, model, inputs) if votes else plain(model, inputs, return_outputs)

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            file = reference.cache_file(ctx.cache, policy, run.take_step(ctx, policy), self.ld_alpha)
            started = time.monotonic()
            # One pair at a time on a CPU: the numbers then do not depend on which other pairs were known already.
            found = reference.with_reference(self, dataset, 1 if policy.device == "cpu" else batch_size, file)
            ctx.record("timing", {**ctx.sections["timing"], "reference_seconds": time.monotonic() - started})
            return found

    memory = run.fit_memory(ctx, policy, max(pair.tokens for pair in pairs))
    if together := losses.of_a_batch(ctx.config.train):
        losses.require_one_pass(ctx.config, memory, together)
    args = arguments.build(DPOConfig, ctx.config, rows=len(pairs), ckpt=ctx.ckpt, device=policy.device, fit=memory)
    ctx.log(
        f"{len(pairs)} pairs, {sum(p.tokens for p in pairs)} tokens, {args.per_device_train_batch_size} pairs at a time"
    )
    trainer = divided(Trainer)(
        model=policy.model, args=args, train_dataset=dataset, processing_class=policy.tokenizer,
        peft_config=run.new_adapter(ctx),
    )  # fmt: skip
    if votes:  # the reference was computed with TRL's own
        trainer.data_collator = judged.collator(trainer.data_collator)
    run.take_step(ctx, policy)
    return trainer


def _probe(ctx: Context, policy: Policy, trainer: "DPOTrainer", before: Any) -> None:
    """Reference equals input policy, and for the sigmoid loss log 2 at step 0."""
    import torch

    rows = [trainer.train_dataset[i] for i in range(min(2, len(trainer.train_dataset)))]
    batch = {key: value.to(policy.device) for key, value in trainer.data_collator(rows).items()}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    found = [
        probes.eos_is_trained(policy.tokenizer, labels, 2 * len(rows)),
        probes.starts_at_input(trainer.model, policy.tokenizer, before),
        probes.reference_is_input(trainer.model, policy.tokenizer, before),
    ]
    plain = trainer.args.loss_type == ["sigmoid"] and not (trainer.args.loss_weights or trainer.args.use_weighting)
    if (
        plain and "pair_weight" not in trainer.train_dataset.column_names
    ):  # label smoothing and the other divergences are log 2 too where both policies agree
        with torch.no_grad():
            loss = float(trainer.compute_loss(trainer.model, dict(batch)))
        trainer._metrics["train"].clear()  # the probe's batch is not part of the training curve
        found.append(probes.loss_is_log_2(loss, policy.model.dtype))
    probes.require(ctx, found)


def _alarms(ctx: Context, trainer: "DPOTrainer") -> dict[str, float]:
    """The last quarter's implicit rewards; an alarm when the chosen answers became less likely than under the input."""
    return alarms.implicit_rewards(
        ctx, trainer.state.log_history, ("chosen", "margins", "accuracies"),
        "raise train.beta, lower the learning rate, or add an SFT term with train.loss_type=[sigmoid,sft]",
    )  # fmt: skip
