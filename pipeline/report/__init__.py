"""The pages a run leaves behind: one self-contained HTML file and its Markdown twin."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_report(run_dir: Path, store_root: Path) -> Path:
    """Write report.html and report.md beside run_dir/run.json; return the path of the HTML page."""
    from pipeline.report.page import write_pages

    return write_pages(Path(run_dir), Path(store_root))


def write_folds(summary: Mapping[str, Any], folder: Path) -> tuple[Path, list[str]]:
    """Write folds.json, folds.html and folds.md; return the path of the HTML page and the lines for the terminal."""
    from pipeline.report.folds import lines, write_pages

    return write_pages(summary, folder), lines(summary)
