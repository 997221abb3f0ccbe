"""The page of a k-fold run: each value over all folds, gates, and how each chain ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.manifest import write_json
from pipeline.report import rendering, words

HEAD = ("model", "measured", "mean", "sd", "min", "max", "folds")
LOSS = "loss"  # in the place of a metric's name
ENDED = {0: "passed", 3: "refused"}  # exit code of a chain -> the word that the style sheet colours


def write_pages(summary: Mapping[str, Any], folder: Path) -> Path:
    """Write folds.json, folds.html and folds.md into `folder`, which stands beside the runs; return the HTML's path."""
    write_json(folder / "folds.json", summary)
    seen = view(summary)
    rendering.replace(folder / "folds.md", rendering.markdown().get_template("folds.md.j2").render(seen))
    page = folder / "folds.html"
    rendering.replace(page, rendering.html().get_template("folds.html.j2").render(seen))
    return page


def lines(summary: Mapping[str, Any]) -> list[str]:
    """The same as a table for the terminal."""
    seen = view(summary)
    table = [[*(row[key] for key in HEAD), " ".join(row["each"])] for row in seen["rows"]]
    found = ["", f"{seen['experiment']}: {seen['title']}"]
    found += _aligned([[*HEAD, "each fold"], *table]) if table else ["  nothing was measured"]
    found += [f"  gate {gate['name']}: {gate['told']}" for gate in seen["gates"]]
    for reason in dict.fromkeys(fold["reason"] for fold in seen["folds"] if fold["reason"]):
        which = ", ".join(fold["fold"] for fold in seen["folds"] if fold["reason"] == reason)
        found.append(f"  fold {which}: {reason}")
    return found


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    signs = ["<", "<", *">" * (len(widths) - 3), "<"]
    form = "  " + "  ".join(f"{{:{sign}{width}}}" for sign, width in zip(signs, widths, strict=True))
    return [form.format(*row).rstrip() for row in table]


def view(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Everything printed already, so that the pages and the terminal say the same."""
    folds = summary["folds"]
    rows = [_row(row["model"], row["suite"], row["metric"], row) for row in summary["suites"]]
    rows += [_row(row["stage"], "final loss", LOSS, row) for row in summary["losses"]]
    return {
        "experiment": summary["experiment"],
        "overrides": summary["overrides"],
        "title": _title(summary),
        "exit": summary["exit"],
        "labels": [fold["fold"] for fold in folds],
        "rows": rows,
        "gates": [_gate(gate, folds) for gate in summary["gates"]],
        "folds": [_fold(fold) for fold in folds],
    }


def _title(summary: Mapping[str, Any]) -> str:
    """What was run, and on how many folds the numbers stand."""
    sets = " and ".join(f"{name} (k = {k})" for name, k in summary["sets"].items())
    asked, finished = len(summary["folds"]), summary["finished"]
    short = "" if finished == asked else f"; {asked - finished} did not reach the end, so some numbers stand on fewer"
    return f"{finished} of {asked} folds of {sets}{short}"


def _row(model: str, measured: str, metric: str, row: Mapping[str, Any]) -> dict[str, Any]:
    better = row.get("higher_is_better")
    return {
        "model": model,
        "measured": measured,
        "metric": "" if metric == LOSS else metric.replace("_", " "),
        "way": "" if better is None else f"{'higher' if better else 'lower'} is better",
        **{key: _number(metric, row[key]) for key in ("mean", "sd", "min", "max")},
        **({"sd": "same"} if row["same"] else {}),
        "folds": str(row["n"]),
        "each": [_number(metric, value) for value in row["values"]],
    }


def _number(metric: str, value: float | None) -> str:
    if metric == LOSS:
        return "–" if value is None else f"{value:.4f}"
    return words.metric_value(metric, value)


def _gate(gate: Mapping[str, Any], folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    missed = [fold["fold"] for fold, passed in zip(folds, gate["values"], strict=True) if passed is False]
    judged = "" if gate["judged"] == len(folds) else f", judged in {gate['judged']}"
    where = f", not in {', '.join(missed)}" if missed else ""
    return {**gate, "told": f"passed in {gate['passed']} of {len(folds)} folds{judged}{where}"}


def _fold(fold: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "fold": fold["fold"],
        "exit": fold["exit"],
        "word": ENDED.get(fold["exit"], "failed"),
        "reason": fold["reason"] or "",
        "took": words.duration(fold["seconds"]),
        "run": fold["run"] or "",
        "link": f"../{quote(fold['run'])}/report" if fold["run"] else "",
    }
