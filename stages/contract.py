"""`contract`: the data of one stage, looked at before anything is trained; a stage `check_NAME` for every stage NAME.

What it finds stands in the manifest under `findings`, for people in `quality/SET/quality.html`. Rows that are also
measured are named in `dropped.json`, if the contract says that they are to be dropped.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Dict, List

from omegaconf import MISSING

from pipeline.context import Context
from pipeline.registry import Stage, register
from pipeline.schema import StageConfig
from stages.data import artifact
from stages.data.contract import config as contract
from stages.data.contract.config import ContractConfig
from stages.data.contract.examine import examine
from stages.data.contract.view import READS, form_of
from stages.data.findings import LEVELS, Finding, Located
from stages.data.inspect import STAGES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MEASURED, UPSTREAM = "measured_", "upstream:"  # before the roles that the planner gives
SAMPLES = ("production_sample", "domain_sample")


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
        findings = [found for role in own(ctx) for found in look(ctx, role, tokenizer)]
        told = [found.json() for found in findings]
        ctx.record("findings", told)
        (ctx.out / "findings.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        counts = {f"{level}s": float(sum(found.level == level for found in findings)) for level in LEVELS}
        ctx.log(", ".join(f"{count:.0f} {name}" for name, count in counts.items()))
        return counts


def own(ctx: Context) -> list[str]:
    """The roles in which the stage itself reads data."""
    return [role for role in ctx.data if role not in SAMPLES and not role.startswith((MEASURED, UPSTREAM))]


def look(ctx: Context, role: str, tokenizer: "PreTrainedTokenizerBase") -> list[Finding]:
    """What is found in one data set, worst first."""
    source, config = ctx.data[role], ctx.config
    rows = artifact.located(source)
    stage = trains(config.stage, rows)
    found = examine(rows, stage, config.contract, tokenizer, config.max_length)
    return [replace(finding, data=source.stage) for finding in found]


def trains(stage: str, rows: Sequence[Located]) -> str:
    """The kind of stage whose contract the rows have: this one's, or for rehearsal of another form that form's own."""
    form = form_of(rows[0].row) if rows else None
    return stage if form is None or form in READS[stage] else STAGES[form]
