"""`baseline`: a model that is told what to do instead of trained, to see whether training earns its cost."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError, DataError, StageFailed
from pipeline.registry import Stage, register
from pipeline.schema import Runtime, StageConfig, Suite
from stages.data import artifact
from stages.evaluation import MEASUREMENTS
from stages.models.prompting import Messages, Prompting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHOICES = ("seed", "similar")


@dataclass
class BaselineConfig(StageConfig):
    """What stands before every prompt. Without any of it the baseline would be its input, which is measured as is."""

    system: str = ""  # instruction to the model, in the system turn
    glossary: Dict[str, str] = field(default_factory=dict)  # term -> its meaning, listed after `system`
    examples: int = 0  # rows of `data.examples` shown before each prompt; its training part only is read
    choose: str = (
        "seed"  # which: seed, the same random ones for all prompts; similar, for each prompt those most like it
    )
    tags: List[str] = field(default_factory=list)  # only rows with one of these tags serve as examples; empty = all
    max_tokens: int = 512  # of all examples together; a row over its equal share is no example, and is counted
    suites: List[str] = field(default_factory=list)  # suites it is measured on; empty = all that ask a question


@register("baseline", config=BaselineConfig)
class Baseline(Stage):
    """The input's weights with a prompt; no training stage takes it as input."""

    version = 1
    consumes: ClassVar[dict[str, str]] = {"model": "model"}
    produces = "prompted"

    def suites(self, config: BaselineConfig, suites: Mapping[str, Suite]) -> list[str]:
        """Perplexity of plain text has no prompt, so nothing that stands before one can change it."""
        asking = [name for name, suite in suites.items() if _asks(suite)]
        for name in config.suites:
            if name not in suites:
                raise ConfigError(f"suites: there is no suite '{name}'; known: {', '.join(suites)}")
            if name not in asking:
                raise ConfigError(f"suites: {name} asks nothing, so a prompt changes nothing in it; take it out")
        return [name for name in asking if not config.suites or name in config.suites]

    def validate(self, config: BaselineConfig) -> None:
        if not (config.system.strip() or config.glossary or config.examples):
            raise ConfigError("give system, glossary or examples; the bare model is measured without a baseline")
        if config.choose not in CHOICES:
            raise ConfigError(f"choose={config.choose}: use {' or '.join(CHOICES)}")
        if config.examples < 0 or config.max_tokens < 1:
            raise ConfigError(f"examples={config.examples} and max_tokens={config.max_tokens}: positive numbers")
        if bool(config.examples) != ("examples" in config.data) or config.data.keys() - {"examples"}:
            raise ConfigError("data.examples: the data set to take examples from, where `examples` is above 0")
        if (config.tags or config.choose != "seed") and not config.examples:
            raise ConfigError("tags and choose say which examples are shown; set `examples` as well")
        if config.runtime != Runtime():
            raise ConfigError("runtime: nothing is computed here; `eval.runtime` says how it is measured")

    def run(self, ctx: Context) -> dict[str, float]:
        from stages.models.chain import Chain, load_tokenizer

        chain = Chain.read(ctx.inputs["model"])
        known = {**ctx.lineage, ctx.inputs["model"].id: ctx.inputs["model"]}
        base = known[chain.base["artifact"]].path / "model"
        tokenizer = load_tokenizer(base)
        examples, counts = _examples(ctx.config, ctx.data, tokenizer) if ctx.config.examples else ([], {})
        made = Prompting(system_text(ctx.config), examples, ctx.config.examples)
        tokens = _tokens(tokenizer, made, _limit(base))
        folder = ctx.out / "model"
        folder.mkdir()
        chain.write(folder)
        made.write(folder)
        ctx.record("data", counts)
        ctx.log(f"{tokens} tokens before a prompt of one word, {ctx.config.examples} examples" + _told(counts))
        return {"prompt_tokens": float(tokens), "examples": float(ctx.config.examples)}


def _asks(suite: Suite) -> bool:
    return suite.measure in MEASUREMENTS and "prompt" in MEASUREMENTS[suite.measure].fields


def system_text(config: BaselineConfig) -> str:
    """The instruction, then the glossary, one line for each term."""
    terms = [f"{term}: {meaning}" for term, meaning in config.glossary.items()]
    return "\n\n".join(part for part in (config.system.strip(), "\n".join(terms)) if part)


def _examples(
    config: BaselineConfig, data: Mapping[str, Artifact], tokenizer: "PreTrainedTokenizerBase"
) -> tuple[list[Messages], dict[str, Any]]:
    """The examples to show, or for `similar` all to choose from; DataError where too few rows fit."""
    from stages.models.chat import encode

    share = config.max_tokens // config.examples
    found = [example for row in _rows(config, data["examples"]) if (example := conversation(row))]
    fitting = [e for e in found if sum(len(encode(tokenizer, turn["content"])) for turn in e) <= share]
    if len(fitting) < config.examples:
        raise DataError(
            f"data.examples: {len(fitting)} of {len(found)} rows of {data['examples'].stage} are conversations of at "
            f"most {share} tokens, and {config.examples} are to be shown; raise max_tokens or lower examples"
        )
    counts = {"rows_available": len(found), "rows_too_long": len(found) - len(fitting)}
    random.Random(config.seed).shuffle(fitting)
    return (fitting if config.choose == "similar" else fitting[: config.examples]), counts


def _rows(config: BaselineConfig, source: Artifact) -> Iterator[dict[str, Any]]:
    return (row for row in artifact.stream(source) if not config.tags or set(config.tags) & set(row.get("tags", [])))


def conversation(row: Mapping[str, Any]) -> Messages:
    """A training row as an example without its system turn; none for a document or one that ends with a question."""
    if "messages" in row:
        turns = [turn for turn in row["messages"] if turn["role"] != "system"]
    elif "prompt" in row and "chosen" in row:
        turns = [*row["prompt"], {"role": "assistant", "content": row["chosen"]}]
    else:
        turns = []
    return turns if len(turns) > 1 and turns[-1]["role"] == "assistant" else []


def _limit(base: Path) -> int | None:
    """Tokens that the model can read, as far as its config says so."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, local_files_only=True).get_text_config()
    return getattr(config, "max_position_embeddings", None)


def _tokens(tokenizer: "PreTrainedTokenizerBase", made: Prompting, limit: int | None) -> int:
    """Tokens of a prompt of one word; StageFailed where the model could read nothing else."""
    from stages.models.chat import prompt_ids

    count = len(prompt_ids(tokenizer, made.around([{"role": "user", "content": "a"}])))
    if limit is not None and count >= limit:
        raise StageFailed(
            f"a prompt of one word takes {count} tokens with what stands before it, and the model reads {limit}; "
            "shorten system and glossary, or show fewer examples"
        )
    return count


def _told(counts: Mapping[str, Any]) -> str:
    if not counts.get("rows_too_long"):
        return ""
    return f"; {counts['rows_too_long']} of {counts['rows_available']} rows are too long to be one"
