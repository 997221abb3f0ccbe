"""The prompt baselines: what the untrained model reaches with a prompt alone, beside the tuned model."""

from pathlib import Path
from typing import Any

from pipeline.report import words
from pipeline.report.changes import changes
from pipeline.report.collect import Node, Run
from pipeline.report.effect import Cell, Effect, cell, judge, summary_of
from pipeline.report.words import Change


def prompting(run: Run, found: Effect, cache: Path) -> dict[str, Any] | None:
    """The suites that prompts were measured on. None without a prompt, or without a tuned model beside them."""
    prompts = [node for node in run.prompted if summary_of(node)]
    tuned = next((node for node in run.models if node.name == (found.models or [""])[-1]), None)
    if not prompts or tuned is None or tuned is run.models[0] or tuned.evaluation is None:
        return None
    columns = [*(node for node in run.models[:1] if node.name in found.models), *prompts]
    read = {node.name: summary_of(node) for node in (*columns, tuned)}
    against = {node.name: changes(node.evaluation, tuned.evaluation, cache) for node in columns if node.evaluation}
    suites = list(dict.fromkeys(suite for node in prompts for suite in read[node.name] if suite in read[tuned.name]))
    return {
        "prompts": [_column(node) for node in columns],
        "tuned": tuned.name,
        "rows": [_row(suite, columns, tuned.name, read, against) for suite in suites],
    }


def _column(node: Node) -> tuple[str, str]:
    """The prompt's name and what it is."""
    settings = node.config
    kinds = [
        f"{settings['examples']} examples" if settings.get("examples") else "",
        f"glossary of {len(settings['glossary'])} terms" if settings.get("glossary") else "",
        "system text" if settings.get("system") else "",
    ]
    return node.name, ", ".join(kind for kind in kinds if kind) or "bare prompt"


def _row(suite: str, columns: list[Node], tuned: str, read: dict[str, Any], against: dict[str, Any]) -> dict[str, Any]:
    mine = read[tuned][suite]
    moves = {node.name: against[node.name].get(suite) for node in columns if suite in read[node.name]}
    cells = [_cell(read[node.name].get(suite), mine, moves.get(node.name)) for node in columns]
    return {
        "name": words.title(suite),
        "direction": "higher is better" if mine.get("higher_is_better") else "lower is better",
        "cells": cells,
        "tuned": cell(mine, None),
        **_verdict(mine, moves),
    }


def _cell(prompt: dict[str, Any] | None, mine: dict[str, Any], move: Change | str | None) -> Cell:
    """The prompt's own value, and how the tuned model differs from it."""
    if prompt is None:
        return Cell("–")
    own, change = cell(prompt, None), cell(mine, move)
    return Cell(own.value, own.interval, change.change, change.span, change.tone, change.word, change.arrow)


def _verdict(mine: dict[str, Any], moves: dict[str, Change | str | None]) -> dict[str, str]:
    """Tuning earns its cost on a suite where it is clearly better than every prompt, the bare one included."""
    known = {name: move for name, move in moves.items() if isinstance(move, Change)}
    tones = {name: judge(mine, move) for name, move in known.items()}
    worse = [name for name, tone in tones.items() if tone == "bad"]
    level = [name for name in moves if tones.get(name) != "good"]
    if worse:
        return {"tone": "bad", "verdict": f"worse than {', '.join(worse)}"}
    if level:
        return {"tone": "flat", "verdict": f"not clearly better than {', '.join(level)}"}
    return {"tone": "good", "verdict": "better than every prompt"}
