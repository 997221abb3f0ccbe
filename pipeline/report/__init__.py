"""The pages a run leaves behind: one self-contained HTML file and its Markdown twin."""

from pathlib import Path


def write_report(run_dir: Path, store_root: Path) -> Path:
    """Write report.html and report.md beside run_dir/run.json; return the path of the HTML page."""
    from pipeline.report.page import write_pages

    return write_pages(Path(run_dir), Path(store_root))
