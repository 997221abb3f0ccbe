"""`contract`: the data of one stage, looked at before anything is trained; a stage `check_NAME` for every stage NAME.

What it finds stands in the manifest under `findings`, for people in `quality/SET/quality.html`. Rows that are also
measured are named in `dropped.json`, if the contract says that they are to be dropped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Dict, List

from omegaconf import MISSING, OmegaConf

from pipeline.context import Artifact, Context
from pipeline.registry import Stage, kind, register
from pipeline.schema import StageConfig
from stages.data import artifact, leaks
from stages.data.contract import config as contract
from stages.data.contract.config import ContractConfig
from stages.data.contract.examine import examine, levelled, misused, scope_of, survey
from stages.data.contract.view import READS, form_of
from stages.data.coverage.asked import asked_in
from stages.data.coverage.result import Coverage
from stages.data.findings import LEVELS, Finding, Located, worst
from stages.data.inspect import STAGES
from stages.data.misuse.order import stage_order

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MEASURED, UPSTREAM = "measured_", "upstream:"  # before the roles that the planner gives
SAMPLES = ("domain_sample", "production_sample")
REHEARSING = ("domain", "ppo")  # kinds whose roles beside `train` are rehearsed
REJECTED = 50  # rejected rows that a quality page is given


@dataclass
class CheckConfig(StageConfig):
    kind: str = "contract"
    stage: str = MISSING  # the kind of the stage whose data is looked at
    max_length: int = 512  # of that stage
    training: Dict[str, Any] = field(default_factory=dict)  # of that stage: what decides which rows it trains on
    after: List[str] = field(default_factory=list)  # kinds of the stages that it continues, the nearest first
    contract: ContractConfig = field(default_factory=ContractConfig)


@register("contract", config=CheckConfig)
class Contract(Stage):
    """Examines every data set that the stage trains on, against what is measured and against samples of production."""

    version, consumes, produces = 1, {"start": "model"}, "findings"

    def validate(self, config: CheckConfig) -> None:
        contract.check(config.contract)

    def run(self, ctx: Context) -> dict[str, float]:
        from stages.models.chain import load_tokenizer

        tokenizer = load_tokenizer(ctx.inputs["start"].path / "model")
        leaking, sets = without_leaks(ctx)
        looked = {role: look(ctx, role, tokenizer) for role in own(ctx)}
        findings = levelled(ordered(ctx), ctx.config.contract) + leaking
        everything = [*findings, *(found for each in looked.values() for found in each.findings)]
        if worst(everything) != "error":
            ctx.record("data", preview(ctx, tokenizer, sets))
        for role, found in looked.items():
            write_page(ctx, role, found, tokenizer)
            findings += [replace(each, data=ctx.data[role].stage) for each in found.findings]
        return told(ctx, findings)


def own(ctx: Context) -> list[str]:
    """The roles in which the stage itself reads data."""
    return [role for role in ctx.data if role not in SAMPLES and not role.startswith((MEASURED, UPSTREAM))]


def look(ctx: Context, role: str, tokenizer: "PreTrainedTokenizerBase") -> Coverage:
    """What is found in one data set, and tables of it. What is only rehearsed need have no domain and cover nothing."""
    rows, config = artifact.located(ctx.data[role]), ctx.config
    scope = scope_of(rows, judged_as(config.stage, role, rows), config.contract, tokenizer, config.max_length)
    if role != "train" and config.stage in REHEARSING:
        return Coverage(examine(scope), [])
    found = examine(scope, [asked_in])
    sample, production = (artifact.located(ctx.data[name]) if name in ctx.data else None for name in SAMPLES)
    covered = survey(scope, production)
    return Coverage([*found, *misused(scope, sample), *covered.findings], covered.tables)


def judged_as(stage: str, role: str, rows: Sequence[Located]) -> str:
    """The kind of stage whose contract the rows have: this one's, or for rehearsal of another form that form's own."""
    form = form_of(rows[0].row) if rows and role != "train" else None
    return stage if form is None or form in READS[stage] else STAGES[form]


def ordered(ctx: Context) -> list[Finding]:
    """Whether the stage comes in its place."""
    found = stage_order(ctx.config.after, ctx.inputs["start"]) if ctx.config.stage == "domain" else None
    return [] if found is None else [found]


def without_leaks(ctx: Context) -> tuple[list[Finding], dict[str, Artifact]]:
    """What is measured as well, and role -> data set without such rows where they are to be dropped.

    Everything that the stage and those before it train on is compared with all that any model is measured on.
    """
    config: ContractConfig = ctx.config.contract
    sets = {role: trained_on(ctx, role) for role in ctx.data if role in own(ctx) or role.startswith(UPSTREAM)}
    training: dict[str, Sequence[Located]] = {}
    for source in sets.values():  # a set in several roles: as the stage reads it that leaves fewest rows out
        rows = artifact.located(source)
        training[source.stage] = max(rows, training.get(source.stage, rows), key=len)
    measured = {
        source.stage: artifact.located(source, "heldout")
        for role, source in ctx.data.items() if role.startswith(MEASURED)
    }  # fmt: skip
    found = leaks.leaks(training, measured, config.leak)
    dropping = config.leaks == "drop"
    left_out = leaks.dropped(found) if dropping else {}
    (ctx.out / artifact.DROPPED).write_text(json.dumps(left_out, indent=1) + "\n")
    told = leaks.finding(found, sum(map(len, training.values())), dropping)
    findings = levelled([] if told is None else [told], milder(config) if dropping else config)
    return findings, {role: artifact.without(source, left_out.get(source.stage, ())) for role, source in sets.items()}


def trained_on(ctx: Context, role: str) -> Artifact:
    """The data set of a role without the rows that an earlier stage, which read it in that role, has dropped."""
    source, check = ctx.data[role], ctx.inputs.get(role)
    return artifact.without(source, artifact.dropped(check).get(source.stage, ()) if check else ())


def milder(config: ContractConfig) -> ContractConfig:
    """Leaks that are dropped are a warning at most."""
    level = config.levels.get(leaks.CODE, "error")
    return replace(config, levels={**config.levels, leaks.CODE: "warning" if level == "error" else level})


def preview(ctx: Context, tokenizer: "PreTrainedTokenizerBase", sets: Mapping[str, Artifact]) -> dict[str, Any]:
    """The realised mixture and the counts of what the stage would be trained on."""
    found = kind(ctx.config.stage)
    config = OmegaConf.merge(OmegaConf.structured(found.config), {"kind": found.name, **ctx.config.training})
    return found.stage().preview(OmegaConf.to_object(config), tokenizer, sets)


def write_page(ctx: Context, role: str, found: Coverage, tokenizer: "PreTrainedTokenizerBase") -> None:
    """quality.html and quality.md of one data set."""
    from stages.data.quality.page import Page, write
    from stages.data.quality.samples import lengths, sample

    source, config = ctx.data[role], ctx.config
    rows = artifact.located(source)
    stage = judged_as(config.stage, role, rows)
    page = Page(
        title=f"{source.stage}, for {ctx.stage.removeprefix('check_')} of {ctx.experiment}", stage=stage,
        counts=json.loads((source.path / "quality.json").read_text()), rejected=rejected(source),
        findings=found.findings, tables=found.tables, mixture=ctx.sections.get("data", {}).get("mixture", {}),
        lengths=lengths(rows, stage, tokenizer), samples=sample(rows, stage, tokenizer, config.max_length, config.seed),
        max_length=config.max_length,
    )  # fmt: skip
    write(page, ctx.out / "quality" / source.stage)


def rejected(source: Artifact) -> list[dict[str, Any]]:
    """The first rows that were rejected when the data set was prepared."""
    with (source.path / "rejected.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in islice(lines, REJECTED)]


def told(ctx: Context, findings: Sequence[Finding]) -> dict[str, float]:
    """Record the findings, worst first; returns how many there are of each level."""
    plain = [asdict(found) for found in sorted(findings, key=lambda each: LEVELS.index(each.level))]
    ctx.record("findings", plain)
    (ctx.out / "findings.json").write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    counts = {f"{level}s": float(sum(found.level == level for found in findings)) for level in LEVELS}
    ctx.log(", ".join(f"{count:.0f} {name}" for name, count in counts.items()))
    return counts
