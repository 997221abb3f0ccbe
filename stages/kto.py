"""`kto`: alignment by answers that are each labelled good or bad (Ethayarajh et al. 2024, arXiv 2402.01306).

Preference pairs are read as two such answers. With z the batch's KL estimate, r the implicit reward beta times the
log-ratio and w the label's weight, the loss is the mean of w (1 - sigma(r - z)) over good answers and of
w (1 - sigma(z - r)) over bad ones. z is computed by TRL from each prompt with its neighbour's answer.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.errors import ConfigError
from pipeline.registry import Stage, register
from stages.data import artifact
from stages.models.adapters import peft_config
from stages.models.chain import Policy
from stages.models.chat import Example, answer_ids, prompt_ids
from stages.training import alarms, arguments, losses, probes, reference, run
from stages.training.config import TrainConfig, asked, check_data
from stages.training.divided import divided

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import KTOTrainer

BALANCED = (1.0, 4 / 3)  # weight of all good answers to that of all bad ones: equation 8 of the paper
KL = "the KL estimate of the loss kto"


@dataclass
class KtoConfig(TrainConfig):
    max_rows: int = 0  # answers of one epoch, drawn at random under the seed; 0 = all. A pair gives two


@dataclass
class Labelled:
    """An answer as token ids, EOS at its end."""

    prompt: list[int]
    answer: list[int]
    good: bool

    @property
    def tokens(self) -> int:
        return len(self.prompt) + len(self.answer)


@register("kto", config=KtoConfig)
class Kto(Stage):
    """TRL's KTOTrainer; the reference is the loaded model with this stage's adapter off: the input policy."""

    version = 1
    consumes = {"policy": "model"}
    parallel = True

    def contract(self, config: KtoConfig) -> dict[str, Any]:
        return asked(config, "max_rows")

    def validate(self, config: KtoConfig) -> None:
        from trl import KTOConfig

        check_data(config, "labelled answers or preference pairs")
        if config.max_rows < 0:
            raise ConfigError(f"max_rows={config.max_rows}: use 0 for all answers, or a positive number")
        arguments.check(KTOConfig, config)
        _check_train(config)
        if _has_kl(config):
            losses.check_one_pass(config, KL, over_ranks=True)
        peft_config(config.peft)

    def run(self, ctx: Context) -> dict[str, float]:
        policy = run.open_policy(ctx)
        answers = _answers(ctx, policy)
        examples = [Example(a.prompt + a.answer, [-100] * len(a.prompt) + a.answer) for a in answers]
        run.check_examples(ctx, policy, examples, ctx.data["train"].stage)
        before = probes.next_token_logits(policy.model, policy.tokenizer)
        _check_balance(ctx, answers)
        trainer = _trainer(ctx, policy, answers)
        _probe(ctx, policy, trainer, before)
        metrics = run.train(ctx, policy, trainer, sum(answer.tokens for answer in answers))
        advice = "raise train.beta or train.desirable_weight, or lower the learning rate"
        names = ("chosen", "rejected", "margins")
        return {**metrics, **alarms.implicit_rewards(ctx, trainer.state.log_history, names, advice)}


def _has_kl(config: KtoConfig) -> bool:
    return bool(config.train.get("loss_type", "kto") == "kto")


def _check_train(config: KtoConfig) -> None:
    """ConfigError for what TRL would find only when its trainer is made, or not at all."""
    train = config.train
    for name in ("beta", "desirable_weight", "undesirable_weight"):
        if not train.get(name, 1.0) > 0:
            raise ConfigError(f"train.{name}={train[name]}: give a positive number")
    if "precompute_ref_batch_size" in train and not train.get("precompute_ref_log_probs"):
        raise ConfigError("train.precompute_ref_batch_size is not read without train.precompute_ref_log_probs=true")
    if train.get("train_sampling_strategy", "sequential") != "sequential":
        raise ConfigError(
            "train.train_sampling_strategy: the order of rows follows from the stage's `seed`; take it out"
        )
    if _has_kl(config) and config.batch_size < 2:
        raise ConfigError(
            f"batch_size={config.batch_size}: the KL of the loss kto is estimated from the other answers of a batch; "
            "use 2 or more, or train.loss_type=apo_zero_unpaired"
        )


# -- data ---------------------------------------------------------------------------------------------------------
def _labelled(rows: Iterable[dict[str, Any]]) -> Iterable[tuple[list[dict], str, bool]]:
    """(prompt, answer, whether it is good); a preference pair gives two."""
    for row in rows:
        if "label" in row:
            yield row["prompt"], row["completion"], row["label"]
        else:
            yield row["prompt"], row["chosen"], True
            yield row["prompt"], row["rejected"], False


def _answers(ctx: Context, policy: Policy) -> list[Labelled]:
    """Tokenized answers in seeded order; those that are too long are counted, not cut."""
    rows, answers, because = artifact.rows(run.training_sets(ctx)["train"]), [], {"longer than max_length": 0}
    found = list(_labelled(rows))
    for prompt, said, good in found:
        answer = Labelled(prompt_ids(policy.tokenizer, prompt), answer_ids(policy.tokenizer, said), good)
        if answer.tokens > ctx.config.max_length:
            because["longer than max_length"] += 1
        else:
            answers.append(answer)
    random.Random(ctx.config.seed).shuffle(answers)
    answers = answers[: ctx.config.max_rows or None]
    if _has_kl(ctx.config) and len(answers) % ctx.config.batch_size == 1:
        because["alone in the last batch, where no KL can be estimated"] = 1
        answers.pop()
    ctx.record("data", {
        "rows_kept": len(answers), "rows_rejected": sum(because.values()), "rejected_because": because,
        "rows_available": len(rows), "answers_available": len(found), "tokens": sum(a.tokens for a in answers),
        "trained_tokens": sum(len(a.answer) for a in answers), "good": sum(a.good for a in answers),
    })  # fmt: skip
    return answers


def _check_balance(ctx: Context, answers: Sequence[Labelled]) -> None:
    """An alarm where the weights do not make up for unequal numbers of labels, as TRL's own data preparation tells."""
    good = sum(answer.good for answer in answers)
    bad = len(answers) - good
    desirable, undesirable = (ctx.config.train.get(f"{name}desirable_weight", 1.0) for name in ("", "un"))
    least, most = BALANCED
    if bad and good and least - 0.01 <= good * desirable / (bad * undesirable) <= most + 0.01:
        return
    fitting = "add answers of the other label"
    if good and bad:
        fits = bad * undesirable / good
        fitting = f"set train.desirable_weight between {least * fits:.2g} and {most * fits:.2g}"
    alarms.sound(
        ctx, "labels_out_of_balance",
        f"{good} good and {bad} bad answers, weights {desirable:g} and {undesirable:g}: one side outweighs the other; "
        f"{fitting}",
    )  # fmt: skip


def _dataset(config: KtoConfig, answers: Sequence[Labelled]) -> "Dataset":
    """TRL's columns. For the KL each prompt also gets the answer before it in its batch, the first that of the last.

    It is cut where TRL would cut it, so that the reference's number is kept under the tokens that it is of.
    """
    from datasets import Dataset

    columns = {
        "prompt_ids": [a.prompt for a in answers], "completion_ids": [a.answer for a in answers],
        "label": [a.good for a in answers],
    }  # fmt: skip
    if _has_kl(config):
        batches = [answers[at : at + config.batch_size] for at in range(0, len(answers), config.batch_size)]
        others = [a.answer for batch in batches for a in (batch[-1], *batch[:-1])]
        columns["KL_completion_ids"] = [
            other[: config.max_length - len(a.prompt)] for a, other in zip(answers, others, strict=True)
        ]
    return Dataset.from_dict(columns)


# -- training -----------------------------------------------------------------------------------------------------
def _trainer(ctx: Context, policy: Policy, answers: Sequence[Labelled]) -> "KTOTrainer":
    from trl import KTOConfig, KTOTrainer

    class Trainer(KTOTrainer):
        """The answers are tokenized already, and reference log-probabilities are cached under what decides them."""

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """The manifest describes the artifact; a card for each checkpoint would only cost time."""

        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset

        def _compute_kl_logps(self, model: Any, batch: dict[str, Any]) -> Any:
            """TRL takes the mean of what the ranks have: weighed, it is that over the rows of the whole batch."""
            found = super()._compute_kl_logps(model, batch)
            return found if found is None or self.place is None else self.place.of_mean * found

        def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
            if "ref_KL_logps" in inputs and self.place:
                inputs = {**inputs, "ref_KL_logps": self.place.of_mean * inputs["ref_KL_logps"]}
            return super()._compute_loss(model, inputs, return_outputs)

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            file = reference.cache_file(ctx.cache, policy, run.take_step(ctx, policy), None)
            mixed = ("KL_completion_ids",) if self.calculate_KL else ()
            columns = ("prompt_ids", "completion_ids", *mixed)
            numbers = ("ref_logps", "ref_KL_logps")[: len(columns) - 1]
            alone = 1 if policy.device == "cpu" else batch_size  # the numbers then do not depend on the others known
            return reference.with_reference(self, dataset, alone, file, columns, numbers)

    memory = run.fit_memory(ctx, policy, max(answer.tokens for answer in answers))
    if _has_kl(ctx.config):
        losses.require_one_pass(ctx.config, memory, KL)
    args = arguments.build(KTOConfig, ctx.config, rows=len(answers), ckpt=ctx.ckpt, device=policy.device, fit=memory)
    ctx.log(f"{len(answers)} answers, {sum(answer.good for answer in answers)} of them good")
    trainer = divided(Trainer)(
        model=policy.model, args=args, train_dataset=_dataset(ctx.config, answers), processing_class=policy.tokenizer,
        peft_config=run.new_adapter(ctx),
    )  # fmt: skip
    run.take_step(ctx, policy)
    return trainer


def _probe(ctx: Context, policy: Policy, trainer: "KTOTrainer", before: Any) -> None:
    """Reference equals input policy, and the loss is half the mean weight at step 0."""
    import torch

    rows = [trainer.train_dataset[i] for i in range(min(2, len(trainer.train_dataset)))]
    batch = {key: value.to(policy.device) for key, value in trainer.data_collator(rows).items()}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model, dict(batch)))
    trainer._metrics["train"].clear()  # the probe's batch is not part of the training curve
    good = batch["label"].float()
    weight = float((good * trainer.desirable_weight + (1 - good) * trainer.undesirable_weight).mean())
    probes.require(ctx, [
        probes.eos_is_trained(policy.tokenizer, labels, len(rows)),
        probes.starts_at_input(trainer.model, policy.tokenizer, before),
        probes.reference_is_input(trainer.model, policy.tokenizer, before),
        probes.loss_is_half(loss, weight, policy.model.dtype),
    ])  # fmt: skip
