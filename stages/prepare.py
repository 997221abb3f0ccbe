"""The `prepare` stage: a user's files or a builder become one checked, split and counted data set.

Every row that is read ends up kept, repaired or in `rejected.jsonl` with its reason, and the counts add up.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from pipeline.context import Context
from pipeline.errors import ConfigError, DataError
from pipeline.registry import Stage, register
from pipeline.schema import Runtime, StageConfig
from stages.data import builders, readers, rows, split


@dataclass
class PrepareConfig(StageConfig):
    """Where rows come from (`files` or `builder`), what they are, and how many are held out."""

    kind: str = "prepare"
    format: str = "chat"  # chat | text | preference | choice | generate | refusal
    files: List[str] = field(default_factory=list)  # .jsonl, .json (an array) or .txt (a row for each paragraph)
    builder: Optional[str] = None  # name of a registered builder instead of files
    options: Dict[str, Any] = field(default_factory=dict)  # the builder's own options
    limit: int = 0  # rows kept at most, the first ones; 0 = all
    holdout: Optional[float] = None  # share of clusters for heldout.jsonl; None = all of what is only measured, else 0
    tags: List[str] = field(default_factory=list)  # given to rows that have none: legal, general, safety ...
    on_error: str = "refuse"  # a row that breaks the format: refuse the data set, or reject the row


@dataclass
class Outcome:
    """What became of the rows."""

    kept: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    repaired: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)  # the rejected rows that break the format, as messages
    seen: dict[str, str] = field(default_factory=dict)  # content key or id -> where it was first

    def reject(self, where: str, line: int, raw: Any, code: str, reason: str) -> None:
        self.reasons[f"rejected: {code}"] += 1
        shown = None if isinstance(raw, readers.RowError) else raw
        self.rejected.append({"file": where, "line": line, "reason": reason, "row": shown})


@register("prepare", config=PrepareConfig)
class Prepare(Stage):
    version, consumes, produces = 1, {}, "data"

    def fingerprints(self, config: PrepareConfig) -> dict[str, str]:
        """Files by sha256, packages by version and content. ConfigError for what is not there."""
        check(config)
        found = {f"file:{name}": f"sha256:{file_digest(name)}" for name in config.files}
        if config.builder:
            used = builders.find(config.builder)
            found["builder:" + used.name] = f"version {used.version}"
            found |= {f"package:{name}": builders.package_digest(name) for name in used.packages}
            found |= {f"authored:{path.name}": f"sha256:{file_digest(str(path))}" for path in used.files}
        return found

    def validate(self, config: PrepareConfig) -> None:
        check(config)

    def run(self, ctx: Context) -> dict[str, float]:
        """Write data/train.jsonl, data/heldout.jsonl, rejected.jsonl, quality.json and ATTRIBUTION.md."""
        outcome = collect(ctx.config)
        share = heldout_share(ctx.config)
        sides: dict[str, list[dict[str, Any]]] = {"train": [], "heldout": []}
        for row in outcome.kept:
            sides["heldout" if split.in_heldout(row["cluster"], share, ctx.config.seed) else "train"].append(row)
        for name, part in sides.items():
            write_jsonl(ctx.out / "data" / f"{name}.jsonl", part)
        write_jsonl(ctx.out / "rejected.jsonl", outcome.rejected)
        quality = describe(outcome, sides)
        (ctx.out / "quality.json").write_text(json.dumps(quality, indent=2, ensure_ascii=False) + "\n")
        (ctx.out / "ATTRIBUTION.md").write_text(attribution(ctx.config))
        ctx.record("data", quality)
        ctx.log(
            f"{quality['rows_train']} training and {quality['rows_heldout']} held-out rows, "
            f"{quality['rows_repaired']} repaired, {quality['rows_rejected']} rejected"
        )
        return {name: float(quality[name]) for name in ("rows_train", "rows_heldout", "rows_rejected")}


def check(config: PrepareConfig) -> None:
    """ConfigError for settings that cannot work."""
    if config.format not in rows.FORMATS:
        raise ConfigError(f"unknown data format '{config.format}'; known: {', '.join(rows.FORMATS)}")
    if config.on_error not in ("refuse", "reject"):
        raise ConfigError(f"on_error must be refuse or reject, not '{config.on_error}'")
    if bool(config.files) == bool(config.builder):
        raise ConfigError("a data set needs either `files` or a `builder`, and not both")
    if config.options and not config.builder:
        raise ConfigError(f"`options` belong to a builder; with `files` take them out: {', '.join(config.options)}")
    if config.limit < 0 or not 0 <= heldout_share(config) <= 1:
        raise ConfigError(f"limit must be 0 or more and holdout from 0 to 1, not {config.limit} and {config.holdout}")
    if config.inputs or config.data:
        raise ConfigError("a data set reads files or packages; it takes no `inputs` and no `data`")
    if config.runtime != Runtime():
        raise ConfigError("a data set is made in one process on the CPU; it takes no `runtime`")
    for name in config.files:
        if not name.startswith("hub:") and Path(name).suffix not in readers.READERS:
            raise ConfigError(
                f"{name}: cannot read files ending in '{Path(name).suffix}'; use {', '.join(readers.READERS)}"
            )
    if config.builder:
        found = builders.find(config.builder)
        builders.parse_options(found, dict(config.options))
        if found.format != config.format:
            raise ConfigError(f"builder '{found.name}' makes rows of format {found.format}, not {config.format}")


def heldout_share(config: PrepareConfig) -> float:
    """The share of clusters that is held out."""
    if config.holdout is not None:
        return config.holdout
    return 1.0 if config.format in rows.MEASURED_ONLY else 0.0


def file_digest(name: str) -> str:
    """sha256 of a file. ConfigError when it cannot be read."""
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}; correct the path in `files`") from error


def sources(config: PrepareConfig) -> Iterator[tuple[str, int, Any]]:
    """(file or builder, line, raw row) of everything the data set is made from."""
    for name in config.files:
        for line, raw in readers.read(name):
            yield name, line, raw
    if config.builder:
        found = builders.find(config.builder)
        options = builders.parse_options(found, dict(config.options))
        for line, raw in enumerate(found.build(options, config.seed), 1):
            yield found.name, line, raw


def collect(config: PrepareConfig) -> Outcome:
    """Read, normalise and de-duplicate. DataError when rows break the format or none is left."""
    outcome = Outcome()
    for where, line, raw in sources(config):
        take(outcome, config, where, line, raw)
        if config.limit and len(outcome.kept) == config.limit:
            break
    if outcome.broken and config.on_error == "refuse":
        more = f"\n... and {len(outcome.broken) - 3} more" if len(outcome.broken) > 3 else ""
        raise DataError(
            "\n".join(outcome.broken[:3])
            + more
            + "\nCorrect these rows, or set `on_error: reject` to move them to rejected.jsonl."
        )
    if not outcome.kept:
        raise DataError(
            f"{', '.join(config.files) or config.builder}: no row is left of {len(outcome.rejected)} read; "
            f"{dict(outcome.reasons)}"
        )
    return outcome


def take(outcome: Outcome, config: PrepareConfig, where: str, line: int, raw: Any) -> None:
    """Add one raw row to the outcome: kept, repaired or rejected."""
    try:
        row, repairs = rows.normalise(raw, config.format)
    except readers.RowError as error:
        outcome.broken.append(f"{where}, line {line}: {error}")
        return outcome.reject(where, line, raw, "broken", str(error))
    content, name = "content " + rows.content_key(row), "id " + row["id"]
    if content in outcome.seen:
        return outcome.reject(where, line, raw, "duplicate", f"same content as {outcome.seen[content]}")
    if name in outcome.seen:
        reason = f"id '{row['id']}' is taken by {outcome.seen[name]}; give every row its own id"
        outcome.broken.append(f"{where}, line {line}: {reason}")
        return outcome.reject(where, line, raw, "id", reason)
    outcome.seen[content] = outcome.seen[name] = f"{where}, line {line}"
    outcome.repaired += bool(repairs)
    outcome.reasons.update(f"repaired: {repair}" for repair in repairs)
    outcome.unused.update(rows.unused_fields(raw, row))
    outcome.kept.append({"task": config.format, "tags": list(config.tags), **row})


def describe(outcome: Outcome, sides: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The quality report: rows_kept + rows_repaired + rows_rejected = rows_read."""
    kept = outcome.kept
    return {
        "rows_read": len(kept) + len(outcome.rejected),
        "rows_kept": len(kept) - outcome.repaired,
        "rows_repaired": outcome.repaired,
        "rows_rejected": len(outcome.rejected),
        "rows_train": len(sides["train"]),
        "rows_heldout": len(sides["heldout"]),
        "clusters": len({row["cluster"] for row in kept}),
        "words": sum(map(rows.words, kept)),
        "tasks": dict(Counter(row["task"] for row in kept).most_common()),
        "tags": dict(Counter(tag for row in kept for tag in row["tags"]).most_common()),
        "reasons": dict(outcome.reasons),
        "unused_fields": dict(outcome.unused),
    }


def attribution(config: PrepareConfig) -> str:
    """Where the rows come from and under which terms, as Markdown."""
    if config.builder:
        found = builders.find(config.builder)
        versions = "".join(f"- {name} {builders.package_digest(name)}\n" for name in found.packages)
        return f"# Where these rows come from\n\n{found.attribution}\n\nRead from:\n{versions}"
    files = "".join(f"- {name} sha256:{file_digest(name)}\n" for name in config.files)
    return f"# Where these rows come from\n\nThe user's own files:\n{files}"


def write_jsonl(path: Path, part: list[dict[str, Any]]) -> None:
    """One JSON object a line, UTF-8. What UTF-8 cannot say (half a surrogate pair) becomes its JSON escape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part), encoding="utf-8", errors="backslashreplace"
    )
