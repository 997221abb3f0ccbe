"""What one node of the graph may name in another: roles, data sets, judges, and the models that gates compare."""

from collections.abc import Iterable, Mapping

from pipeline.beside import INPUT
from pipeline.config.typed import nearest
from pipeline.errors import ConfigError
from pipeline.node import Node, Nodes, where
from pipeline.schema import Experiment, Gate, Suite

MEASURABLE = ("model", "prompted")  # what makes something that can be evaluated
JUDGES = ("model", "reward")  # what can judge answers
RESERVED = ("base", "champion", "every")  # names with a meaning of their own


def check_names(stages: Iterable[str], sets: Iterable[str]) -> None:
    """ConfigError for a name that is taken, that is none, or that a stage and a data set share."""
    for group, names, others in (("stages", stages, set(sets)), ("data", sets, set())):
        for name in names:
            taken = name in RESERVED or name.startswith(("eval_", "check_"))
            if taken or not name.replace("-", "_").isidentifier():
                raise ConfigError(
                    f"{group}.{name}: not a free name ({', '.join(f'`{word}`' for word in RESERVED)}, `eval_...` and "
                    "`check_...` are taken; use letters and digits)"
                )
            if name in others:
                raise ConfigError(f"{group}.{name}: a data set has the same name; rename one of them")


def check_references(node: Node, nodes: Nodes) -> None:
    """Every role the kind consumes is there and nothing else, and names a node that makes what is needed."""
    place, consumes = where(node), dict(node.kind.stage().needs(node.config))
    consumes |= dict.fromkeys(
        node.inputs.keys() - node.config.inputs.keys(), "findings"
    )  # `_checks` has put them there
    if node.config.runtime.stall_minutes < 0:
        raise ConfigError(f"{place}.runtime.stall_minutes={node.config.runtime.stall_minutes}: at least 0")
    for role in node.inputs:
        if role not in consumes:
            raise ConfigError(
                f"{place}.inputs.{role}: kind '{node.kind.name}' has no such input{nearest(role, consumes)}"
            )
    for role in consumes:
        if role not in node.inputs:
            raise ConfigError(
                f"{place}.inputs.{role}: missing; name the stage to take it from, for example `{role}: base`"
            )
    for role, name in node.inputs.items():
        _check_makes(f"{place}.inputs.{role}", name, consumes[role], nodes)
    for role, name in node.data.items():
        _check_makes(f"{place}.data.{role}", name, "data", nodes)


def check_others(suites: Mapping[str, Suite], nodes: Nodes) -> None:
    """The data sets that suites name are there, and judges and opponents are stages that make what is needed."""
    for name, suite in suites.items():
        _check_makes(f"eval.suites.{name}.data", suite.data, "data", nodes)
        if suite.judge is not None:
            _check_makes(f"eval.suites.{name}.judge", suite.judge, "judge", nodes)
        if suite.against is not None and suite.against != INPUT:
            _check_makes(f"eval.suites.{name}.against", suite.against, "measurable", nodes)


def _check_makes(place: str, name: str, what: str, nodes: Nodes) -> None:
    wanted = {"measurable": MEASURABLE, "judge": JUDGES}.get(what, (what,))
    able = [n.name for n in nodes.values() if n.kind.stage.produces in wanted]
    if name not in nodes:
        raise ConfigError(
            f"{place}: there is no {_word(what)} '{name}'{nearest(name, able)}; known: {', '.join(able) or 'none'}"
        )
    if name not in able:
        made = nodes[name].kind.stage.produces
        if made == "prompted":
            raise ConfigError(
                f"{place}: '{name}' is a prompt before a model, which only evaluation reads; name a model: "
                f"{', '.join(able) or 'none'}"
            )
        raise ConfigError(
            f"{place}: '{name}' makes {made}, but {' or '.join(wanted)} is needed; known: {', '.join(able) or 'none'}"
        )


def _word(what: str) -> str:
    return {"model": "stage", "measurable": "model", "data": "data set", "reward": "reward model"}.get(what, what)


def check_gates(experiment: Experiment, nodes: Nodes) -> None:
    """A gate speaks of models that are evaluated, of a suite that exists, and of a rule that can be judged."""
    if not experiment.gates:
        return
    from pipeline.judging.gates import check  # numpy, only where there are gates

    evaluated = [name.removeprefix("eval_") for name in nodes if name.startswith("eval_")]
    problems = check(experiment.gates, evaluated, experiment.eval.suites, policies(nodes))
    problems = problems or [
        ConfigError(f"gates.{name}.suite={gate.suite}: {problem}")
        for name, gate in experiment.gates.items()
        if (problem := _unmeasured(gate, nodes))
    ]
    if problems:
        raise ConfigError("\n".join(str(problem) for problem in problems))


def _unmeasured(gate: Gate, nodes: Nodes) -> str:
    """What the gate compares and nobody measures."""
    missing = [model for model in (gate.stage, *rivals(gate, nodes)) if not _measured(model, gate.suite, nodes)]
    if missing:
        return f"'{missing[0]}' is not measured on it{_measured_instead(missing[0], nodes)}"
    if gate.against == "prompting" and not rivals(gate, nodes):
        return "no prompt is measured on it; add a stage of kind baseline, or compare with another stage"
    return ""


def _measured(model: str, suite: str, nodes: Nodes) -> bool:
    evaluation = nodes.get(f"eval_{model}")
    return evaluation is not None and suite in evaluation.config.suites  # type: ignore[attr-defined]


def _measured_instead(model: str, nodes: Nodes) -> str:
    evaluation = nodes.get(f"eval_{model}")
    suites = ", ".join(evaluation.config.suites) if evaluation else ""  # type: ignore[attr-defined]
    return f", but on {suites}: name one of these, or another stage" if suites else "; name another stage"


def policies(nodes: Nodes) -> dict[str, str]:
    """stage -> the stage that it continues."""
    return {name: node.inputs["policy"] for name, node in nodes.items() if "policy" in node.inputs}


def prompts(nodes: Nodes) -> list[str]:
    """What a trained model has to beat to be worth its training: the start as it is, and every baseline."""
    return ["base", *(name for name, node in nodes.items() if node.kind.stage.produces == "prompted")]


def rivals(gate: Gate, nodes: Nodes) -> list[str]:
    """The models a gate compares with; none for the absolute rules."""
    if gate.rule in ("at_least", "at_most"):
        return []
    if gate.against == "prompting":
        return [name for name in prompts(nodes) if _measured(name, gate.suite, nodes)]
    if gate.against == "champion":
        return ["champion"] if "champion" in nodes else []
    if gate.against == "input" and gate.stage in nodes:
        return [nodes[gate.stage].inputs["policy"]]
    return [gate.against]
