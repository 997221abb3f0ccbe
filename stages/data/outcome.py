"""What became of the rows that were read: kept, repaired or rejected, and all that is counted of them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stages.data.conversion import Chunk, Kept, Refused
from stages.data.split import group_of

FILE_BITS = 40  # of a place: the line; above them the number of the file
TOLD = 3  # messages about broken rows that are kept
REPEATED = ("duplicate", "near-duplicate")  # why a row is rejected that breaks nothing


class Sink(Protocol):
    """Takes lines of JSON: a list, or a file of any length."""

    def append(self, line: str, /) -> None: ...

    def __len__(self) -> int: ...


class Lines:
    """A file of lines that is written as it grows. What UTF-8 cannot say (half a surrogate pair) becomes its escape."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", encoding="utf-8", errors="backslashreplace")
        self.count = 0

    def append(self, line: str) -> None:
        self.file.write(line + "\n")
        self.count += 1

    def __len__(self) -> int:
        return self.count

    def close(self) -> None:
        self.file.close()


@dataclass
class Outcome:
    """Rows by what became of them; of the kept ones that went to a file only numbers are held."""

    kept: Sink = field(default_factory=list)
    rejected: Sink = field(default_factory=list)
    format: str = ""
    repaired: int = 0
    words: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    broken: int = 0  # of the rejected rows, those that break the format
    told: list[str] = field(default_factory=list)  # the first of these, as messages
    groups: list[str] = field(default_factory=list)  # of each kept row, what may not be divided
    clusters: set[int] = field(default_factory=set)
    files: dict[str, int] = field(default_factory=dict)  # name -> number
    seen: dict[int, int] = field(default_factory=dict)  # content key or hash of an id -> place where it was first

    @property
    def read(self) -> int:
        return len(self.kept) + len(self.rejected)

    def reject(self, file: str, found: Refused, kind: str) -> None:
        self.reasons[f"rejected: {kind}"] += 1
        row = {"file": file, "line": found.line, "code": found.code, "reason": found.reason, "row": found.raw}
        self.rejected.append(json.dumps(row, ensure_ascii=False, default=str))
        if kind not in REPEATED:
            self.broken += 1
            if len(self.told) < TOLD:
                self.told.append(f"{file}, line {found.line}: {found.reason}")

    def place(self, file: str, line: int) -> int:
        return self.files.setdefault(file, len(self.files)) << FILE_BITS | line

    def where(self, place: int) -> str:
        return f"{list(self.files)[place >> FILE_BITS]}, line {place & (1 << FILE_BITS) - 1}"


def fill(
    outcome: Outcome,
    found: Iterator[tuple[Chunk, list[Kept | Refused]]],
    limit: int = 0,
    group_by: str = "cluster",
    near: Callable[[Iterator[tuple[str, Kept]]], Iterator[tuple[str, Kept, str]]] | None = None,
) -> None:
    """Add converted rows: the first `limit` (0 = all) that repeat none, of these all that `near` finds no like of.

    `group_by`: the field whose equal values stay together. `near`: see `dedupe.first_of_each`.
    """
    rows = new(outcome, found, limit)
    for file, row, like in near(rows) if near else ((file, row, "") for file, row in rows):
        if like:
            reason = f"near-duplicate of {like}"
            outcome.reject(file, Refused(row.line, reason, json.loads(row.json), "near_duplicates"), "near-duplicate")
        else:
            keep(outcome, row, group_by)


def new(
    outcome: Outcome, found: Iterator[tuple[Chunk, list[Kept | Refused]]], limit: int
) -> Iterator[tuple[str, Kept]]:
    """The file and the row, for each that is neither broken nor a duplicate; the others are rejected."""
    count = 0
    for chunk, part in found:
        for row in part:
            if isinstance(row, Refused):
                outcome.reject(chunk.file, row, "broken")
            elif not duplicate(outcome, chunk.file, row):
                count += 1
                yield chunk.file, row
            if limit and count == limit:
                return


def duplicate(outcome: Outcome, file: str, row: Kept) -> bool:
    """Whether a row before it has its content or its id; then it is rejected."""
    place, name = outcome.place(file, row.line), None if row.id is None else hash(("id", row.id))
    if row.key in outcome.seen:
        first = outcome.where(outcome.seen[row.key])
        outcome.reject(
            file, Refused(row.line, f"same content as {first}", json.loads(row.json), "exact_duplicates"), "duplicate"
        )
        return True
    if name in outcome.seen:
        first = outcome.where(outcome.seen[name])
        reason = f"id '{row.id}' is taken by {first}; give every row its own id"
        outcome.reject(file, Refused(row.line, reason, json.loads(row.json), "repeated_id"), "id")
        return True
    outcome.seen[row.key] = place
    if name is not None:
        outcome.seen[name] = place
    return False


def keep(outcome: Outcome, row: Kept, group_by: str) -> None:
    outcome.kept.append(row.json)
    outcome.repaired += bool(row.repairs)
    outcome.reasons.update(f"repaired: {repair}" for repair in row.repairs)
    outcome.unused.update(row.unused)
    outcome.tasks[row.task] += 1
    outcome.tags.update(row.tags)
    outcome.words += row.words
    outcome.clusters.add(hash(row.cluster))
    outcome.groups.append(row.cluster if group_by == "cluster" else group_of(json.loads(row.json), group_by))


def describe(outcome: Outcome, sides: dict[str, int]) -> dict[str, Any]:
    """The quality report: rows_kept + rows_repaired + rows_rejected = rows_read."""
    return {
        "format": outcome.format,
        "rows_read": outcome.read,
        "rows_kept": len(outcome.kept) - outcome.repaired,
        "rows_repaired": outcome.repaired,
        "rows_rejected": len(outcome.rejected),
        "rows_train": sides["train"],
        "rows_heldout": sides["heldout"],
        "rows_left_out": sides["left_out"],
        "clusters": len(outcome.clusters),
        "words": outcome.words,
        "tasks": dict(outcome.tasks.most_common()),
        "tags": dict(outcome.tags.most_common()),
        "reasons": dict(outcome.reasons),
        "unused_fields": dict(outcome.unused),
    }
