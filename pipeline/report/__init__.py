"""The pages a run leaves behind: one self-contained HTML file and its Markdown twin."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.compare import Comparison
    from pipeline.sweeps.response import Response


def write_report(run_dir: Path, store_root: Path) -> Path:
    """Write report.html and report.md beside run_dir/run.json; return the path of the HTML page."""
    from pipeline.report.page import write_pages

    return write_pages(Path(run_dir), Path(store_root))


def write_folds(summary: Mapping[str, Any], folder: Path) -> tuple[Path, list[str]]:
    """Write folds.json, folds.html and folds.md; return the path of the HTML page and the lines for the terminal."""
    from pipeline.report.folds import lines, write_pages

    return write_pages(summary, folder), lines(summary)


def write_comparison(found: "Comparison", rank: str | None, page: Path, responses: "Sequence[Response]" = ()) -> None:
    """Write models side by side as one HTML page, with the response curves of a sweep."""
    from pipeline.report.comparison import write_page

    write_page(found, rank, page, responses)


def write_diagnosis(found: Mapping[str, Any], run_dir: Path, store_root: Path) -> list[str]:
    """Write the report of a run anew, now that it has a diagnosis.json; return the lines for the terminal."""
    from pipeline.report.diagnosis import lines
    from pipeline.report.page import write_pages

    return [*lines(found), f"report: {write_pages(run_dir, store_root)}"]
