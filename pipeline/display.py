"""What the terminal shows: the plan as a table, one line for a finished stage, colour only for people."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.redaction import redact
from pipeline.visible import on_terminal

if TYPE_CHECKING:
    from pipeline.planner import Plan

COLOURS = {
    "HIT": 32,
    "BUILT": 36,
    "RESUMED": 36,
    "BUILD": 33,
    "RESUME": 33,
    "FAILED": 31,
    "DAMAGED": 31,
    "GATED": 31,
    "SKIPPED": 90,
    "GATE": 32,
    "REFUSED": 31,
}


class Screen:
    """Text for people: on stdout, or on stderr when stdout belongs to `--json`. Texts from data do nothing there."""

    def __init__(self, json: bool = False) -> None:
        self.stream = sys.stderr if json else sys.stdout
        self.colour = self.stream.isatty() and "NO_COLOR" not in os.environ

    def say(self, text: str = "") -> None:
        print(on_terminal(redact(text)), file=self.stream, flush=True)

    def rewrite(self, text: str = "") -> None:
        """Text in place of the line under the cursor, which stays there."""
        print(f"\r\x1b[2K{on_terminal(redact(text))}", end="", file=self.stream, flush=True)

    def error(self, text: str) -> None:
        print(f"error: {on_terminal(redact(text))}", file=sys.stderr, flush=True)

    def status(self, word: str, width: int = 7) -> str:
        padded = word.ljust(width)
        return f"\x1b[{COLOURS[word]}m{padded}\x1b[0m" if self.colour and word in COLOURS else padded

    def plan(self, plan: "Plan") -> None:
        """One row for each node: status, name, kind, id, reason."""
        nodes = list(plan.nodes.values())
        width = max((len(node.name) for node in nodes), default=0)
        kinds = max((len(node.kind.name) for node in nodes), default=0)
        for node in nodes:
            self.say(
                f"  {self.status(node.status)} {node.name:{width}}  {node.kind.name:{kinds}}  {node.id}  {node.reason}"
            )

    def stage(self, name: str, record: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        shown = "  ".join(
            f"{key} {value:.4g}" for key, value in list(metrics.items())[:4] if isinstance(value, (int, float))
        )
        self.say(f"  {self.status(record['status'])} {name}  {duration(record['seconds'])}  {shown}".rstrip())

    def rows(self, rows: Sequence[Sequence[str]]) -> None:
        """Aligned columns."""
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
        for row in rows:
            self.say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def sentence(finding: Mapping[str, Any]) -> str:
    """A finding of a data check: what, how often, where to look, what to do."""
    shown = "".join(f"\n      {seen['file']}, line {seen['line']}: {seen['text']}" for seen in finding["examples"])
    place = f"{finding['data']}: " if finding.get("data") else ""
    accepted = f"\n      accepted: {finding['accepted']}" if finding.get("accepted") else ""
    return f"{place}{finding['code']}: {finding['message']}{shown}\n      {finding['remedy']}{accepted}"


def duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{seconds:.1f} s" if seconds < 90 else f"{minutes} min {int(seconds) % 60} s"
