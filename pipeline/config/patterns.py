"""Gates that stand for several: `stage: every` and `suite: about=safety` written out for what an experiment has.

`conf/gates/retention.yaml` and `safety.yaml` are such gates and part of every experiment: whoever says what a suite is
`about` has gates on forgetting and safety after every stage that trains a model.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pipeline.errors import ConfigError
from pipeline.registry import kind
from pipeline.schema import Experiment, Gate

EVERY = "every"
ABOUT = "about="
SUBJECTS = ("general", "safety", "domain")
RELATIVE = ("improves", "not_worse")


def written_out(experiment: Experiment) -> dict[str, Gate]:
    """All gates of the experiment. NAME for a stage and a suite becomes NAME_STAGE_SUITE.

    A pattern gives way to a gate which says the same of the same stage, suite and model, and is silent where there is
    nothing to compare: a first stage has its input and the start in one.
    """
    patterns = {name: gate for name, gate in experiment.gates.items() if is_pattern(gate)}
    found = {name: gate for name, gate in experiment.gates.items() if name not in patterns}
    said = {_meaning(gate, experiment) for gate in found.values()}
    for pattern, gate in patterns.items():
        for name, made in _each(pattern, gate, experiment):
            if _meaning(made, experiment) in said:
                continue
            if name in experiment.gates:
                raise ConfigError(f"gates.{name}: the gate {pattern} makes one of this name; rename yours")
            said.add(_meaning(made, experiment))
            found[name] = made
    return found


def is_pattern(gate: Gate) -> bool:
    return gate.stage == EVERY or gate.suite.startswith(ABOUT)


def told(before: Mapping[str, object], after: Mapping[str, Gate]) -> list[str]:
    """A sentence on the gates that were written out; none if there are none. `before`: the gates as configured."""
    patterns = sorted((name for name in before if name not in after), key=len, reverse=True)
    made = [next(p for p in patterns if name.startswith(f"{p}_")) for name in after if name not in before]
    counts = ", ".join(f"{count} of {pattern}" for pattern, count in Counter(made).items())
    return [f"gates for every stage, by what suites are about: {counts} (docs/gates.md)"] if made else []


def _each(pattern: str, gate: Gate, experiment: Experiment) -> Iterator[tuple[str, Gate]]:
    for stage in _trained(experiment) if gate.stage == EVERY else [gate.stage]:
        for suite in _suites(pattern, gate.suite, experiment):
            made = replace(gate, stage=stage, suite=suite)
            if gate.rule not in RELATIVE or _comparable(made, experiment):
                parts = [pattern, *([stage] if gate.stage == EVERY else []), *([suite] if suite != gate.suite else [])]
                yield "_".join(parts), made


def _suites(pattern: str, suite: str, experiment: Experiment) -> list[str]:
    subject = suite.removeprefix(ABOUT)
    if subject == suite:
        return [suite]
    if subject not in SUBJECTS:
        raise ConfigError(f"gates.{pattern}.suite={suite}: suites are about {', '.join(SUBJECTS)}")
    return [name for name, one in experiment.eval.suites.items() if one.about == subject]


def _trained(experiment: Experiment) -> list[str]:
    """Stages that train a model which is evaluated."""
    models = experiment.eval.models
    return [
        name for name, config in experiment.stages.items()
        if kind(config.kind).stage.produces == "model" and (models is None or name in models)
    ]  # fmt: skip


def _comparable(gate: Gate, experiment: Experiment) -> bool:
    """Whether the other model is evaluated too, and is another one."""
    other, models = _other(gate, experiment), experiment.eval.models
    if other in ("champion", "prompting"):
        return True
    return bool(other) and other != gate.stage and (models is None or other in models)


def _other(gate: Gate, experiment: Experiment) -> str | None:
    if gate.against != "input":
        return gate.against
    return experiment.stages[gate.stage].inputs.get("policy") if gate.stage in experiment.stages else None


def _meaning(gate: Gate, experiment: Experiment) -> tuple[object, ...]:
    """What a gate says; that of an absolute rule is its bound."""
    rival = _other(gate, experiment) if gate.rule in RELATIVE else gate.value
    return gate.stage, gate.suite, gate.rule, rival
