"""Why a stage would run: the leaves of its payload that changed since the last run, followed up to the first cause."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.fingerprint import digest_code
from pipeline.folds import kfold
from pipeline.identity import ABSENT, Change, leaf_diff
from pipeline.manifest import packages
from pipeline.store import Store, Stored

if TYPE_CHECKING:
    from pipeline.node import Nodes
    from pipeline.planner import Plan

SHOWN = 3  # changes that a one-line reason spells out


def why(payload: Mapping[str, Any], roles: Mapping[str, str], nodes: "Nodes", last: Stored | None) -> str:
    """One line on why an id has no artifact, against the artifact that the last run used for this stage."""
    if last is None:
        return "nothing built yet"
    own, parents = split(last.manifest["payload"], payload, roles)
    parts = [_local(change) for change in own[:SHOWN]]
    if len(own) > SHOWN:
        parts.append(f"and {len(own) - SHOWN} more changes")
    for role, name in parents.items():
        parts.append(_parent(role, name, nodes))
    return "; ".join(dict.fromkeys(parts)) or "its artifact is no longer in the store"


def split(
    old: Mapping[str, Any], new: Mapping[str, Any], roles: Mapping[str, str]
) -> tuple[list[Change], dict[str, str]]:
    """Changes of the stage itself, and role -> node of the parents that changed (their ids differ)."""
    own, parents = [], {}
    for change in leaf_diff(old, new):
        role = change.key.removeprefix("inputs.")
        if role in roles and change.new != ABSENT:
            parents[role] = roles[role]
        else:
            own.append(Change(change.key.removeprefix("config."), change.old, change.new))
    return own, parents


def _local(change: Change) -> str:
    """A change in words: outside content by its name only, since two digests tell a reader nothing."""
    if change.key.startswith("data."):
        verb = "is new" if change.old == ABSENT else "is gone" if change.new == ABSENT else "changed"
        return f"{change.key.removeprefix('data.')} {verb}"
    return f"stage {change}" if change.key == "version" else str(change)


def _parent(role: str, name: str, nodes: "Nodes") -> str:
    hit = nodes[name].status == "HIT"
    if role.startswith("data."):
        return f"data set {name} changed" + ("" if hit else f": {nodes[name].reason}")
    return f"input {name} {'changed' if hit else 'is rebuilt'}"


@dataclass(frozen=True)
class Cause:
    """One change that makes a stage run: in `stage`, which may be far above the one that was asked about."""

    stage: str
    key: str  # "" when there is nothing to compare with
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.stage}: {_local(Change(self.key, self.old, self.new)) if self.key else self.new}"


@dataclass(frozen=True)
class Explanation:
    experiment: str
    stage: str
    id: str
    status: str
    reason: str
    causes: list[Cause]  # the one furthest up first
    way: list[str]  # the stages from that one down to this
    drift: list[str]  # advisory: recorded, not part of any id

    def json(self) -> dict[str, Any]:
        return asdict(self)


def explain(plan: "Plan", store: Store, name: str) -> Explanation:
    """What changed for one stage since the last run, and what else drifted."""
    node, order = plan.nodes[name], list(plan.nodes)
    causes = list({str(cause): cause for cause in _causes(plan, store, name)}.values())
    causes.sort(key=lambda cause: order.index(cause.stage))
    way = _way(plan, causes[0].stage, name) if causes else []
    drifts = drift(plan, store, name)
    return Explanation(plan.experiment.name, name, node.id, node.status, node.reason, causes, way, drifts)


def _way(plan: "Plan", start: str, end: str) -> list[str]:
    """The shortest way from a stage down to what is made from it."""
    ways = {end: [end]}
    waiting = [end]
    for name in waiting:  # grows while it is read, the nearest first
        for parent in plan.nodes[name].parents:
            if parent in plan.nodes and parent not in ways:
                ways[parent] = [parent, *ways[name]]
                waiting.append(parent)
    return ways[start]


def _causes(plan: "Plan", store: Store, name: str) -> list[Cause]:
    node, last = plan.nodes[name], _last(plan, store, name)
    if last is None:
        return [Cause(name, "", ABSENT, "nothing built yet")]
    own, parents = split(last.manifest["payload"], node.payload, node.roles)
    found = [Cause(name, change.key, change.old, change.new) for change in own]
    for role, parent in node.roles.items():
        if role in parents:
            found += _causes(plan, store, parent) or [Cause(name, role, *_ids(last, node.payload, role))]
        elif _content_changed(plan, last, role, parent):
            found += _causes(plan, store, parent) or [Cause(name, role, "content", "another content of the same id")]
    return found


def _last(plan: "Plan", store: Store, name: str) -> Stored | None:
    """What the last run used for the stage, a run of the same folds first."""
    return store.last_built(plan.experiment.name, name, kfold(plan.experiment))


def _ids(last: Stored, payload: Mapping[str, Any], role: str) -> tuple[Any, Any]:
    group, _, key = role.rpartition(".")
    return last.manifest["payload"][group or "inputs"].get(key), payload[group or "inputs"].get(key)


def _content_changed(plan: "Plan", last: Stored, role: str, parent: str) -> bool:
    stored = plan.nodes[parent].stored
    return stored is not None and last.manifest["inputs"].get(role, {}).get("digest") != stored.digest


def drifted(plan: "Plan", store: Store) -> list[str]:
    """Stages that are up to date although they were built by other code or packages than those of now."""
    return [name for name, node in plan.nodes.items() if node.status == "HIT" and drift(plan, store, name)]


def drift(plan: "Plan", store: Store, name: str) -> list[str]:
    """Differences that are recorded but not part of an id: the stage's code, package versions."""
    node = plan.nodes[name]
    stored = node.stored or _last(plan, store, name)
    if stored is None:
        return []
    found = []
    if stored.manifest.get("code_digest") != digest_code(node.kind.stage.__module__):
        found.append(
            "the stage's code changed since this was built (--force rebuilds; a higher Stage.version gives a new id)"
        )
    before, after = stored.manifest.get("env", {}).get("packages", {}), packages()
    changed = [
        Change(key, before.get(key), after.get(key))
        for key in sorted(before | after)
        if before.get(key) != after.get(key)
    ]
    return found + [f"package {change}" for change in changed]
