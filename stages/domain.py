"""`domain`: continued training on documents, with rehearsal of what the model could do before."""

from dataclasses import asdict, dataclass, field

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError, DataError
from pipeline.registry import Stage, register
from stages.data import artifact
from stages.data.mixture import Source, mix
from stages.models.adapters import peft_config
from stages.models.chain import Policy
from stages.models.chat import chat_example, text_example
from stages.training import arguments, run
from stages.training.config import TrainConfig, check_data
from stages.training.supervised import fit


@dataclass
class Rehearsal:
    """What keeps earlier abilities alive. Shares are of all tokens of the mixture."""

    share: float = 0.2  # rehearsal altogether; 0 = none at all
    safety_floor: float = 0.05  # of all tokens, inside `share`: rows tagged `safety` of the upstream SFT data
    general: float = 0.5  # of what remains of `share`: from the data set in role `general`; the rest replays SFT rows


@dataclass
class DomainConfig(TrainConfig):
    max_tokens: int = 0  # of the whole mixture, at most; 0 = no limit. No document is used twice
    rehearsal: Rehearsal = field(default_factory=Rehearsal)


@register("domain", config=DomainConfig)
class Domain(Stage):
    """TRL's SFTTrainer on packed documents and rehearsal rows."""

    version = 1
    consumes = {"policy": "model"}

    def validate(self, config: DomainConfig) -> None:
        from trl import SFTConfig

        check_data(config, "documents", others=("general",))
        if config.max_tokens < 0:
            raise ConfigError(f"max_tokens={config.max_tokens}: use 0 for every document once, or a positive number")
        asked = config.rehearsal
        if not (0 <= asked.share < 1 and 0 <= asked.general <= 1):
            raise ConfigError(f"rehearsal: share={asked.share} must be in [0, 1) and general={asked.general} in [0, 1]")
        if asked.share > 0 and not 0 <= asked.safety_floor <= asked.share:
            raise ConfigError(f"rehearsal.safety_floor={asked.safety_floor} must lie between 0 and share={asked.share}")
        if asked.share > 0 and asked.general > 0 and "general" not in config.data:
            raise ConfigError("rehearsal.general > 0 needs a data set in data.general; name one, or set it to 0")
        arguments.check(SFTConfig, config)
        peft_config(config.peft)

    def run(self, ctx: Context) -> dict[str, float]:
        policy = run.open_policy(ctx)
        sources, rejected = _sources(ctx, policy)
        share = ctx.config.rehearsal.share
        everything = sum(len(example.ids) for example in sources[0].examples)
        total = round(everything / (1 - share))  # every document once, rehearsal on top
        rows, parts = mix(sources, min(ctx.config.max_tokens or total, total), ctx.config.seed)
        run.check_examples(ctx, policy, rows, "the mixture")
        ctx.record("data", {
            "rows_kept": len(rows), "rows_rejected": rejected,
            "rejected_because": {"no trained token left after max_length": rejected},
            "rows_cut": sum(row.cut for row in rows),
            "tokens": sum(part.tokens for part in parts.values()),
            "trained_tokens": sum(part.trained_tokens for part in parts.values()),
            "mixture": {name: asdict(part) for name, part in parts.items()},
        })  # fmt: skip
        return fit(ctx, policy, rows, pack=True)


def _sources(ctx: Context, policy: Policy) -> tuple[list[Source], int]:
    """The documents first, then rehearsal sources with a share above 0; and how many rows lost every trained token."""
    asked = ctx.config.rehearsal
    texts = artifact.rows(ctx.data["train"])
    documents = [e for row in texts for e in text_example(policy.tokenizer, row["text"], ctx.config.max_length)]
    sources = [Source(ctx.data["train"].stage, [e for e in documents if e.trained], 1 - asked.share, cuttable=True)]
    rejected = sum(not e.trained for e in documents)
    if asked.share == 0:
        return sources, rejected
    rest = asked.share - asked.safety_floor
    wanted = {"general": rest * asked.general, "replay": rest * (1 - asked.general), "safety": asked.safety_floor}
    for name, rows in _rehearsal_rows(ctx, wanted).items():
        examples = [chat_example(policy.tokenizer, row["messages"], ctx.config.max_length) for row in rows]
        kept = [example for example in examples if example.trained]
        rejected += len(examples) - len(kept)
        sources.append(Source(f"rehearsal:{name}", kept, wanted[name]))
    return sources, rejected


def _rehearsal_rows(ctx: Context, wanted: dict[str, float]) -> dict[str, list[dict]]:
    """Rows of each rehearsal source with a share above 0. DataError when safety rows are asked for and missing."""
    found: dict[str, list[dict]] = {}
    if wanted["general"] > 0:
        found["general"] = artifact.rows(ctx.data["general"])
    if wanted["replay"] > 0 or wanted["safety"] > 0:
        upstream = artifact.rows(upstream_sft_data(ctx))
        safety = [row for row in upstream if "safety" in row.get("tags", [])]
        if wanted["safety"] > 0 and not safety:
            raise DataError(
                "rehearsal.safety_floor is set, but no row of the upstream SFT data is tagged `safety`; add rows with "
                '"tags": ["safety"], or set rehearsal.safety_floor=0'
            )
        replay = [row for row in upstream if "safety" not in row.get("tags", [])]
        found |= {name: rows for name, rows in (("replay", replay), ("safety", safety)) if wanted[name] > 0}
    return found


def upstream_sft_data(ctx: Context) -> Artifact:
    """The data set that the nearest `sft` stage upstream was trained on, found through the manifests."""
    current = ctx.inputs["policy"]
    while True:
        manifest = current.manifest()
        if current.kind == "sft":
            return ctx.lineage[manifest["payload"]["data"]["train"]]
        if "policy" not in manifest["inputs"]:
            raise DataError(
                "rehearsal replays the data of an upstream `sft` stage, and there is none above this stage; put `sft` "
                "before `domain`, or set rehearsal.share=0"
            )
        current = ctx.lineage[manifest["inputs"]["policy"]["id"]]
