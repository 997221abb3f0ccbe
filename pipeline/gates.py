"""Gates: rules on measured results, judged anew in every run from stored per-item results. No model is loaded.

The four rules, with `change` counted so that more is better, and an interval at the gate's `confidence`:
- improves: the whole interval of the change lies above `margin`.
- not_worse: refused when the loss exceeds `margin` *and* the interval of the change excludes zero.
- at_least, at_most: the value itself, against `value`.

Why `not_worse` asks for both. A loss beyond the margin alone would refuse an unchanged model on a small suite by bad
luck; with the interval, an unchanged model is refused in at most (1 - confidence) / 2 of cases, whatever the size of
the suite. Asking for the whole interval to lie beyond the margin would instead miss most real losses; this way a loss
is caught once it is larger than both the margin and 1.96 standard errors. What passes but could still hide a loss
beyond the margin says so in its sentence: that suite is too small to promise more.

`against: prompting` compares with the bare start and with every `baseline` measured on the suite, and passes only where
it passes against each. Asking for all of them keeps the level of a single comparison without a correction, and without
the bias of picking the best prompt first (intersection-union test, Berger 1982, Technometrics 24).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, DataError
from pipeline.schema import Gate
from pipeline.statistics import Change, Items, estimate, paired_change

RELATIVE = ("improves", "not_worse")
ABSOLUTE = ("at_least", "at_most")
ACTIONS = ("block", "warn")
PROMPTING = "prompting"  # against each prompt instead of one model


@dataclass(frozen=True)
class GateResult:
    """A judged gate. `change` is relative for perplexity; `low` and `high` bound it, or the value of absolute rules."""

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


class Results:
    """The results of one evaluated model, read when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder) / "results"

    @cached_property
    def summary(self) -> dict[str, dict[str, Any]]:
        return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))

    @cached_property
    def _items(self) -> dict[str, Items]:
        from pyarrow import parquet

        columns = ["suite", "item", "cluster", "score", "weight"]
        table = parquet.read_table(self.folder / "items.parquet", columns=columns)
        suites = table.column("suite").to_pylist()
        places: dict[str, list[int]] = {}
        for i, suite in enumerate(suites):
            places.setdefault(suite, []).append(i)
        ids, clusters = table.column("item").to_pylist(), table.column("cluster").to_pylist()
        scores, weights = table.column("score").to_numpy(), table.column("weight").to_numpy()
        return {
            suite: Items([ids[i] for i in at], [clusters[i] for i in at], scores[at], weights[at])
            for suite, at in places.items()
        }

    def items(self, suite: str) -> Items:
        return self._items[suite]


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
    if other == PROMPTING:
        return ""  # the graph knows which prompts are measured on the suite
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

    `prompts`: what `against: prompting` compares with, of these whatever was measured on the gate's suite.

    Raises ConfigError for a gate on what was not evaluated, DataError when two models saw different items.
    """
    read = {stage: Results(folder) for stage, folder in results.items()}
    return [_judge(name, gate, read, inputs, prompts) for name, gate in gates.items()]


def _judge(
    name: str, gate: Gate, read: Mapping[str, Results], inputs: Mapping[str, str], prompts: Sequence[str]
) -> GateResult:
    suites = read[gate.stage].summary if gate.stage in read else {gate.suite: {}}
    if errors := check({name: gate}, read, suites, inputs):
        raise errors[0]
    if gate.rule in ABSOLUTE:
        return _absolute(name, gate, read[gate.stage])
    if gate.against == PROMPTING:
        return _prompted(name, gate, read, [prompt for prompt in prompts if gate.suite in read[prompt].summary])
    return _relative(name, gate, read, inputs)


def _prompted(name: str, gate: Gate, read: Mapping[str, Results], prompts: Sequence[str]) -> GateResult:
    """The comparison with the prompt that is hardest to beat: where it passes, all do."""
    sign = 1 if read[gate.stage].summary[gate.suite]["higher_is_better"] else -1
    each = [_relative(name, replace(gate, against=prompt), read, {}) for prompt in prompts]
    hardest = min(each, key=lambda found: (found.passed, min(sign * found.low, sign * found.high)))
    return replace(hardest, sentence=f"{hardest.sentence}; of {len(each)} prompts the hardest to beat")


def _absolute(name: str, gate: Gate, results: Results) -> GateResult:
    metric = results.summary[gate.suite]["metric"]
    found = estimate(results.items(gate.suite), metric, gate.confidence)
    assert gate.value is not None  # checked above
    passed = found.value >= gate.value if gate.rule == "at_least" else found.value <= gate.value
    interval = f"{_level(gate)} interval {_number(found.low, metric)} to {_number(found.high, metric)}"
    asked = f"{gate.rule.replace('_', ' ')} {_number(gate.value, metric)}"
    sentence = (
        f"{name} {_verdict(gate, passed)}: {metric.replace('_', ' ')} of `{gate.stage}` on {gate.suite} is "
        f"{_number(found.value, metric)} ({interval}); asked is {asked}"
    )
    return GateResult(
        name, gate.stage, gate.suite, gate.rule, None, found.value, gate.value, found.value - gate.value,
        found.low, found.high, gate.margin, gate.confidence, passed, gate.action, sentence,
    )  # fmt: skip


def _relative(name: str, gate: Gate, read: Mapping[str, Results], inputs: Mapping[str, str]) -> GateResult:
    against = inputs[gate.stage] if gate.against == "input" else gate.against
    summary = read[gate.stage].summary[gate.suite]
    if gate.suite not in read[against].summary:
        raise ConfigError(f"gates.{name}.suite={gate.suite}: '{against}' was not evaluated on it")
    try:
        found = paired_change(
            read[gate.stage].items(gate.suite), read[against].items(gate.suite), summary["metric"], gate.confidence
        )
    except ValueError as error:
        raise DataError(f"gate {name}: `{gate.stage}` and `{against}` on {gate.suite}: {error}") from None
    passed, remark = _rule(gate, found, summary["higher_is_better"], summary["metric"])
    sentence = _compared(name, gate, against, found, summary["metric"], passed) + remark
    return GateResult(
        name, gate.stage, gate.suite, gate.rule, against, found.value, found.other, found.change, found.low, found.high,
        gate.margin, gate.confidence, passed, gate.action, sentence,
    )  # fmt: skip


def _rule(gate: Gate, found: Change, higher_is_better: bool, metric: str) -> tuple[bool, str]:
    """Whether the gate passes, and what a person should know beside the numbers."""
    sign = 1 if higher_is_better else -1
    gain, (worst, best) = sign * found.change, sorted((sign * found.low, sign * found.high))
    margin = _delta(gate.margin, metric).lstrip("+")
    if gate.rule == "improves":
        return worst > gate.margin, "" if worst > gate.margin else f"; the interval must lie beyond a gain of {margin}"
    if gain < -gate.margin and best < 0:
        return False, f"; at most {margin} worse is allowed"
    unsure = worst < -gate.margin
    return True, f"; not excluded: a loss beyond the margin of {margin}, the suite is small for it" if unsure else ""


def _compared(name: str, gate: Gate, against: str, found: Change, metric: str, passed: bool) -> str:
    interval = f"{_level(gate)} interval {_delta(found.low, metric)} to {_delta(found.high, metric)}"
    return (
        f"{name} {_verdict(gate, passed)}: {metric.replace('_', ' ')} of `{gate.stage}` on {gate.suite} is "
        f"{_number(found.value, metric)} against {_number(found.other, metric)} of `{against}` "
        f"({_delta(found.change, metric)}, {interval})"
    )


def _verdict(gate: Gate, passed: bool) -> str:
    return "passed" if passed else ("refused" if gate.action == "block" else "warned")


def _level(gate: Gate) -> str:
    return f"{100 * gate.confidence:g} %"


def _number(value: float, metric: str) -> str:
    return f"{value:.2f}" if metric == "perplexity" else f"{value:.3f}"


def _delta(value: float, metric: str) -> str:
    """A change as people read it: per cent for perplexity, else in units of the metric."""
    return f"{100 * value:+.1f} %" if metric == "perplexity" else f"{value:+.3f}"
