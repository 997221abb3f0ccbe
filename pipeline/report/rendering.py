"""From templates to pages: whatever stands in the data shows as itself, in HTML as in Markdown, and can do nothing."""

import os
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.redaction import redact
from pipeline.visible import visible

TEMPLATES = Path(__file__).parent / "templates"


def html(*folders: Path) -> Environment:
    """Templates of these folders, then of the report. Every value is escaped; nothing in it can become markup."""
    return _environment(*folders, autoescape=True, finalize=_shown)


def markdown(*folders: Path) -> Environment:
    """The same for Markdown; every value is escaped unless it went through `fence`."""
    made = _environment(*folders, finalize=escape_markdown)
    made.filters["fence"] = fence
    return made


def _environment(*folders: Path, **options: Any) -> Environment:
    loader = FileSystemLoader([*folders, TEMPLATES])
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def escape_markdown(value: Any) -> Any:
    """Text that shows as itself in a line or a table cell of Markdown."""
    if isinstance(value, Markup):
        return value
    text = " ".join(visible(str(value)).replace("&", "&amp;").replace("<", "&lt;").split("\n"))
    return re.sub(r"([\\`*_\[\]|#~$>])", r"\\\1", text)


def fence(value: Any) -> Markup:
    """Text as a code block whose fence is longer than any run of backticks in it."""
    text = visible(str(value if value is not None else "–"))
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{ticks}text\n{text}\n{ticks}")


def replace(path: Path, text: str) -> None:
    """Write the file whole or not at all, without secrets."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(redact(text), encoding="utf-8")
    os.replace(part, path)
