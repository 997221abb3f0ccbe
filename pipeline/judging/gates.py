"""Gates: rules on measured results, judged anew in every run from stored per-item results. No model is loaded.

The four rules, with `change` counted so that more is better, an interval at the gate's `confidence`, and p of the
change (`pipeline/judging/significance.py`), which is small enough at 1 - confidence:
- improves: the whole interval of the change lies above `margin`, and p is small enough.
- not_worse: refused when the loss exceeds `margin` *and* p is small enough.
- at_least, at_most: the value itself, against `value`.

Why `not_worse` asks for both. A loss beyond the margin alone would refuse an unchanged model on a small suite by bad
luck; with p, an unchanged model is refused in at most (1 - confidence) / 2 of cases, whatever the size of the suite.
Asking for the whole interval to lie beyond the margin would instead miss most real losses; this way a loss is caught
once it is larger than both the margin and 1.96 standard errors. What passes but could still hide a loss beyond the
margin says so in its sentence. Why p and not the interval: on a few dozen items the percentiles of a bootstrap exclude
zero up to twice as often as they should.

One model is refused if any of its blocking `not_worse` gates refuses, so their chances of bad luck add up; p of those
that are judged together is corrected by Holm's method. Gates that must all be passed by a finding (`improves`) need no
correction, and neither do warnings, which stop nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from statistics import NormalDist

from pipeline.errors import ConfigError, DataError
from pipeline.judging import sentences
from pipeline.judging.power import POWER, detectable, standard_error
from pipeline.judging.results import Results
from pipeline.judging.significance import holm
from pipeline.judging.statistics import Change, estimate, paired, paired_change
from pipeline.schema import Gate

RELATIVE = ("improves", "not_worse")
ABSOLUTE = ("at_least", "at_most")
ACTIONS = ("block", "warn")
CORRECTIONS = ("holm", "none")
PROMPTING = "prompting"  # in place of a stage in `against`
CHAMPION = "champion"


@dataclass(frozen=True)
class GateResult:
    """A judged gate. `change` is relative for perplexity; `low` and `high` bound it, or the value of absolute rules.

    What an absolute rule does not have is NaN, and so is the other side of a gate against a champion before there is
    one. `seen_from`: the smallest real loss (for `improves`: gain) that this gate finds in 8 of 10 cases.
    """

    name: str
    stage: str
    suite: str
    rule: str
    against: str | None  # a stage; None for absolute rules
    value: float
    other: float  # the value of `against`, or the bound of an absolute rule
    change: float
    low: float
    high: float
    margin: float
    confidence: float
    passed: bool
    action: str
    sentence: str
    p: float = math.nan
    adjusted_p: float = math.nan  # p itself where nothing is corrected
    family: int = 1  # gates that p is corrected for
    seen_from: float = math.nan
    too_small: bool = False  # the suite cannot see a change of the size of the margin


@dataclass(frozen=True)
class Comparison:
    """A relative gate with one other model, measured. `family` and `adjusted_p` as in `GateResult`."""

    name: str
    gate: Gate
    against: str
    metric: str
    sign: int  # of a gain
    found: Change
    error: float  # standard error of the change, for perplexity of its logarithm
    smallest: float  # change that is seen
    family: int = 1
    adjusted_p: float = math.nan

    @property
    def corrected(self) -> bool:
        return self.gate.rule == "not_worse" and self.gate.action == "block" and self.gate.correction == "holm"

    @property
    def gain(self) -> float:
        return self.sign * self.found.change

    @property
    def span(self) -> tuple[float, float]:
        """The interval of the gain."""
        worst, best = sorted((self.sign * self.found.low, self.sign * self.found.high))
        return worst, best

    @property
    def real(self) -> bool:
        """Whether the change is more than luck."""
        return self.adjusted_p <= 1 - self.gate.confidence + 1e-12

    @property
    def passed(self) -> bool:
        if self.gate.rule == "improves":
            return self.span[0] > self.gate.margin and self.real
        return not (self.gain < -self.gate.margin and self.real)

    @property
    def too_small(self) -> bool:
        return 0 < self.gate.margin < self.smallest

    @property
    def seen_from(self) -> float:
        if self.gate.rule == "improves":
            return self.gate.margin + self.smallest
        return max(self.smallest, self.gate.margin + NormalDist().inv_cdf(POWER) * self.error)


def check(
    gates: Mapping[str, Gate], stages: Iterable[str], suites: Iterable[str], inputs: Mapping[str, str] | None = None
) -> list[ConfigError]:
    """What is wrong with the gates, before anything runs. `stages`: the evaluated ones; `inputs`: stage -> policy."""
    stages, suites, inputs = list(stages), list(suites), inputs or {}
    problems: list[str] = []
    for name, gate in gates.items():
        problems += [f"gates.{name}.{problem}" for problem in _problems(gate, stages, suites, inputs)]
    return [ConfigError(problem) for problem in problems]


def _problems(gate: Gate, stages: list[str], suites: list[str], inputs: Mapping[str, str]) -> list[str]:
    found = [
        _unknown("stage", gate.stage, stages, "evaluated stages"),
        _unknown("suite", gate.suite, suites, "suites"),
        _unknown("rule", gate.rule, [*RELATIVE, *ABSOLUTE], "rules"),
        _unknown("action", gate.action, ACTIONS, "actions"),
        _unknown("correction", gate.correction, CORRECTIONS, "corrections"),
        "" if 0 < gate.confidence < 1 else f"confidence={gate.confidence}: it lies between 0 and 1, such as 0.95",
        _other_side(gate, stages, inputs) if gate.rule in RELATIVE else "",
        _bounds(gate),
    ]
    return [problem for problem in found if problem]


def _unknown(key: str, value: str, known: Iterable[str], what: str) -> str:
    known = list(known)
    if value in known:
        return ""
    near = get_close_matches(str(value), known, 1)
    return f"{key}={value}: {what} are {', '.join(known)}" + (f"; did you mean {near[0]}?" if near else "")


def _other_side(gate: Gate, stages: list[str], inputs: Mapping[str, str]) -> str:
    if gate.against == "input" and gate.stage in stages and gate.stage not in inputs:
        return f"against=input: '{gate.stage}' has no input model; name a stage"
    other = inputs.get(gate.stage, gate.against) if gate.against == "input" else gate.against
    if other in (PROMPTING, CHAMPION):
        return ""  # the graph knows which prompts are measured on the suite, the store which model is the champion
    if other == gate.stage:
        return f"against={gate.against}: that compares '{gate.stage}' with itself"
    return "" if other == "input" else _unknown("against", other, stages, "evaluated stages")


def _bounds(gate: Gate) -> str:
    if gate.rule in ABSOLUTE and gate.value is None:
        return f"value is missing: rule {gate.rule} needs the bound"
    if gate.rule in ABSOLUTE and gate.margin:
        return f"margin={gate.margin}: rule {gate.rule} reads `value` only; remove it"
    if gate.rule in RELATIVE and gate.value is not None:
        return f"value={gate.value}: rule {gate.rule} reads `margin` and `against` only; remove it"
    return "" if gate.margin >= 0 else f"margin={gate.margin}: a margin is not negative"


def judge(
    gates: Mapping[str, Gate], results: Mapping[str, Path], inputs: Mapping[str, str], prompts: Sequence[str] = ()
) -> list[GateResult]:
    """Every gate judged. `results`: stage -> folder of its evaluate artifact; `inputs`: stage -> its policy stage.

    `prompts`: what `against: prompting` compares with, of these whatever was measured on the gate's suite. Without
    results of `champion` there is none yet. Gates that are given together are corrected together.

    Raises ConfigError for a gate on what was not evaluated, DataError when two models saw different items.
    """
    return judge_results(gates, {stage: Results(folder) for stage, folder in results.items()}, inputs, prompts)


def judge_results(
    gates: Mapping[str, Gate], read: Mapping[str, Results], inputs: Mapping[str, str], prompts: Sequence[str] = ()
) -> list[GateResult]:
    """The same for results that are in memory."""
    for name, gate in gates.items():
        suites = read[gate.stage].summary if gate.stage in read else {gate.suite: {}}
        if errors := check({name: gate}, read, suites, inputs):
            raise errors[0]
    comparisons = [
        _compared(name, gate, against, read)
        for name, gate in gates.items()
        for against in _others(gate, read, inputs, prompts)
    ]
    by_gate: dict[str, list[Comparison]] = {}
    for comparison in _corrected(comparisons, read):
        by_gate.setdefault(comparison.name, []).append(comparison)
    return [_verdict(name, gate, by_gate.get(name, []), read) for name, gate in gates.items()]


def _others(
    gate: Gate, read: Mapping[str, Results], inputs: Mapping[str, str], prompts: Sequence[str]
) -> Sequence[str]:
    """The models that the gate compares with; none for absolute rules, or before there is a champion."""
    if gate.rule in ABSOLUTE or (gate.against == CHAMPION and CHAMPION not in read):
        return []
    if gate.against == PROMPTING:
        return [prompt for prompt in prompts if gate.suite in read[prompt].summary]
    return [inputs[gate.stage] if gate.against == "input" else gate.against]


def _compared(name: str, gate: Gate, against: str, read: Mapping[str, Results]) -> Comparison:
    summary = read[gate.stage].summary[gate.suite]
    if gate.suite not in read[against].summary:
        raise ConfigError(f"gates.{name}.suite={gate.suite}: '{against}' was not evaluated on it")
    one, other = read[gate.stage].items(gate.suite), read[against].items(gate.suite)
    try:
        found = paired_change(one, other, summary["metric"], gate.confidence)
        error = standard_error(paired(one, other))
    except ValueError as problem:
        raise DataError(f"gate {name}: `{gate.stage}` and `{against}` on {gate.suite}: {problem}") from None
    smallest = detectable(one, other, summary["metric"], gate.confidence)
    sign = 1 if summary["higher_is_better"] else -1
    return Comparison(name, gate, against, summary["metric"], sign, found, error, smallest, 1, found.p)


def _corrected(comparisons: Sequence[Comparison], read: Mapping[str, Results]) -> list[Comparison]:
    """The same with p corrected within each stage, and with what can be seen after the correction."""
    done = list(comparisons)
    for stage in {comparison.gate.stage for comparison in comparisons}:
        at = [i for i, each in enumerate(comparisons) if each.corrected and each.gate.stage == stage]
        for i, p in zip(at, holm([comparisons[i].found.p for i in at]), strict=True):
            each = comparisons[i]
            one, other = read[stage].items(each.gate.suite), read[each.against].items(each.gate.suite)
            smallest = detectable(one, other, each.metric, each.gate.confidence, len(at))
            done[i] = replace(each, family=len(at), adjusted_p=p, smallest=smallest)
    return done


def _verdict(name: str, gate: Gate, comparisons: Sequence[Comparison], read: Mapping[str, Results]) -> GateResult:
    if gate.rule in ABSOLUTE:
        return _absolute(name, gate, read[gate.stage])
    if not comparisons:
        return _unrivalled(name, gate, read[gate.stage])
    hardest = min(comparisons, key=lambda each: (each.passed, each.span))  # where it passes, all do
    found, sentence = hardest.found, sentences.relative(hardest)
    if gate.against == PROMPTING:
        sentence += f"; of {len(comparisons)} prompts the hardest to beat"
    return GateResult(
        name, gate.stage, gate.suite, gate.rule, hardest.against, found.value, found.other, found.change,
        found.low, found.high, gate.margin, gate.confidence, hardest.passed, gate.action, sentence,
        found.p, hardest.adjusted_p, hardest.family, hardest.seen_from, hardest.too_small,
    )  # fmt: skip


def _absolute(name: str, gate: Gate, results: Results) -> GateResult:
    metric = results.summary[gate.suite]["metric"]
    found = estimate(results.items(gate.suite), metric, gate.confidence)
    assert gate.value is not None  # checked above
    passed = found.value >= gate.value if gate.rule == "at_least" else found.value <= gate.value
    return GateResult(
        name, gate.stage, gate.suite, gate.rule, None, found.value, gate.value, found.value - gate.value, found.low,
        found.high, gate.margin, gate.confidence, passed, gate.action,
        sentences.absolute(name, gate, found, metric, passed),
    )  # fmt: skip


def _unrivalled(name: str, gate: Gate, results: Results) -> GateResult:
    """A gate against the champion before there is one: nothing can be worse than nothing."""
    value = estimate(results.items(gate.suite), results.summary[gate.suite]["metric"], gate.confidence).value
    return GateResult(
        name, gate.stage, gate.suite, gate.rule, CHAMPION, value, math.nan, math.nan, math.nan, math.nan,
        gate.margin, gate.confidence, True, gate.action, sentences.unrivalled(name, gate),
    )  # fmt: skip
