"""Fills the two templates with one view of the run."""

import json
from pathlib import Path
from typing import Any

from pipeline.report import outcome, plots, rendering, sections
from pipeline.report.checks import checks
from pipeline.report.collect import Run, read_run
from pipeline.report.details import details
from pipeline.report.diagnosis import diagnosis
from pipeline.report.effect import effect
from pipeline.report.judges import judges
from pipeline.report.matrix import matrix
from pipeline.report.prompting import prompting
from pipeline.report.reinforcement import reinforcement


def write_pages(run_dir: Path, store_root: Path) -> Path:
    """Write report.html and report.md into run_dir; return the HTML's path."""
    seen = view(read_run(run_dir, store_root), store_root)
    page = run_dir / "report.html"
    rendering.replace(page, rendering.html().get_template("report.html.j2").render(seen))
    rendering.replace(run_dir / "report.md", rendering.markdown().get_template("report.md.j2").render(seen))
    return page


def view(run: Run, store_root: Path) -> dict[str, Any]:
    cache = store_root / "cache" / "changes"
    found = effect(run, cache)
    return {
        "run": run.data,
        "head": outcome.headline(run, found),
        "description": str(run.config.get("description") or ""),
        "chain": sections.chain(run),
        "effect": found,
        "matrix": matrix(run),
        "prompting": prompting(run, found, cache),
        "details": details(found),
        "diagnosis": diagnosis(run),
        "gates": outcome.gates(run, found),
        "datasets": sections.datasets(run),
        "checks": checks(run),
        "training": sections.training(run),
        "judges": judges(run),
        "learned": reinforcement(run),
        "samples": sections.samples(run, found),
        "costs": sections.costs(run),
        "lineage": sections.lineage(run),
        "environment": sections.environment(run),
        "config": json.dumps(run.config, indent=2, ensure_ascii=False),
        "plot": plots,
    }
