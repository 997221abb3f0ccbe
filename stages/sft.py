"""`sft`: instruction tuning on conversations; assistant turns are trained, prompts are not."""

import random
from dataclasses import asdict, dataclass

from pipeline.context import Context
from pipeline.errors import ConfigError
from pipeline.registry import Stage, register
from stages.data import artifact
from stages.data.mixture import Part
from stages.models.adapters import peft_config
from stages.models.chat import Example, chat_example
from stages.training import arguments, run
from stages.training.config import TrainConfig, check_data
from stages.training.supervised import fit


@dataclass
class SftConfig(TrainConfig):
    max_tokens: int = 0  # tokens of one epoch, drawn at random under the seed; 0 = all rows
    packing: bool = True  # several conversations in one sequence, each seeing only itself


@register("sft", config=SftConfig)
class Sft(Stage):
    """TRL's SFTTrainer on pre-tokenized rows."""

    version = 1
    consumes = {"policy": "model"}

    def validate(self, config: SftConfig) -> None:
        from trl import SFTConfig

        check_data(config, "conversations")
        if config.max_tokens < 0:
            raise ConfigError(f"max_tokens={config.max_tokens}: use 0 for all rows, or a positive number")
        arguments.check(SFTConfig, config)
        peft_config(config.peft)

    def run(self, ctx: Context) -> dict[str, float]:
        policy = run.open_policy(ctx)
        rows = artifact.rows(ctx.data["train"])
        examples = [chat_example(policy.tokenizer, row["messages"], ctx.config.max_length) for row in rows]
        kept = [example for example in examples if example.trained]
        chosen = _sample(kept, ctx.config.max_tokens, ctx.config.seed)
        run.check_examples(ctx, policy, chosen, ctx.data["train"].stage)
        tokens = sum(len(example.ids) for example in chosen)
        trained = sum(example.trained for example in chosen)
        part = Part(1.0, 1.0, tokens, trained, len(chosen), round(len(chosen) / max(1, len(kept)), 3))
        ctx.record("data", {
            "rows_kept": len(chosen), "rows_rejected": len(rows) - len(kept), "rows_available": len(rows),
            "rows_cut": sum(example.cut for example in chosen),
            "rejected_because": {"no trained token left after max_length": len(rows) - len(kept)},
            "tokens": tokens, "trained_tokens": trained, "mixture": {ctx.data["train"].stage: asdict(part)},
        })  # fmt: skip
        return fit(ctx, policy, chosen, pack=ctx.config.packing)


def _sample(examples: list[Example], max_tokens: int, seed: int) -> list[Example]:
    """All examples, or a seeded random choice of about `max_tokens` tokens."""
    order = list(examples)
    random.Random(seed).shuffle(order)
    if not max_tokens:
        return order
    taken, total = [], 0
    for example in order:
        if total + len(example.ids) <= max_tokens:
            taken.append(example)
            total += len(example.ids)
    return taken
