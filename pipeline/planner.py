"""What a run would do: for each node of the graph whether the store has it, and if not, why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.checkpoints import checkpoint_step
from pipeline.config.typed import nearest
from pipeline.errors import ConfigError
from pipeline.explain import why
from pipeline.folds import kfold
from pipeline.graph import make_nodes
from pipeline.node import Node, Nodes, above, below
from pipeline.schema import Experiment
from pipeline.store import Store, Stored, digests

if TYPE_CHECKING:
    from pipeline.remote import Remote


@dataclass
class Plan:
    experiment: Experiment
    nodes: Nodes  # in the order in which they are built
    remote: "Remote | None" = None  # where artifacts are looked for that are not here

    @property
    def to_build(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.status != "HIT"]

    def table(self, extra: bool = False) -> dict[str, dict[str, Any]]:
        """name -> {kind, id, status, reason}, for `plan --json`; `extra` adds attempt and digest."""
        rows: dict[str, dict[str, Any]] = {}
        for node in self.nodes.values():
            rows[node.name] = {"kind": node.kind.name, "id": node.id, "status": node.status, "reason": node.reason}
            if extra:
                rows[node.name]["attempt"] = node.stored.attempt if node.stored else None
                rows[node.name]["digest"] = node.stored.digest if node.stored else None
        return rows


def make_plan(
    experiment: Experiment,
    store: Store,
    *,
    start: str | None = None,
    until: str | None = None,
    force: Sequence[str] = (),
    remote: "Remote | None" = None,
) -> Plan:
    """Nodes with status and reason. `start`: rebuild it and all below; `until`: only it and what it needs.

    What only the `remote` has is a HIT whose folder is not here yet.
    """
    wanted = any(gate.against == "champion" for gate in experiment.gates.values())
    nodes = make_nodes(experiment, store.pinned(f"{experiment.name}-champion") if wanted else None)
    for flag, name in [("--from", start), ("--until", until), *(("--force", name) for name in force)]:
        if name is not None and name not in nodes:
            raise ConfigError(f"{flag} {name}: there is no such stage{nearest(name, nodes)}; known: {', '.join(nodes)}")
    forced = set(force) | (below(start, nodes) if start else set())
    if until is not None:
        keep = above(until, nodes)
        keep |= {name for made in keep if f"check_{made}" in nodes for name in above(f"check_{made}", nodes)}
        nodes = {name: node for name, node in nodes.items() if name in keep}
    for node in nodes.values():
        node.forced = node.name in forced
        _decide(node, nodes, experiment, store, remote)
    if start:
        _check_start(start, nodes)
    return Plan(experiment, nodes, remote)


def _decide(node: Node, nodes: Nodes, experiment: Experiment, store: Store, remote: "Remote | None") -> None:
    """Status and reason of one node, its parents being decided."""
    if node.pinned and node.stored:
        store.verify(node.stored, full=False, name=node.name)
        node.status, node.reason = "HIT", f"pinned: {node.stored.stage} of {node.stored.attempt}"
        return
    rebuilt = [name for name in node.parents if nodes[name].status != "HIT"]
    stored = store.current(node.kind.name, node.id) if not node.forced else None
    changed = stale_roles(node, nodes, stored) if stored and not rebuilt else []
    if stored and not rebuilt and not changed:
        store.verify(stored, full=False, name=node.name)
        node.status, node.reason, node.stored = "HIT", "up to date", stored
        return
    if remote and not node.forced and not rebuilt and (found := on_remote(node, nodes, store, remote)):
        node.status, node.reason, node.stored = "HIT", f"from {remote.url}", found
        return
    step = checkpoint_step(store.work(node.id) / "ckpt")
    node.status = "RESUME" if step else "BUILD"
    if node.forced:
        node.reason = "forced"
    elif stored:
        node.reason = _input_reason(
            node, rebuilt or changed, "is rebuilt" if rebuilt else "was rebuilt with another content"
        )
    else:
        last = store.last_built(experiment.name, node.name, kfold(experiment))
        node.reason = why(node.payload, node.roles, nodes, last)
    if step:
        node.reason += f"; continues at step {step}"


def on_remote(node: Node, nodes: Nodes, store: Store, remote: "Remote") -> Stored | None:
    """What the remote has of a node, if it was made from the inputs of now."""
    found = remote.current(store, node.kind.name, node.id)
    return found if found and not stale_roles(node, nodes, found) else None


def _input_reason(node: Node, names: Sequence[str], what: str) -> str:
    return "; ".join(
        dict.fromkeys(f"{'data set' if name in node.data.values() else 'input'} {name} {what}" for name in names)
    )


def stale_roles(node: Node, nodes: Nodes, stored: Stored) -> list[str]:
    """Parents whose content is no longer the one that the artifact was made from."""
    recorded = digests(stored.manifest["inputs"])
    now = {role: nodes[name].stored for role, name in node.roles.items()}
    return [node.roles[role] for role, parent in now.items() if parent is None or recorded.get(role) != parent.digest]


def _check_start(start: str, nodes: Nodes) -> None:
    missing = [name for name in nodes if name in above(start, nodes) and name != start and nodes[name].status != "HIT"]
    if missing:
        raise ConfigError(
            f"--from {start}: {', '.join(missing)} must be built first ({nodes[missing[0]].reason}); leave out --from"
        )


def inputs_of(node: Node, nodes: Nodes) -> Mapping[str, dict[str, str]]:
    """role -> {id, attempt, digest} of what the node is made from now; all parents are in the store."""
    return {role: nodes[name].stored.reference() for role, name in node.roles.items()}  # type: ignore[union-attr]
