"""The layouts of rows: found by their fields, read to a form of the contract, and written again.

`layout` names how a file writes its rows (alpaca, sharegpt ...), `format` what they become (chat, preference ...).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pipeline.errors import ConfigError
from stages.data.formats import argilla, chats, labels, labelstudio, pairs, plain, votes
from stages.data.formats.layout import Layout, Row, from_internal, to_internal

__all__ = ["AUTO", "LAYOUTS", "Detected", "Layout", "detect", "find", "from_internal", "named", "to_internal"]

AUTO = "auto"
LAYOUTS: tuple[Layout, ...] = (  # the first that fits is a row's: those that ask for more fields come first
    *labelstudio.LAYOUTS,
    *argilla.LAYOUTS,
    *plain.MEASURED,
    *pairs.LAYOUTS,
    *votes.LAYOUTS,
    *labels.LAYOUTS,
    *plain.LAYOUTS[:2],
    *chats.LAYOUTS,
    *plain.LAYOUTS[2:],
)


@dataclass(frozen=True)
class Detected:
    """What most rows look like. `share`: of the rows that look so."""

    layout: Layout
    share: float


def find(raw: Row, form: str | None = None) -> Layout | None:
    """The layout that the row is written in, of those that become `form`."""
    return next((layout for layout in LAYOUTS if form in (None, layout.form) and layout.fits(raw)), None)


def detect(rows: Iterable[Any], form: str | None = None) -> Detected | None:
    """The layout that most of the rows are written in, or None when no row looks like any."""
    found = Counter(
        layout.name if layout else None
        for layout in (find(row, form) if isinstance(row, dict) else None for row in rows)
    )
    known = [(name, count) for name, count in found.most_common() if name is not None]
    if not known:
        return None
    name, count = known[0]
    return Detected(named(name, form), count / found.total())


def named(name: str, form: str | None = None) -> Layout:
    """The layout of that name. ConfigError for an unknown one, or for one that does not become `form`."""
    fits = [layout for layout in LAYOUTS if layout.name == name]
    if not fits:
        names = list(dict.fromkeys(layout.name for layout in LAYOUTS))
        near = get_close_matches(name, names, 1)
        meant = f" (did you mean '{near[0]}'?)" if near else ""
        raise ConfigError(f"unknown layout '{name}'{meant}; known: {', '.join(names)}")
    found = next((layout for layout in fits if form in (None, layout.form)), None)
    if found is None:
        raise ConfigError(f"layout {name} becomes format {fits[0].form}, not {form}; set `format: {fits[0].form}`")
    return found
