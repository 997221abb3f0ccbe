"""`journeyman compare`: the terminal's table, and an HTML page where one is asked for."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.display import Screen, duration
from pipeline.errors import ConfigError
from pipeline.planned import store_of

if TYPE_CHECKING:
    from pipeline.compare import Comparison, Model
    from pipeline.sweeps.response import Response

HELP = "compare A B [C ...] [--rank SUITE] [--out FILE.html], or compare RUN --rank SUITE for the runs of a multirun"


def compare(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    from pipeline import compare as comparing
    from pipeline.report import write_comparison
    from pipeline.sweeps.response import responses

    page = _page(options)
    models, without = _models(options)
    if options.rank:
        models = comparing.ranked(models, options.rank)
    found = comparing.compare(models)
    _show(screen, found, options.rank)
    curves = responses(models, options.rank) if options.rank else []
    _show_responses(screen, curves)
    for name, reason in without.items():
        screen.say(f"  not measured: {name}: {reason}")
    if page:
        write_comparison(found, options.rank, page, curves)
        screen.say(f"page: {page}")
    told = {"ranked_by": options.rank, "without": without, "responses": [curve.json() for curve in curves]}
    return 0, {**found.json(), **told}


def _page(options: argparse.Namespace) -> Path | None:
    page = Path(options.out) if options.out else None
    if page and (page.is_dir() or not page.parent.is_dir()):
        raise ConfigError(f"--out {page}: give a file in a folder that exists, such as comparison.html")
    return page


def _models(options: argparse.Namespace) -> "tuple[list[Model], dict[str, str]]":
    """The models to compare, and what has none."""
    from pipeline.compare import cells_of_sweep, find

    others = [word for word in options.overrides if not word.startswith("store.root=")]
    if others:
        raise ConfigError(f"'{others[0]}': compare takes names and store.root=FOLDER; {HELP}")
    store = store_of(options)
    if len(options.names) == 1 and options.rank:
        return cells_of_sweep(options.names[0], store)
    if len(options.names) < 2:
        raise ConfigError(HELP)
    return [find(name, store) for name in options.names], {}


def _show(screen: Screen, found: "Comparison", rank: str | None) -> None:
    """The models, then for each suite (only the one that is ranked by) a line for each of them."""
    from pipeline.report.comparison import lines

    told = [model.json() for model in found.models]
    screen.rows([("model", "stage", "id", "made in", "run took"), *(
        (one["name"], one["stage"], one["id"], duration(one["seconds"]),
         "" if one["run_seconds"] is None else duration(one["run_seconds"])) for one in told
    )])  # fmt: skip
    for title, rows in lines(found, rank):
        screen.say(f"\n{title}")
        screen.rows(rows)
    if rank:
        screen.say("\nThe best of many is favoured by luck; the intervals are not corrected for that.")


def _show_responses(screen: Screen, curves: "Sequence[Response]") -> None:
    """The score over each key that the cells differ in."""
    from pipeline.report.responses import lines

    for title, rows in lines(curves):
        screen.say(f"\n{title}")
        screen.rows(rows)
