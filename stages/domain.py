"""`domain`: continued training on documents, with rehearsal of what the model could do before."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, Dict

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError, DataError
from pipeline.registry import Stage, register
from stages.data import artifact
from stages.data.mixture import Part, Source, mix
from stages.data.shares import LATER
from stages.data.tokenized import Tokenized
from stages.models.adapters import peft_config
from stages.models.chat import Example
from stages.training import arguments, run
from stages.training.config import TrainConfig, asked, check_data
from stages.training.sampled import Sampled, check_sampled, sampled_rows
from stages.training.supervised import fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLAY = "upstream:sft"  # rows of the data that the nearest `sft` upstream was trained on
WRITTEN = "sampled:start"  # text that the start model writes itself
NO_SFT = (
    "rehearsal replays the data of an upstream `sft` stage, and there is none above this stage; put `sft` before "
    "`domain`, or set rehearsal.share=0"
)
PARTS = {REPLAY: "replay", WRITTEN: "sampled"}  # what they are called in the mixture

Write = Callable[[int], list[dict[str, Any]]]  # a number of tokens -> rows of about so many


@dataclass
class Rehearsal:
    """What keeps earlier abilities alive. Shares are of all tokens of the mixture."""

    share: float = 0.2  # rehearsal altogether; 0 = none at all
    safety_floor: float = 0.05  # of all tokens, inside `share`: rows tagged `safety` of the upstream SFT data
    general: float = 0.5  # of what remains of `share`: from the data set in role `general`; the rest replays SFT rows
    sources: Dict[str, float] = field(
        default_factory=dict, metadata=LATER
    )  # instead of `general`: source -> part of it
    sampled: Sampled = field(default_factory=Sampled, metadata=LATER)


@dataclass
class DomainConfig(TrainConfig):
    max_tokens: int = 0  # of the whole mixture, at most; 0 = no limit. No document is used twice
    rehearsal: Rehearsal = field(default_factory=Rehearsal)


@register("domain", config=DomainConfig)
class Domain(Stage):
    """TRL's SFTTrainer on packed documents and rehearsal rows."""

    version = 1
    consumes = {"policy": "model"}
    parallel = True

    def contract(self, config: DomainConfig) -> dict[str, Any]:
        return asked(config, "max_tokens", "rehearsal")

    def preview(
        self, config: DomainConfig, tokenizer: "PreTrainedTokenizerBase", sets: Mapping[str, Artifact]
    ) -> dict[str, Any]:
        if {REPLAY, "safety"} & _wanted(config.rehearsal).keys() and REPLAY not in sets:
            raise DataError(NO_SFT)
        _, parts, counts = realised(config, tokenizer, sets)
        return {**counts, "mixture": {name: asdict(part) for name, part in parts.items()}}

    def validate(self, config: DomainConfig) -> None:
        from trl import SFTConfig

        check_data(config, "documents", others=("general", *_roles(config.rehearsal)))
        if config.max_tokens < 0:
            raise ConfigError(f"max_tokens={config.max_tokens}: use 0 for every document once, or a positive number")
        check_rehearsal(config.rehearsal, config.data)
        arguments.check(SFTConfig, config)
        peft_config(config.peft)

    def run(self, ctx: Context) -> dict[str, float]:
        policy = run.open_policy(ctx)
        needed = _wanted(ctx.config.rehearsal)
        upstream = {REPLAY: run.training_set(ctx, upstream_sft_data(ctx))} if {REPLAY, "safety"} & needed.keys() else {}
        write = partial(sampled_rows, ctx, policy) if WRITTEN in needed else None
        chosen, parts, counts = realised(ctx.config, policy.tokenizer, {**run.training_sets(ctx), **upstream}, write)
        run.check_examples(ctx, policy, chosen, "the mixture")
        ctx.record("data", {**counts, "mixture": {name: asdict(part) for name, part in parts.items()}})
        return fit(ctx, policy, chosen, pack=True)


def check_rehearsal(asked: Rehearsal, data: Mapping[str, str]) -> None:
    """ConfigError for shares and sources that cannot be; `data`: role -> data set of the stage."""
    if not (0 <= asked.share < 1 and 0 <= asked.general <= 1):
        raise ConfigError(f"rehearsal: share={asked.share} must be in [0, 1) and general={asked.general} in [0, 1]")
    if asked.share > 0 and not 0 <= asked.safety_floor <= asked.share:
        raise ConfigError(f"rehearsal.safety_floor={asked.safety_floor} must lie between 0 and share={asked.share}")
    for source, weight in asked.sources.items():
        if source not in PARTS and (source == "train" or source not in data):
            known = ", ".join([*PARTS, *(role for role in data if role != "train")])
            raise ConfigError(f"rehearsal.sources: there is no source {source}; known: {known}, or a new role of data")
        if not (isfinite(weight) and weight > 0):
            raise ConfigError(f"rehearsal.sources: {source} has the weight {weight}; give a positive number")
    if asked.share > 0 and asked.general > 0 and not asked.sources and "general" not in data:
        raise ConfigError("rehearsal.general > 0 needs a data set in data.general; name one, or set it to 0")
    check_sampled(asked.sampled)


def _roles(asked: Rehearsal) -> list[str]:
    return [source for source in asked.sources if source not in PARTS]


def _wanted(asked: Rehearsal) -> dict[str, float]:
    """Source of rehearsal -> its share of all tokens; those with none are left out. `safety` are the tagged rows."""
    if asked.share == 0:
        return {}
    parts = asked.sources or {"general": asked.general, REPLAY: 1 - asked.general}
    rest = (asked.share - asked.safety_floor) / sum(parts.values())
    wanted = {name: rest * part for name, part in parts.items()} | {"safety": asked.safety_floor}
    return {name: share for name, share in wanted.items() if share > 0}


def realised(
    config: DomainConfig,
    tokenizer: "PreTrainedTokenizerBase",
    sets: Mapping[str, Artifact],
    write: Write | None = None,
) -> tuple[list[Example], dict[str, Part], dict[str, Any]]:
    """What the stage trains on: rows in order, what each source gave, and the counts of the manifest.

    `sets`: role -> data set, with `upstream:sft` where it is rehearsed. `write` makes the start model write; without
    it, before there is a model, the mixture is what it will be but for that source. DataError for what cannot be had.
    """
    wanted = _wanted(config.rehearsal)
    documents = Tokenized(tokenizer, partial(artifact.stream, sets["train"]), config.max_length)
    sources = [Source(sets["train"].stage, documents, 1 - config.rehearsal.share, cuttable=True)]
    once = round(sum(sources[0].tokens) / (1 - config.rehearsal.share))  # every document once, rehearsal on top
    total = min(config.max_tokens or once, once)
    read = [documents]
    for name, share in wanted.items():
        if name != WRITTEN or write:
            rows = partial(write, round(share * total)) if name == WRITTEN and write else _rehearsed(name, sets)
            read.append(Tokenized(tokenizer, rows, config.max_length))
            sources.append(Source(f"rehearsal:{PARTS.get(name, name)}", read[-1], share))
    if WRITTEN in wanted and not write:
        there = 1 - wanted[WRITTEN]
        sources, total = [replace(source, share=source.share / there) for source in sources], round(total * there)
    chosen, parts = mix(sources, total, config.seed)
    return chosen, parts, _counts(chosen, sum(rows.rejected for rows in read))


def _rehearsed(name: str, sets: Mapping[str, Artifact]) -> Callable[[], Iterable[dict[str, Any]]]:
    """What reads the rows of a source that is in a data set."""
    if name not in ("safety", REPLAY):
        return partial(artifact.stream, sets[name])
    safe = name == "safety"
    if safe and not any(_safe(row) for row in artifact.stream(sets[REPLAY])):
        raise DataError(
            "rehearsal.safety_floor is set, but no row of the upstream SFT data is tagged `safety`; add rows with "
            '"tags": ["safety"], or set rehearsal.safety_floor=0'
        )
    return lambda: (row for row in artifact.stream(sets[REPLAY]) if _safe(row) == safe)


def _safe(row: dict[str, Any]) -> bool:
    return "safety" in row.get("tags", [])


def _counts(chosen: list[Example], rejected: int) -> dict[str, Any]:
    return {
        "rows_kept": len(chosen), "rows_rejected": rejected,
        "rejected_because": {"no trained token left after max_length": rejected},
        "rows_cut": sum(row.cut for row in chosen),
        "tokens": sum(len(row.ids) for row in chosen),
        "trained_tokens": sum(row.trained for row in chosen),
    }  # fmt: skip


def upstream_sft_data(ctx: Context) -> Artifact:
    """The data set that the nearest `sft` stage upstream was trained on, without the rows that it dropped."""
    current = ctx.inputs["policy"]
    while True:
        manifest = current.manifest()
        if current.kind == "sft":
            found, check = ctx.lineage[manifest["payload"]["data"]["train"]], manifest["inputs"].get("checked")
            dropped = artifact.dropped(ctx.lineage[check["id"]]) if check else {}
            return artifact.without(found, dropped.get(found.stage, ()))
        if "policy" not in manifest["inputs"]:
            raise DataError(NO_SFT)
        current = ctx.lineage[manifest["inputs"]["policy"]["id"]]
