"""The graph of an experiment: one node for every artifact, in build order, each with its payload and id."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.beside import roles, suitable
from pipeline.config.typed import nearest, typed
from pipeline.errors import ConfigError
from pipeline.fingerprint import digest_code
from pipeline.identity import artifact_id, payload_of
from pipeline.manifest import packages
from pipeline.node import Node, Nodes, located, where
from pipeline.references import MEASURABLE, check_gates, check_names, check_others, check_references
from pipeline.registry import kind
from pipeline.schema import Experiment, StageConfig, Suite
from pipeline.store import Stored

SAMPLES = ("production_sample", "domain_sample")  # data sets that say what the model will meet; checks compare
UPSTREAM = "upstream:"  # before the role in which a check reads what an earlier stage was trained on


def make_nodes(experiment: Experiment, champion: Stored | None = None) -> Nodes:
    """All nodes in build order, with payloads and ids; ConfigError for names, roles and references that do not fit.

    `champion`: a model of the store that is measured like the others, for gates to compare with.
    """
    stages = {name: _node(name, config) for name, config in experiment.stages.items()}
    check_names(stages, experiment.data)
    evals = _evaluations(experiment, stages)
    sets = {name: _node(name, config) for name, config in experiment.data.items()}
    checks = _checks(experiment, stages)
    pinned = {"champion": _champion(champion)} if champion else {}
    evals |= _evaluation(experiment, "champion", experiment.eval.suites, stages) if pinned else {}
    everything = {**sets, **pinned, **stages, **evals, **checks}
    if experiment.model.source or any("base" in node.inputs.values() for node in everything.values()):
        everything["base"] = _base(experiment)
    check_others(experiment.eval.suites, everything)
    for node in everything.values():
        if not node.pinned:
            check_references(node, everything)
    used = _used_sets(sets, [*stages.values(), *evals.values(), *checks.values()])
    ordered = _ordered({name: node for name, node in everything.items() if name not in sets or name in used}, evals)
    check_gates(experiment, ordered)
    for node in ordered.values():
        if not node.pinned:
            _identify(node, ordered, experiment.identity.code == "strict")
    return ordered


def _node(name: str, config: StageConfig) -> Node:
    return Node(name, kind(config.kind), config, dict(config.inputs), dict(config.data))


def _base(experiment: Experiment) -> Node:
    if not experiment.model.source:
        raise ConfigError(
            "model.source: a value is required and none is given; choose model=NAME or model.source=FOLDER"
        )
    return _node("base", kind("base").config(kind="base", model=experiment.model))  # type: ignore[call-arg]


def _champion(stored: Stored) -> Node:
    found = kind(stored.kind)
    if found.stage.produces != "model":
        raise ConfigError(
            f"the pinned champion is of kind '{stored.kind}', which is no model; pin a stage that makes one"
        )
    payload = dict(stored.manifest["payload"])
    config = StageConfig(kind=stored.kind)
    return Node("champion", found, config, {}, {}, payload, stored.id, stored=stored, pinned=True)


def _evaluations(experiment: Experiment, stages: Nodes) -> Nodes:
    """`eval_<stage>` of every model that is to be measured, on the suites that suit it; none without suites."""
    known = ["base", *(name for name, node in stages.items() if node.kind.stage.produces in MEASURABLE)]
    made = [name for name in known if name == "base" or stages[name].inputs]  # not what is imported, to judge
    wanted = made if experiment.eval.models is None else experiment.eval.models
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"eval.models: there is no model '{name}'{nearest(name, known)}; known: {', '.join(known)}"
            )
    if not experiment.eval.suites:
        return {}
    nodes: Nodes = {}
    for model in wanted:
        suites = _suites(experiment, stages[model]) if model in stages else experiment.eval.suites
        nodes |= _evaluation(experiment, model, suites, stages)
    return nodes


def _evaluation(experiment: Experiment, model: str, suites: dict[str, Suite], stages: Nodes) -> Nodes:
    """`eval_<model>` with the judges and opponents that its suites name; nothing where no suite is left for it."""
    policy = stages[model].inputs.get("policy") if model in stages else None
    suites = suitable(suites, model, policy, {name: _inputs(name, stages) for name in stages})
    if not suites:
        return {}
    engine = experiment.eval.engine
    chosen: dict[str, Any] = {} if engine == "own" else {"engine": engine}  # a kind from elsewhere may have no such key
    config = kind("evaluate").config(  # type: ignore[call-arg]
        kind="evaluate",
        inputs={"model": model, **roles(suites, policy)},
        data={suite.data: suite.data for suite in suites.values()},
        suites=suites,
        runtime=experiment.eval.runtime,
        **chosen,
    )
    return {f"eval_{model}": _node(f"eval_{model}", config)}


def _suites(experiment: Experiment, node: Node) -> dict[str, Suite]:
    """The suites on which the model of the node is measured."""
    every = experiment.eval.suites
    try:
        chosen = node.kind.stage().suites(node.config, every)
    except ConfigError as error:
        raise ConfigError(located(where(node), str(error))) from error
    if not chosen:
        raise ConfigError(f"{where(node)}: no suite of eval.suites asks its model anything; take the stage out")
    return {name: every[name] for name in every if name in chosen}


def _checks(experiment: Experiment, stages: Nodes) -> Nodes:
    """`check_<stage>` of every stage whose data has a contract: it reads that data, what will be measured, and samples.

    The tokenizer comes from the base. Nothing is made from a check but the data that a stage drops because of it: the
    stage reads that, and so do the checks of later stages, for the data that was trained on before them.
    """
    suites = [suite.data for suite in experiment.eval.suites.values()]
    measured = {f"measured_{name}": name for name in [*suites, *_own_measures(stages)]}
    samples = {name: name for name in SAMPLES if name in experiment.data}
    asked = {
        name: fields for name, node in stages.items() if (fields := node.kind.stage().contract(node.config)) is not None
    }
    contracts = {name: _merged(experiment.contract, fields["contract"]) for name, fields in asked.items()}
    dropping = [name for name, contract in contracts.items() if contract.get("leaks") == "drop"]
    nodes = {}
    for name, contract in contracts.items():
        before = [stages[stage] for stage in _before(stages[name], stages)]
        upstream = _upstream(before)
        left_out = {role: f"check_{node.name}" for role, (node, _) in upstream.items() if node.name in dropping}
        sets = {role: used for role, (_, used) in upstream.items()}
        plain = {
            "kind": "contract", "inputs": {"start": "base"},
            "data": {**sets, **trained_on(stages[name]), **measured, **samples},
            "after": [node.kind.name for node in before], **asked[name], "contract": contract,
        }  # fmt: skip
        config = typed(f"stages.{name}", kind("contract").config, plain)
        nodes[f"check_{name}"] = _node(f"check_{name}", config)
        nodes[f"check_{name}"].inputs |= left_out
    for name in dropping:
        stages[name].inputs["checked"] = f"check_{name}"
    return nodes


def _upstream(before: Sequence[Node]) -> dict[str, tuple[Node, str]]:
    """role -> (stage, data set) for all that earlier stages were trained on; `upstream:sft`: by the nearest sft."""
    found: dict[str, tuple[Node, str]] = {}
    for node in before:
        for role, used in trained_on(node).items():
            name = f"{UPSTREAM}{node.kind.name}"
            found[f"{UPSTREAM}{node.name}.{role}" if role != "train" or name in found else name] = node, used
    return found


def _own_measures(stages: Nodes) -> list[str]:
    """Data sets on whose held-out part a stage measures what it made itself."""
    return [
        node.data[role] for node in stages.values() for role in node.kind.stage().measures(node.config)
        if role in node.data
    ]  # fmt: skip


def trained_on(node: Node) -> dict[str, str]:
    """role -> data set, without those that a stage only measures itself on."""
    only = set(node.kind.stage().measures(node.config)) - {"train"}
    return {role: name for role, name in node.data.items() if role not in only}


def _merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings of settings, the second on top, key by key."""
    both = {
        key: _merged(common[key], own[key]) for key in common.keys() & own.keys() if isinstance(own[key], Mapping)
    }  # fmt: skip
    return {**common, **own, **both}


def _before(node: Node, stages: Nodes) -> list[str]:
    """The stages that the node is made from, through its policy and all other inputs, the nearest first."""
    found: list[str] = []
    nearest_first = list(node.inputs.values())
    for name in nearest_first:  # grows while it is read; a circle is found elsewhere
        if name in stages and name not in found:
            found.append(name)
            nearest_first += stages[name].inputs.values()
    return found


def _inputs(name: str, stages: Nodes) -> set[str]:
    """The models that the stage is made from: `_before`, and the base where it is one of them."""
    before = _before(stages[name], stages)
    return {model for stage in (name, *before) for model in stages[stage].inputs.values()}


def _used_sets(sets: Nodes, users: Iterable[Node]) -> set[str]:
    """Data sets that a stage or an evaluation reads, directly or through another data set; all if nothing reads any."""
    used: set[str] = set()
    waiting = [name for node in users for name in node.data.values()]
    while waiting:
        name = waiting.pop()
        if name in sets and name not in used:
            used.add(name)
            waiting += sets[name].data.values()
    return used or set(sets)


def _ordered(nodes: Nodes, evals: Nodes) -> Nodes:
    """Parents first; base, data, checks, then each stage followed by its evaluation. ConfigError for a cycle.

    A check of data that a stage makes stands before the stage that is trained on them.
    """
    known = _before_training(nodes)
    checks = [name for name in nodes if name in known and name.startswith("check_")]
    first = [name for name in ("base", *nodes) if name in known and name not in checks]
    wish = [*first, *checks, "eval_base", *(name for name in nodes if name not in evals and name not in first)]
    ordered: Nodes = {}

    def add(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ConfigError(f"the stages form a circle: {' -> '.join([*path[path.index(name) :], name])}")
        if name in ordered or name not in nodes:
            return
        start = ["eval_base"] if name in evals and name != "eval_base" else []  # most gates compare with it
        for parent in (*nodes[name].parents, f"check_{name}", *start):
            add(parent, (*path, name))
        ordered[name] = nodes[name]
        if f"eval_{name}" in nodes and name != "base":
            add(f"eval_{name}", ())

    for name in wish:
        add(name, ())
    return ordered


def _before_training(nodes: Nodes) -> set[str]:
    """The base, and the data sets and checks that need nothing else: no model is trained for them."""
    found = {"base"} & nodes.keys()
    while more := {
        name for name, node in nodes.items() if name not in found and node.kind.stage.produces in ("data", "findings")
        and found.issuperset(parent for parent in node.parents if parent in nodes)
    }:  # fmt: skip
        found |= more
    return found


def _identify(node: Node, nodes: Nodes, strict: bool) -> None:
    stage = node.kind.stage
    inputs = {role: nodes[name].id for role, name in node.inputs.items()}
    data = {role: nodes[name].id for role, name in node.data.items()}
    outside = _fingerprints(node)
    clash = sorted(data.keys() & outside.keys())
    if clash:
        raise ConfigError(f"{where(node)}: '{clash[0]}' is both a data role and the name of a fingerprint")
    code = {"digest": digest_code(stage.__module__), "packages": packages()} if strict else None
    node.payload = payload_of(node.kind.name, stage.version, node.config, inputs, {**data, **outside}, code)
    node.id = artifact_id(node.payload)


def _fingerprints(node: Node) -> dict[str, str]:
    try:
        return node.kind.stage().fingerprints(node.config)
    except OSError as error:
        raise ConfigError(f"{where(node)}: cannot read {error.filename}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(located(where(node), str(error))) from error
