"""The `prepare` stage: a user's files or a builder become one checked, split and counted data set.

Every row that is read ends up kept, repaired or in `rejected.jsonl` with its reason, and the counts add up.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional

from pipeline.context import Artifact, Context
from pipeline.errors import ConfigError, DataError
from pipeline.registry import Stage, register
from pipeline.schema import Runtime, StageConfig
from stages.data import artifact, builders, conversion, dedupe, formats, readers, redaction, rows, similar
from stages.data import split as splitting
from stages.data.conversion import Chunk
from stages.data.findings import Located
from stages.data.inspect import Inspection, inspect
from stages.data.outcome import Lines, Outcome, describe, fill
from stages.data.progress import Progress, lines_of_log
from stages.data.redaction import Redaction
from stages.data.shares import LATER

ON_ERROR = ("refuse", "reject", "salvage")


@dataclass
class PrepareConfig(StageConfig):
    """Where rows come from (`files` or `builder`), what they are, and how many are held out."""

    kind: str = "prepare"
    format: str = "chat"  # what rows become: chat, text, preference ... of docs/formats.md; auto: what most look like
    layout: str = "auto"  # how the files write rows: alpaca, sharegpt ... of docs/formats.md; auto: each row its own
    files: List[str] = field(default_factory=list)  # files, folders, patterns, package:NAME/PATH, hub:OWNER/NAME@COMMIT
    builder: Optional[str] = None  # name of a registered builder instead of files
    options: Dict[str, Any] = field(default_factory=dict)  # the builder's own options
    limit: int = 0  # rows kept at most, the first ones; 0 = all
    holdout: Optional[float] = None  # share of clusters for heldout.jsonl; None = all of what is only measured, else 0
    split: splitting.Split = field(default_factory=splitting.Split)
    fraction: float = field(default=1.0, metadata=LATER)  # of the rows to train on; a smaller one is part of a larger
    tags: List[str] = field(default_factory=list)  # given to rows that have none: legal, general, safety ...
    near_duplicates: float = field(default=0.0, metadata=LATER)  # similarity from which a later row goes; 0: all stay
    on_error: str = "refuse"  # refuse the data set; reject rows that break the format; salvage: broken files as well
    redact: List[str] = field(default_factory=list, metadata=LATER)  # email, phone, iban, card, ssn, ip, secret
    redact_regions: List[str] = field(default_factory=lambda: ["US"], metadata=LATER)  # as `regions` of the contract
    columns: Dict[str, str] = field(default_factory=dict, metadata=LATER)  # field -> column of the files that holds it
    keep: List[str] = field(default_factory=list, metadata=LATER)  # further columns that stay, to slice results by


@register("prepare", config=PrepareConfig)
class Prepare(Stage):
    version, consumes, produces = 2, {}, "data"

    def fingerprints(self, config: PrepareConfig) -> dict[str, str]:
        """Files by sha256, packages by version and content. ConfigError for what is not there."""
        check(config)
        found = {f"file:{name}": digest(name) for name in files_of(config)}
        if config.redact:
            found["redaction"] = f"version {redaction.VERSION}"
        if config.builder:
            used = builders.find(config.builder)
            found["builder:" + used.name] = f"version {used.version}"
            found |= {f"package:{name}": builders.package_digest(name) for name in used.packages}
            found |= {f"authored:{path.name}": digest(str(path)) for path in used.files}
        return found

    def validate(self, config: PrepareConfig) -> None:
        check(config)

    def inspect(self, path: str, settings: Mapping[str, str]) -> Inspection:
        """What becomes of a file before it is in any experiment. `settings`: format, layout and on_error, if not auto.

        ConfigError for other settings or a path that is not there, DataError for what cannot be read.
        """
        for name in settings:
            if name not in ("format", "layout", "on_error"):
                raise ConfigError(f"{name}: a file is inspected with format, layout and on_error, and nothing else")
        config = PrepareConfig(**{"format": formats.AUTO, **settings}, files=[path])
        check(config)
        return inspect(path, config.format, config.layout, config.on_error == "salvage")

    def row_digests(self, config: PrepareConfig) -> set[str]:
        """By content alone: neither the order of rows nor the file that a row stands in makes it a new one."""
        return {rows.content_key(row) for row in collect(config).kept}

    def drift(self, config: PrepareConfig, trained: Sequence[Artifact]) -> dict[str, dict[str, float]]:
        from stages.data.coverage.drift import drift

        sample = [Located(row, row["origin"]["file"], row["origin"]["line"]) for row in collect(config).kept]
        return drift(sample, [artifact.located(one) for one in trained])

    def run(self, ctx: Context) -> dict[str, float]:
        """Write data/train.jsonl, data/heldout.jsonl, rejected.jsonl, quality.json and ATTRIBUTION.md."""
        kept = ctx.out / "kept.jsonl"
        outcome = Outcome(Lines(kept), Lines(ctx.out / "rejected.jsonl"))
        try:
            gather(ctx.config, outcome, lines_of_log(ctx.log), ctx.out)
        finally:
            outcome.kept.close()
            outcome.rejected.close()
        sides = divide(ctx.config, outcome, kept, ctx.out / "data")
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
    if config.format not in (*rows.FORMATS, formats.AUTO):
        raise ConfigError(f"unknown data format '{config.format}'; known: {', '.join(rows.FORMATS)}")
    if config.layout != formats.AUTO:
        formats.named(config.layout, None if config.format == formats.AUTO else config.format)
    if config.on_error not in ON_ERROR:
        raise ConfigError(f"on_error must be refuse, reject or salvage, not '{config.on_error}'")
    if bool(config.files) == bool(config.builder):
        raise ConfigError("a data set needs either `files` or a `builder`, and not both")
    if config.options and not config.builder:
        raise ConfigError(f"`options` belong to a builder; with `files` take them out: {', '.join(config.options)}")
    if config.limit < 0 or not 0 <= heldout_share(config, config.format) <= 1:
        raise ConfigError(f"limit must be 0 or more and holdout from 0 to 1, not {config.limit} and {config.holdout}")
    if not 0 < config.fraction <= 1:
        raise ConfigError(f"fraction={config.fraction}: give a share of the training rows above 0 and up to 1")
    if config.near_duplicates and not similar.LEAST_ALIKE <= config.near_duplicates <= 1:
        raise ConfigError(
            f"near_duplicates={config.near_duplicates}: give a Jaccard similarity from {similar.LEAST_ALIKE} to 1, or 0"
        )
    if config.inputs or config.data:
        raise ConfigError("a data set reads files or packages; it takes no `inputs` and no `data`")
    if config.runtime != Runtime(stall_minutes=config.runtime.stall_minutes):
        raise ConfigError("a data set is made on the CPU; of `runtime` it takes `stall_minutes` alone")
    splitting.check(config.split)
    redaction.check(config.redact, config.redact_regions)
    for name in files_of(config):
        readers.kind_of(name)
    if config.builder:
        found = builders.find(config.builder)
        builders.parse_options(found, dict(config.options))
        if config.format not in (found.format, formats.AUTO):
            raise ConfigError(f"builder '{found.name}' makes rows of format {found.format}, not {config.format}")


def heldout_share(config: PrepareConfig, form: str) -> float:
    """The share of clusters that is held out."""
    if config.holdout is not None:
        return config.holdout
    return 1.0 if form in rows.MEASURED_ONLY else 0.0


def files_of(config: PrepareConfig) -> list[str]:
    """Every file that is read, in its order."""
    return [name for given in config.files for name in readers.expand(given)]


def digest(name: str) -> str:
    """What stands for the content of a file, of all files of a folder, or of a data set of the hub.

    ConfigError when it cannot be read.
    """
    if name.startswith("hub:"):
        return f"commit:{name.partition('@')[2]}"
    if Path(name).is_dir():
        inside = sorted(str(path) for path in Path(name).rglob("*") if path.is_file())
        lines = "".join(f"{file_digest(path)} {os.path.relpath(path, name)}\n" for path in inside)
        return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    return f"sha256:{file_digest(name)}"


def file_digest(name: str) -> str:
    """sha256 of a file. ConfigError when it cannot be read."""
    try:
        with open(readers.on_disk(name), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}; correct the path in `files`") from error


def sources(config: PrepareConfig, progress: Progress) -> Iterator[Chunk]:
    """Everything the data set is made from, in pieces."""
    for given in config.files:
        for name in readers.expand(given):
            source = readers.Source(name, config.on_error == "salvage", progress.of(name))
            document = None if name == given else name
            yield from conversion.chunks(name, readers.records(source), document)
    if config.builder:
        found = builders.find(config.builder)
        options = builders.parse_options(found, dict(config.options))
        yield from conversion.chunks(found.name, enumerate(found.build(options, config.seed), 1))


def collect(config: PrepareConfig) -> Outcome:
    """Read, normalise and de-duplicate; the kept and the rejected rows as lists of objects. DataError as `gather`."""
    outcome = Outcome()
    gather(config, outcome)
    outcome.kept = [json.loads(line) for line in outcome.kept]
    outcome.rejected = [json.loads(line) for line in outcome.rejected]
    return outcome


def gather(
    config: PrepareConfig, outcome: Outcome, progress: Progress | None = None, folder: Path | None = None
) -> None:
    """Read, normalise and de-duplicate. DataError when rows break the format or none is left.

    `folder`: where rows wait while near-duplicates are looked for.
    """
    progress = progress or Progress()
    form = builders.find(config.builder).format if config.builder else config.format
    progress.total = sum(os.path.getsize(name) for name in files_of(config) if os.path.isfile(name))
    plan, chunks = conversion.plan(form, config.layout, config.tags, sources(config, progress), config.columns)
    cleaning = Redaction(tuple(config.redact), tuple(config.redact_regions))
    plan = replace(plan, redaction=cleaning, keep=tuple(config.keep))
    outcome.format = plan.form
    near = partial(dedupe.first_of_each, threshold=config.near_duplicates, folder=folder)
    found = conversion.converted(chunks, plan)
    fill(outcome, found, config.limit, config.split.group_by, near if config.near_duplicates else None)
    if outcome.broken and config.on_error == "refuse":
        more = f"\n... and {outcome.broken - 3} more" if outcome.broken > 3 else ""
        raise DataError(
            "\n".join(outcome.told)
            + more
            + "\nCorrect these rows, or set `on_error: reject` to move them to rejected.jsonl."
        )
    if not len(outcome.kept):
        raise DataError(
            f"{', '.join(config.files) or config.builder}: no row is left of {len(outcome.rejected)} read; "
            f"{dict(outcome.reasons)}"
        )


def divide(config: PrepareConfig, outcome: Outcome, kept: Path, out: Path) -> dict[str, int]:
    """Write train.jsonl and heldout.jsonl from the kept rows; how many rows each has, and how many are in neither."""
    sizes = Counter(outcome.groups)
    held = splitting.held(sizes, config.split, config.seed, heldout_share(config, outcome.format))
    trained = splitting.first(
        {name: rows for name, rows in sizes.items() if name not in held}, config.fraction, config.seed
    )
    sides = {name: Lines(out / f"{name}.jsonl") for name in ("train", "heldout")}
    with kept.open(encoding="utf-8") as lines:
        for line, group in zip(lines, outcome.groups, strict=True):
            if group in held or group in trained:
                sides["heldout" if group in held else "train"].append(line[:-1])
    for side in sides.values():
        side.close()
    kept.unlink()
    written = {name: len(side) for name, side in sides.items()}
    return {**written, "left_out": len(outcome.groups) - sum(written.values())}


def attribution(config: PrepareConfig) -> str:
    """Where the rows come from and under which terms, as Markdown."""
    if config.builder:
        found = builders.find(config.builder)
        versions = "".join(f"- {name} {builders.package_digest(name)}\n" for name in found.packages)
        return f"# Where these rows come from\n\n{found.attribution}\n\nRead from:\n{versions}"
    files = "".join(f"- {name} {digest(name)}\n" for name in files_of(config))
    return f"# Where these rows come from\n\nThe user's own files:\n{files}"
