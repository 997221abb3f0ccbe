"""An artifact to be, its place in the configuration, and what stands above and below it in the graph."""

from dataclasses import dataclass, field
from typing import Any

from pipeline.registry import Kind
from pipeline.schema import StageConfig
from pipeline.store import Stored


@dataclass
class Node:
    """One artifact to be: a stage, a data set, the base or an evaluation. `inputs` and `data`: role -> node name."""

    name: str
    kind: Kind
    config: StageConfig
    inputs: dict[str, str]
    data: dict[str, str]
    payload: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    status: str = ""  # HIT | BUILD | RESUME
    reason: str = ""
    forced: bool = False
    stored: Stored | None = None  # what CURRENT names, if it is up to date
    pinned: bool = False  # the champion: taken from the store as it is, never built

    @property
    def parents(self) -> list[str]:
        return [*self.inputs.values(), *self.data.values()]

    @property
    def roles(self) -> dict[str, str]:
        """role -> node for everything the node reads; a data set's role is written `data.<role>`."""
        return {**self.inputs, **{f"data.{role}": name for role, name in self.data.items()}}


Nodes = dict[str, Node]


def where(node: Node) -> str:
    """The place of a node's settings in the configuration, for messages."""
    if node.name == "base":
        return "model"
    if node.pinned or node.name.startswith(("eval_", "check_")):
        return node.name
    return f"{'data' if node.kind.stage.produces == 'data' and not node.config.inputs else 'stages'}.{node.name}"


def located(place: str, message: str) -> str:
    """The message with its place in front, unless it names its own (`model.source=...`, `eval.suites...`)."""
    if place.startswith("eval_") and message.startswith("runtime."):
        return f"eval.{message}"  # all evaluations have this one
    own = message.startswith("eval.") if place.startswith("eval_") else message.startswith(f"{place}.")
    return message if own else f"{place}: {message}"


def above(name: str, nodes: Nodes) -> set[str]:
    """The node and everything it is made from."""
    return {name}.union(*(above(parent, nodes) for parent in nodes[name].parents))


def below(name: str, nodes: Nodes) -> set[str]:
    """The node and everything made from it."""
    return {other for other in nodes if name in above(other, nodes)}
