"""What a gate found, in one sentence for a person."""

import math
from typing import TYPE_CHECKING

from pipeline.schema import Gate

if TYPE_CHECKING:
    from pipeline.judging.gates import Comparison
    from pipeline.judging.statistics import Estimate


def relative(found: "Comparison") -> str:
    """`NAME passed: METRIC of STAGE on SUITE is ... against ... of OTHER (change, interval, p)`, and what to know."""
    gate, change, metric = found.gate, found.found, found.metric
    corrected = f", corrected for {found.family} gates {_p(found.adjusted_p)}" if found.family > 1 else ""
    return (
        f"{found.name} {_verdict(gate, found.passed)}: {metric.replace('_', ' ')} of `{gate.stage}` on {gate.suite} is "
        f"{_number(change.value, metric)} against {_number(change.other, metric)} of `{found.against}` "
        f"({_delta(change.change, metric)}, {_level(gate)} interval {_delta(change.low, metric)} to "
        f"{_delta(change.high, metric)}, {_p(change.p)}{corrected}){_remark(found)}"
    )


def absolute(name: str, gate: Gate, found: "Estimate", metric: str, passed: bool) -> str:
    assert gate.value is not None
    return (
        f"{name} {_verdict(gate, passed)}: {metric.replace('_', ' ')} of `{gate.stage}` on {gate.suite} is "
        f"{_number(found.value, metric)} ({_level(gate)} interval {_number(found.low, metric)} to "
        f"{_number(found.high, metric)}); asked is {gate.rule.replace('_', ' ')} {_number(gate.value, metric)}"
    )


def unrivalled(name: str, gate: Gate) -> str:
    return f"{name} passed: there is no champion yet with which `{gate.stage}` could be compared on {gate.suite}"


def size(value: float | None, metric: str) -> str:
    """The size of a change that can be seen; None: no change can."""
    if value is None:
        return "nothing"
    return f"{value:.1g}" if 0 < value < 0.0005 and metric != "perplexity" else _delta(value, metric).lstrip("+")


def _remark(found: "Comparison") -> str:
    margin = size(found.gate.margin, found.metric)
    if found.gate.rule == "improves":
        if found.passed:
            return ""
        remark = f"; the interval must lie beyond a gain of {margin}, and p be at most {1 - found.gate.confidence:.3g}"
        return remark + (f"; the suite is too small to see such a gain: {_smallest(found)}" if found.too_small else "")
    if not found.passed:
        return f"; at most {margin} worse is allowed"
    unsure = f"; not excluded: a loss beyond the margin of {margin}" if found.span[0] < -found.gate.margin else ""
    return unsure + (f"; the suite is too small to see its margin: {_smallest(found)}" if found.too_small else "")


def _smallest(found: "Comparison") -> str:
    return _seen("gain" if found.gate.rule == "improves" else "loss", found.seen_from, found.metric)


def _seen(what: str, least: float, metric: str) -> str:
    if not math.isfinite(least):
        return f"no {what} would be found, however large"
    return f"a {what} is found 8 times in 10 from {size(least, metric)} on"


def _verdict(gate: Gate, passed: bool) -> str:
    return "passed" if passed else ("refused" if gate.action == "block" else "warned")


def _level(gate: Gate) -> str:
    return f"{100 * gate.confidence:g} %"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def _number(value: float, metric: str) -> str:
    return f"{value:.2f}" if metric == "perplexity" else f"{value:.3f}"


def _delta(value: float, metric: str) -> str:
    """A change as people read it: per cent for perplexity, else in units of the metric."""
    return f"{100 * value:+.1f} %" if metric == "perplexity" else f"{value:+.3f}"
