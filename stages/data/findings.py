"""What is wrong with a data set, or worth knowing: one finding for each kind of fault, with rows to look at."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

LEVELS = ("error", "warning", "info")
SHOWN = 3  # example rows of a finding
SHOWN_LETTERS = 160  # of an example row


@dataclass(frozen=True)
class Located:
    """A normalised row (see `rows`) and where its raw form stands."""

    row: dict[str, Any]
    file: str
    line: int


@dataclass(frozen=True)
class Seen:
    """A row as an example of a finding."""

    file: str
    line: int
    text: str


@dataclass(frozen=True)
class Finding:
    """`count` of `of` rows (or of what `message` speaks of) show it; `remedy` says what to do about it."""

    level: str  # of LEVELS; an error ends the run with exit code 4
    code: str  # snake_case, stable: what configurations and tests name it by
    count: int
    of: int
    message: str
    remedy: str
    examples: tuple[Seen, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)  # numbers behind it, for JSON and the quality report
    data: str = ""  # the data set, where there are several
    accepted: str = ""  # the reason for which a person accepts it

    def json(self) -> dict[str, Any]:
        return asdict(self)


def seen(rows: Iterable[tuple[Located, str]]) -> tuple[Seen, ...]:
    """The first rows, each with the piece of text that shows the fault, cut to a line."""
    found = []
    for located, text in rows:
        line = " ".join(text.split())
        found.append(
            Seen(located.file, located.line, line if len(line) <= SHOWN_LETTERS else f"{line[:SHOWN_LETTERS]}…")
        )
        if len(found) == SHOWN:
            break
    return tuple(found)


def worst(findings: Sequence[Finding]) -> str | None:
    """The highest level among them, or None where there are none."""
    levels = {finding.level for finding in findings}
    return next((level for level in LEVELS if level in levels), None)
