"""What the checks of the data found, and where the quality page of each data set is."""

import os
from typing import Any
from urllib.parse import quote

from pipeline.report import words
from pipeline.report.collect import Node, Run
from pipeline.report.sections import box


def checks(run: Run) -> list[dict[str, Any]]:
    """Each check of the run with its findings, the worst first."""
    return [_check(node, run) for node in run.nodes.values() if node.entry.get("produces") == "findings"]


def _check(node: Node, run: Run) -> dict[str, Any]:
    findings = sorted(node.section("findings") or [], key=lambda found: list(words.LEVELS).index(found["level"]))
    numbers = {level: sum(found["level"] == level for found in findings) for level in words.LEVELS}
    return {
        **box(node),
        "of": node.name.removeprefix("check_"),
        "made": node.folder is not None,
        "found": words.findings(numbers),
        "pages": _pages(node, run),
        "findings": [_finding(found) for found in findings],
    }


def _pages(node: Node, run: Run) -> list[tuple[str, str]]:
    """(data set, link from the run's folder) for each page that the check wrote."""
    pages = sorted(node.folder.glob("quality/*/quality.html")) if node.folder else []
    return [(page.parent.name, quote(os.path.relpath(page, run.folder).replace(os.sep, "/"))) for page in pages]


def _finding(found: dict[str, Any]) -> dict[str, Any]:
    shown = {key: str(found.get(key) or "") for key in ("level", "code", "message", "remedy", "data", "accepted")}
    return {**shown, "share": f"{words.count(found.get('count'))} of {words.count(found.get('of'))}"}
