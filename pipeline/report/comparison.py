"""Models side by side, as lines for the terminal and as an HTML page."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.report import plots, rendering, words
from pipeline.report.effect import Cell, Row, row
from pipeline.report.responses import picture

if TYPE_CHECKING:
    from pipeline.compare import Comparison
    from pipeline.sweeps.response import Response


def write_page(found: "Comparison", rank: str | None, page: Path, responses: "Sequence[Response]" = ()) -> None:
    shown = {**view(found, rank), "pictures": [picture(one) for one in responses], "plot": plots}
    rendering.replace(page, rendering.html().get_template("compare.html.j2").render(shown))


def view(found: "Comparison", rank: str | None) -> dict[str, Any]:
    """Every number already printed."""
    return {
        "models": [_model(one) for one in (model.json() for model in found.models)],
        "first": found.models[0].name,
        "rank": words.title(rank) if rank else "",
        "rows": [row(suite, cells) for suite, cells in _ordered(found, rank)],
    }


def lines(found: "Comparison", rank: str | None) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """(title of a suite, a row for each model) for every suite, or only for the one that is ranked by."""
    for suite, cells in _ordered(found, rank)[: 1 if rank else None]:
        seen = row(suite, cells)
        names = [model.name for model in found.models]
        yield _title(suite, seen), [_line(name, cell) for name, cell in zip(names, seen.cells, strict=True)]


def _ordered(found: "Comparison", rank: str | None) -> list[tuple[str, list[Any]]]:
    return sorted(found.suites.items(), key=lambda pair: pair[0] != rank)


def _title(suite: str, seen: Row) -> str:
    return f"{suite} ({seen.direction}; {seen.size})"


def _line(name: str, cell: Cell) -> tuple[str, ...]:
    change = f"{cell.change} ({cell.span}) {cell.word}".strip() if cell.change else ""
    return name, cell.value, cell.interval, change


def _model(one: dict[str, Any]) -> dict[str, Any]:
    took = "–" if one["run_seconds"] is None else words.duration(one["run_seconds"])
    return {**one, "made": words.duration(one["seconds"]), "took": took}
