"""Reward models: how often they are right on held-out pairs, and whether their probabilities mean what they say."""

from typing import Any

from pipeline.report import words
from pipeline.report.collect import Node, Run
from pipeline.report.plots import reliability
from pipeline.report.sections import box


def judges(run: Run) -> list[dict[str, Any]]:
    """Everything about each reward model whose results are there."""
    found = [(node, node.json("results/summary.json")) for node in run.judges]
    return [_judge(node, summary) for node, summary in found if summary]


def _judge(node: Node, summary: dict[str, Any]) -> dict[str, Any]:
    calibration, found = summary["calibration"], summary["accuracy"]
    return {
        **box(node),
        "accuracy": _share(found),
        "numbers": [
            ("Pairs held out", f"{words.count(summary['pairs'])}{_ties(summary['tied'])}"),
            ("Calibration error", f"{words.share(calibration['ece'])} (0 % where probabilities are true)"),
            ("Brier score", f"{calibration['brier']:.3f} (0.250 for a coin)"),
            ("Follows the length", f"rank correlation {words.minus(format(summary['length_correlation'], '+.2f'))}"),
            *_unsure(summary),
            *_scales(node),
        ],
        "diagram": reliability(calibration["bins"]),
        "bins": [_bin(part) for part in calibration["bins"] if part["n"]],
        "slices": [{"name": name.replace("=", ": ", 1), **_share(part)} for name, part in found["slices"].items()],
        "annotators": [
            (name or "(no name)", words.count(one["votes"]), words.share(one["right"]))
            for name, one in node.section("annotators").items()
        ] if node.section("annotators") else [],
        "alarms": [{"name": "", "detail": "", **alarm} for alarm in node.section("alarms")],
    }  # fmt: skip


def _ties(count: int) -> str:
    return f", {words.count(count)} of them ties, which count in the calibration only" if count else ""


def _share(found: dict[str, Any]) -> dict[str, str]:
    span = words.interval("accuracy", found["low"], found["high"])
    return {"value": words.share(found["value"]), "span": span, "n": words.count(found["n"])}


def _unsure(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """How far the members of an ensemble are apart."""
    if summary["members"] < 2:
        return []
    return [("Members", f"{summary['members']}, whose rewards differ by {summary['spread']:.2f} (standard deviation)")]


def _scales(node: Node) -> list[tuple[str, str]]:
    """What a reward of 0 and of 1 stands for."""
    said = node.section("normalisation")
    if not said:
        return []
    each = "; ".join(
        f"mean {words.minus(format(part['mean'], '.3g'))}, scale {part['scale']:.3g}" for part in said["members"]
    )
    return [("Reward 0", f"mean raw score of {words.count(said['count'])} {said['answers']}"), ("Raw scores", each)]


def _bin(part: dict[str, Any]) -> dict[str, str]:
    low, high = part["interval"]
    return {
        "range": f"{100 * part['low']:.0f} to {100 * part['high']:.0f} %",
        "confidence": words.share(part["confidence"]),
        "accuracy": words.share(part["accuracy"]),
        "span": words.interval("accuracy", low, high),
        "n": words.count(part["n"]),
    }
