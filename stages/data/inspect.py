"""One file before it is used: its layout, what `prepare` would keep of it, what its contract says, and a sample."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from stages.data import conversion, formats, readers
from stages.data.contract.config import ContractConfig
from stages.data.contract.examine import EXAMINED, examine, misused, scope_of, survey
from stages.data.conversion import Chunk
from stages.data.coverage.asked import asked_in
from stages.data.findings import LEVELS, Finding, Located, seen, worst
from stages.data.outcome import Outcome, fill
from stages.data.progress import bar, end_bar

SHOWN = 2  # rows of the sample
SHOWN_LETTERS = 1500  # of each
MAX_LENGTH = 2048  # tokens, for findings that need a length; no stage says it here
STAGES = {  # form -> the kind of stage that would be trained on it
    "chat": "sft",
    "text": "domain",
    "preference": "dpo",
    "label": "kto",
    "ranking": "reward",
    "votes": "reward",
    "prompt": "ppo",
}

JUDGED = (  # fields of a row that say what is right, for a person to see
    "label", "votes", "answer", "choices", "check", "harmful", "constraints", "labels", "references",
)  # fmt: skip


@dataclass
class Inspection:
    """What is known of a file. rows_kept + rows_repaired + rows_rejected = rows_read."""

    path: str
    format: str | None  # as a person calls it; None where no row looks like any
    layout: str | None  # what `layout` of a data set names
    form: str  # what `format` of a data set names
    rows_read: int
    rows_kept: int
    rows_repaired: int
    rows_rejected: int
    reasons: dict[str, int]
    unused_fields: dict[str, int]
    findings: list[Finding] = field(default_factory=list)
    sample: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 4 if worst(self.findings) == "error" else 0

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "findings": [finding.json() for finding in self.findings]}

    def lines(self) -> Iterator[str]:
        """The same for a person."""
        yield f"{self.path}: {self.format or 'unknown'} (layout {self.layout}, format {self.form})"
        counts = f"{self.rows_kept} kept, {self.rows_repaired} repaired, {self.rows_rejected} rejected"
        yield f"{self.rows_read} rows read: {counts}"
        yield from (f"  {reason}: {count}" for reason, count in self.reasons.items())
        if self.unused_fields:
            yield f"not read: {', '.join(self.unused_fields)}"
        for finding in self.findings:
            yield f"{finding.level} {finding.code}: {finding.message} {finding.remedy}"
            yield from (f"  {example.file}, line {example.line}: {example.text}" for example in finding.examples)
        for number, text in enumerate(self.sample, 1):
            yield f"--- row {number} as the model sees it, in the template chatml"
            yield text


class First:
    """A sink that holds the first lines and counts all."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def append(self, line: str) -> None:
        self.count += 1
        if len(self.lines) < EXAMINED:
            self.lines.append(line)

    def __len__(self) -> int:
        return self.count


def inspect(path: str, form: str = "auto", layout: str = "auto", salvage: bool = False) -> Inspection:
    """Read the file (or folder, pattern, hub id) as `prepare` would.

    ConfigError when it is not there, DataError when it cannot be read as a whole.
    """
    progress = bar()
    names = readers.expand(path)
    progress.total = sum(os.path.getsize(name) for name in names if os.path.isfile(name))
    parts = (
        conversion.chunks(name, readers.records(readers.Source(name, salvage, progress.of(name)))) for name in names
    )
    chunks = chain.from_iterable(parts)
    first = next(chunks)
    plan, whole = conversion.plan(form, layout, (), chain([first], chunks))
    outcome = Outcome(First(), First(), plan.form)
    try:
        fill(outcome, conversion.converted(whole, plan))
    finally:
        end_bar()
    found = formats.named(plan.layout, plan.form) if plan.layout else _detected(first, plan.form)
    return _described(path, outcome, found)


def _detected(first: Chunk, form: str) -> formats.Layout | None:
    found = formats.detect(conversion.parsed(first), form)
    return found.layout if found else None


def _described(path: str, outcome: Outcome, layout: formats.Layout | None) -> Inspection:
    rejected = [json.loads(line) for line in outcome.rejected.lines]
    rows = [json.loads(line) for line in outcome.kept.lines]
    twice = [found["row"] for found in rejected if found["code"] == "exact_duplicates"]
    readable = sorted((_located(row) for row in rows + twice), key=lambda each: (each.file, each.line))
    return Inspection(
        path=path,
        format=layout and layout.family,
        layout=layout and layout.name,
        form=outcome.format,
        rows_read=outcome.read,
        rows_kept=len(outcome.kept) - outcome.repaired,
        rows_repaired=outcome.repaired,
        rows_rejected=len(outcome.rejected),
        reasons=dict(outcome.reasons),
        unused_fields=dict(outcome.unused),
        findings=[*_unusable(rejected, outcome), *_examined(readable, outcome.format)],
        sample=[rendered(row)[:SHOWN_LETTERS] for row in rows[:SHOWN]],
    )


def _located(row: dict[str, Any]) -> Located:
    return Located(row, row["origin"]["file"], row["origin"]["line"])


def _unusable(rejected: list[dict[str, Any]], outcome: Outcome) -> Iterator[Finding]:
    """Rows that break the format, by what is wrong; exact duplicates are the contract's to tell of."""
    codes = dict.fromkeys(found["code"] for found in rejected if found["code"] != "exact_duplicates")
    for code in codes:
        mine = [found for found in rejected if found["code"] == code]
        yield Finding(
            level="error",
            code=code,
            count=len(mine),
            of=outcome.read,
            message=f"{len(mine)} of {outcome.read} rows cannot be used; the first: {mine[0]['reason'].rstrip(' .')}.",
            remedy="Correct these rows, or set `on_error: reject` in the data set to leave them out.",
            examples=seen((Located({}, each["file"], each["line"]), each["reason"]) for each in mine),
        )


def _examined(rows: list[Located], form: str) -> list[Finding]:
    """What the contract of the stage that trains on such rows finds in them, and what they do not cover."""
    if form not in STAGES:
        return []
    scope = scope_of(rows, STAGES[form], ContractConfig(), None, MAX_LENGTH)
    found = [*examine(scope, [asked_in]), *misused(scope), *survey(scope).findings]
    return sorted(found, key=lambda each: LEVELS.index(each.level))


def rendered(row: dict[str, Any]) -> str:
    """The row in the shipped chat template, with each of its answers."""
    if "text" in row:
        return row["text"]
    asked = row.get("messages") or row["prompt"]
    answers = {name: row[name] for name in ("chosen", "rejected", "completion", "a", "b") if name in row}
    answers |= {f"answer {place}": answer for place, answer in enumerate(row.get("answers", []), 1)}
    begun = _template().render(messages=asked, add_generation_prompt="messages" not in row)
    said = "".join(f"\n--- {name}\n{answer}" for name, answer in answers.items())
    judged = {name: row[name] for name in JUDGED if name in row}
    return begun + said + (f"\n--- {json.dumps(judged, ensure_ascii=False)}" if judged else "")


@cache
def _template() -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    import stages.models

    text = (Path(stages.models.__file__).parent / "templates" / "chatml.jinja").read_text()
    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(text)
