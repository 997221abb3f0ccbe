"""Fills the two templates with one view of the run."""

import json
import os
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import outcome, plots, sections
from pipeline.report.collect import Run, read_run
from pipeline.report.effect import effect

HERE = Path(__file__).parent / "templates"


def write_pages(run_dir: Path, store_root: Path) -> Path:
    """Write report.html and report.md into run_dir; return the HTML's path."""
    seen = view(read_run(run_dir, store_root), store_root)
    page = run_dir / "report.html"
    _replace(page, _html().get_template("report.html.j2").render(seen))
    _replace(run_dir / "report.md", _markdown().get_template("report.md.j2").render(seen))
    return page


def view(run: Run, store_root: Path) -> dict[str, Any]:
    found = effect(run, store_root / "cache" / "changes")
    return {
        "run": run.data,
        "head": outcome.headline(run, found),
        "description": str(run.config.get("description") or ""),
        "chain": sections.chain(run),
        "effect": found,
        "gates": outcome.gates(run),
        "datasets": sections.datasets(run),
        "training": sections.training(run),
        "samples": sections.samples(run, found),
        "costs": sections.costs(run),
        "lineage": sections.lineage(run),
        "environment": sections.environment(run),
        "config": json.dumps(run.config, indent=2, ensure_ascii=False),
        "plot": plots,
    }


def _environment(**options: Any) -> Environment:
    loader = FileSystemLoader(HERE)
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)


def _html() -> Environment:
    """Every value is escaped; nothing in the data can become markup."""
    return _environment(autoescape=True)


def _markdown() -> Environment:
    """Every value is escaped for Markdown unless it went through `fence`."""
    made = _environment(finalize=escape_markdown)
    made.filters["fence"] = fence
    return made


def escape_markdown(value: Any) -> Any:
    """Text that shows as itself in a line or a table cell of Markdown."""
    if isinstance(value, Markup):
        return value
    text = " ".join(str(value).replace("&", "&amp;").replace("<", "&lt;").split("\n"))
    return re.sub(r"([\\`*_\[\]|#~$>])", r"\\\1", text)


def fence(value: Any) -> Markup:
    """Text as a code block whose fence is longer than any run of backticks in it."""
    text = str(value if value is not None else "–")
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{ticks}text\n{text}\n{ticks}")


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
