"""What suites say beside their metric: further numbers, calibration, risk, examples side by side, remarks."""

from typing import Any

from pipeline.report import words
from pipeline.report.effect import Effect
from pipeline.report.plots import reliability, risk

COVERAGES = (0.25, 0.5, 0.75, 1.0)  # where the Markdown page reads the risk curve


def details(found: Effect) -> list[dict[str, Any]]:
    """Each suite of which a model has details. Curves are of the start and of the last model, examples of the last."""
    suites = list(dict.fromkeys(suite for summary in found.summaries.values() for suite in summary))
    by_suite = {suite: _of(suite, found) for suite in suites}
    return [_suite(suite, by_model) for suite, by_model in by_suite.items() if by_model]


def _of(suite: str, found: Effect) -> dict[str, dict[str, Any]]:
    """Model -> the suite's details, for models that have some."""
    read = {model: (summary.get(suite) or {}).get("details") or {} for model, summary in found.summaries.items()}
    return {model: detail for model, detail in read.items() if detail}


def _suite(suite: str, by_model: dict[str, dict[str, Any]]) -> dict[str, Any]:
    last = next(reversed(by_model))
    ends = {model: by_model[model] for model in dict.fromkeys([next(iter(by_model)), last])}
    return {
        "title": words.title(suite),
        "models": list(by_model),
        "metrics": _metrics(by_model),
        "reliability": [_reliability(model, detail["reliability"]) for model, detail in ends.items() if
                        (detail.get("reliability") or {}).get("bins")],
        "risk": risk({model: detail["risk"] for model, detail in ends.items() if detail.get("risk")}),
        "at": [_at(model, detail["risk"]) for model, detail in ends.items() if detail.get("risk")],
        "last": last,
        "examples": [_example(one) for one in by_model[last].get("examples") or []],
        "remarks": _remarks(by_model),
    }  # fmt: skip


def _metrics(by_model: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each further number with (value, interval) of every model."""
    read = [detail.get("metrics") or {} for detail in by_model.values()]
    names = list(dict.fromkeys(name for metrics in read for name in metrics))
    return [
        {"name": words.title(name), "cells": [_number(name, one.get(name) or {}) for one in read]} for name in names
    ]


def _number(name: str, found: dict[str, Any]) -> tuple[str, str]:
    low, high = found.get("low"), found.get("high")
    return words.metric_value(name, found.get("value")), words.interval(name, low, high) if low != high else ""


def _reliability(model: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": model,
        "diagram": reliability(found["bins"], start=0.0, unit="items"),
        "ece": words.metric_value("ece", found.get("ece")),
        "brier": words.metric_value("brier", found.get("brier")),
        "bins": [
            (words.share(part.get("confidence")), words.share(part.get("accuracy")), words.count(part.get("n")))
            for part in found["bins"] if part.get("n")
        ],
    }  # fmt: skip


def _at(model: str, points: list[dict[str, Any]]) -> tuple[str, list[tuple[str, str]]]:
    """The model, and (share answered, errors among these) where the curve first reaches each coverage."""
    read = [next((point for point in points if point["coverage"] >= at - 1e-9), points[-1]) for at in COVERAGES]
    return model, [(words.share(point["coverage"]), words.share(point["risk"])) for point in read]


def _example(found: dict[str, Any]) -> dict[str, Any]:
    rows = found.get("rows") or []
    return {"title": str(found.get("title") or ""), "rows": [
        {"prompt": row.get("prompt"), "answer": row.get("answer"), "word": _score(row.get("score"))} for row in rows
    ]}  # fmt: skip


def _score(score: Any) -> str:
    """Right and wrong for 1 and 0, which most scores are; any other number as it is."""
    number = words.finite(score)
    return "" if number is None else {0.0: "wrong", 1.0: "right"}.get(number, words.minus(f"{number:.3g}"))


def _remarks(by_model: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """(models that a sentence is about, the sentence); said once where all say the same."""
    said: dict[str, list[str]] = {}
    for model, detail in by_model.items():
        for sentence in detail.get("remarks") or []:
            said.setdefault(str(sentence), []).append(model)
    every = list(by_model)
    return [("" if models == every else ", ".join(models), sentence) for sentence, models in said.items()]
