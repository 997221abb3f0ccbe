"""`sft`: instruction tuning on conversations; assistant turns are trained, prompts are not."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError
from pipeline.registry import Stage, register
from stages.data import artifact, shares
from stages.data.mixture import Part, Source, mix_sets
from stages.data.tokenized import Tokenized
from stages.models.adapters import peft_config
from stages.models.chat import Example, Size, chat_examples, size
from stages.training import arguments, run
from stages.training.config import TrainConfig, asked, check_data
from stages.training.supervised import fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Counted = TypeVar("Counted", Example, Size)


@dataclass
class SftConfig(TrainConfig):
    max_tokens: int = 0  # tokens of one epoch, drawn at random under the seed; 0 = all rows
    packing: bool = True  # several conversations in one sequence, each seeing only itself
    mixture: shares.Mixture = field(default_factory=shares.Mixture, metadata=shares.LATER)


@register("sft", config=SftConfig)
class Sft(Stage):
    """TRL's SFTTrainer on pre-tokenized rows."""

    version = 1
    consumes = {"policy": "model"}
    parallel = True

    def contract(self, config: SftConfig) -> dict[str, Any]:
        return asked(config, "max_tokens", "mixture")

    def preview(
        self, config: SftConfig, tokenizer: "PreTrainedTokenizerBase", sets: Mapping[str, Artifact]
    ) -> dict[str, Any]:
        if config.mixture.asked:
            _, parts, counts = _mixed(config, tokenizer, sets)
        else:  # of a row nothing is held but what is counted
            sizes = [size(example) for example in _examples(config, tokenizer, sets["train"])]
            _, parts, counts = _one_set(config, sets["train"], sizes)
        return {**counts, "mixture": {name: asdict(part) for name, part in parts.items()}}

    def validate(self, config: SftConfig) -> None:
        from trl import SFTConfig

        check_data(config, "conversations", others=[role for role in config.mixture.weights if role != "train"])
        shares.check(config.mixture, config.data)
        if config.max_tokens < 0:
            raise ConfigError(f"max_tokens={config.max_tokens}: use 0 for all rows, or a positive number")
        arguments.check(SFTConfig, config)
        peft_config(config.peft)

    def run(self, ctx: Context) -> dict[str, float]:
        policy = run.open_policy(ctx)
        chosen, parts, counts = realised(ctx.config, policy.tokenizer, run.training_sets(ctx))
        run.check_examples(ctx, policy, chosen, ", ".join(parts))
        ctx.record("data", {**counts, "mixture": {name: asdict(part) for name, part in parts.items()}})
        return fit(ctx, policy, chosen, pack=ctx.config.packing)


def realised(
    config: SftConfig, tokenizer: "PreTrainedTokenizerBase", sets: Mapping[str, Artifact]
) -> tuple[list[Example], dict[str, Part], dict[str, Any]]:
    """What the stage trains on: rows in order, what each data set gave, and the counts of the manifest.

    Depends on nothing but the arguments. `sets`: role -> data set. DataError for a mixture that cannot be had.
    """
    if not config.mixture.asked:
        examples = list(_examples(config, tokenizer, sets["train"]))
        return _one_set(config, sets["train"], examples)
    return _mixed(config, tokenizer, sets)


def _examples(config: SftConfig, tokenizer: "PreTrainedTokenizerBase", source: Artifact) -> Iterator[Example]:
    return chat_examples(tokenizer, (row["messages"] for row in artifact.stream(source)), config.max_length)


def _one_set(
    config: SftConfig, source: Artifact, examples: Sequence[Counted]
) -> tuple[list[Counted], dict[str, Part], dict[str, Any]]:
    kept = [example for example in examples if example.trained]
    chosen = _sample(kept, config.max_tokens, config.seed)
    tokens = sum(example.tokens for example in chosen)
    trained = sum(example.trained for example in chosen)
    part = Part(1.0, 1.0, tokens, trained, len(chosen), round(len(chosen) / max(1, len(kept)), 3))
    return chosen, {source.stage: part}, _counts(chosen, len(examples), len(examples) - len(kept))


def _counts(chosen: Sequence[Counted], available: int, rejected: int) -> dict[str, Any]:
    return {
        "rows_kept": len(chosen), "rows_rejected": rejected, "rows_available": available,
        "rows_cut": sum(example.cut for example in chosen),
        "rejected_because": {"no trained token left after max_length": rejected},
        "tokens": sum(example.tokens for example in chosen),
        "trained_tokens": sum(example.trained for example in chosen),
    }  # fmt: skip


def _sample(examples: Sequence[Counted], max_tokens: int, seed: int) -> list[Counted]:
    """All examples, or a seeded random choice of about `max_tokens` tokens."""
    order = list(examples)
    random.Random(seed).shuffle(order)
    if not max_tokens:
        return order
    taken, total = [], 0
    for example in order:
        if total + example.tokens <= max_tokens:
            taken.append(example)
            total += example.tokens
    return taken


def _mixed(
    config: SftConfig, tokenizer: "PreTrainedTokenizerBase", sets: Mapping[str, Artifact]
) -> tuple[list[Example], dict[str, Part], dict[str, Any]]:
    read = {
        (role, tags): Tokenized(tokenizer, partial(_rows_with, source, config.mixture.tags, tags), config.max_length)
        for role, source in sets.items()
        for tags in _tag_sets(source, config.mixture.tags)
    }
    sources = {
        (role, tags): Source(_name(sets[role], tags, config.mixture.tags), rows, part=sets[role].stage, tags=tags)
        for (role, tags), rows in read.items()
    }
    chosen, parts, tags = mix_sets(config.mixture, sources, config.max_tokens, config.seed)
    counts = _counts(chosen, sum(rows.read for rows in read.values()), sum(rows.rejected for rows in read.values()))
    return chosen, parts, {**counts, "tags": {tag: asdict(part) for tag, part in tags.items()}}


def _tag_sets(source: Artifact, asked: frozenset[str]) -> list[frozenset[str]]:
    """Which of the asked tags come together in some row, in the order of the rows."""
    found = dict.fromkeys(asked.intersection(row.get("tags", [])) for row in artifact.stream(source))
    return list(found) or [frozenset()]


def _rows_with(source: Artifact, asked: frozenset[str], tags: frozenset[str]) -> Iterator[dict[str, Any]]:
    return (row for row in artifact.stream(source) if asked.intersection(row.get("tags", [])) == tags)


def _name(source: Artifact, tags: frozenset[str], asked: frozenset[str]) -> str:
    return f"{source.stage} ({', '.join(sorted(tags)) or 'other rows'})" if asked else source.stage
