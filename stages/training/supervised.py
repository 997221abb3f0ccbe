"""Next-token training on tokenized rows: TRL's SFTTrainer as `sft` and `domain` use it."""

from collections.abc import Sequence
from typing import Any

from pipeline.context import Context
from stages.models.chain import Policy
from stages.models.chat import Example
from stages.training import arguments, probes, run
from stages.training.divided import divided


def fit(ctx: Context, policy: Policy, examples: Sequence[Example], *, pack: bool) -> dict[str, float]:
    """Train the stage's adapter on `examples` in sequences of at most `max_length` tokens; returns the metrics."""
    from trl import SFTConfig, SFTTrainer

    before = probes.next_token_logits(policy.model, policy.tokenizer)
    dataset = run.packed(ctx, examples) if pack else run.one_each(examples)
    lengths = [len(ids) for ids in dataset["input_ids"]]
    wasted = padding([len(example.ids) for example in examples], lengths, ctx.config.batch_size)
    ctx.record("data", {**ctx.sections["data"], "padding": wasted if pack else {"unpacked": wasted["unpacked"]}})
    memory = run.fit_memory(ctx, policy, max(lengths))
    args = arguments.build(SFTConfig, ctx.config, rows=len(dataset), ckpt=ctx.ckpt, device=policy.device, fit=memory)
    args.packing = pack
    args.dataset_kwargs = {"skip_prepare_dataset": True}

    class Trainer(SFTTrainer):
        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """The manifest describes the artifact; a card for each checkpoint would only cost time."""

    trainer = divided(Trainer, by="tokens")(
        model=policy.model, args=args, train_dataset=dataset, processing_class=policy.tokenizer,
        peft_config=run.new_adapter(ctx),
    )  # fmt: skip
    run.take_step(ctx, policy)
    _probe(ctx, policy, trainer, dataset, examples, before, pack)
    tokens = sum(len(example.ids) for example in examples)
    ctx.log(f"{len(examples)} rows, {tokens} tokens in {len(dataset)} sequences, {ctx.config.batch_size} a step")
    return run.train(ctx, policy, trainer, tokens)


def padding(rows: Sequence[int], sequences: Sequence[int], batch: int) -> dict[str, float]:
    """Share of padding in rectangular batches, without and with packing, from the lengths in tokens.

    `batch`: sequences of one step. Unpacked, a step takes as many rows as these hold on average, so that both need the
    same number of steps. The training step itself computes no padding; TRL's own does where nothing is packed.
    """
    return {
        "unpacked": _padding(rows, max(1, round(batch * len(rows) / len(sequences)))),
        "packed": _padding(sequences, batch),
    }


def _padding(lengths: Sequence[int], batch: int) -> float:
    """Share of cells without a token, `batch` rows at a time padded to the longest of them."""
    parts = [lengths[start : start + batch] for start in range(0, len(lengths), batch)]
    return 1 - sum(lengths) / sum(len(part) * max(part) for part in parts)


def _probe(
    ctx: Context, policy: Policy, trainer: Any, dataset: Any, examples: Sequence[Example], before: Any, pack: bool
) -> None:
    first = dataset.select(range(min(4, len(dataset))))
    eos = policy.tokenizer.eos_token_id
    expected = sum(label == eos for row in first["labels"] for label in row)
    batch = trainer.data_collator([dict(row) for row in first])
    found = [
        probes.eos_is_trained(policy.tokenizer, batch["labels"], expected),
        probes.starts_at_input(trainer.model, policy.tokenizer, before),
        probes.reference_is_input(trainer.model, policy.tokenizer, before),
    ]
    if pack:
        found.append(probes.packed_equals_unpacked(trainer.model, examples, trainer.data_collator))
    probes.require(ctx, found)
