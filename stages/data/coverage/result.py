"""What coverage says: findings, and tables for the quality page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.data.findings import Finding, Located


@dataclass(frozen=True)
class Table:
    """Plain values under the names of their columns; `reading` says in one line how to read them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    reading: str


@dataclass(frozen=True)
class Coverage:
    """Findings have the levels of DEFAULT_LEVELS; the tables are there whether anything is found or not."""

    findings: list[Finding]
    tables: list[Table]


@dataclass(frozen=True)
class Shortfall:
    """What a module of coverage found to be missing; `examples` are rows, each with the text to show."""

    code: str
    count: int
    of: int
    message: str
    remedy: str
    examples: Sequence[tuple[Located, str]] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


def percent(part: float, of: float) -> str:
    """'2.5 %' for a cell of a table."""
    return f"{100 * part / of:.1f} %" if of else "-"
