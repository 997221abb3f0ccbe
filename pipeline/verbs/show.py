"""`journeyman show`: the chain as a tree, each artifact above what it is made from; or all about one artifact."""

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.display import Screen, duration
from pipeline.errors import ConfigError
from pipeline.planned import first_fold, plan_of, require_stage

if TYPE_CHECKING:
    from pipeline.node import Nodes
    from pipeline.store import Store, Stored


def show(options: argparse.Namespace, screen: Screen) -> tuple[int, Any]:
    loaded, store, plan = plan_of(options, options.overrides)
    for line in first_fold((loaded, store, plan)):
        screen.say(line)
    if options.lineage and not options.names:
        raise ConfigError(f"show --lineage {options.lineage} needs a stage: {', '.join(plan.nodes)}")
    if not options.names:
        screen.say(f"{plan.experiment.name} in {store.root}")
        for line in tree(plan.nodes, _ends(plan.nodes), screen):
            screen.say(line)
        return 0, {"experiment": plan.experiment.name, "stages": plan.table(extra=True)}
    name = options.names[0]
    require_stage(name, plan)
    stored = plan.nodes[name].stored
    if stored is None:
        raise ConfigError(f"{name} is not built with this configuration; `journeyman run` builds it")
    if options.lineage:
        return _lineage(options.lineage, screen, store, stored)
    _artifact(screen, stored)
    screen.say()
    for line in tree(plan.nodes, [name], screen):
        screen.say(line)
    return 0, dict(stored.manifest)


def _lineage(form: str, screen: Screen, store: "Store", stored: "Stored") -> tuple[int, Any]:
    from pipeline.lineage import lineage, mermaid

    found = lineage(store, stored)
    screen.say(mermaid(found) if form == "mermaid" else json.dumps(found, indent=1))
    return 0, found


def _ends(nodes: "Nodes") -> list[str]:
    """What nothing else is made from, in build order."""
    used = {parent for node in nodes.values() for parent in node.parents}
    return [name for name in nodes if name not in used]


def tree(nodes: "Nodes", roots: list[str], screen: Screen) -> Iterator[str]:
    """Lines of `roots` and, indented below each, what it is made from; what was shown once is not opened again."""
    seen: set[str] = set()

    def below(name: str, before: str, after: str, role: str) -> Iterator[str]:
        node = nodes[name]
        again = " (above)" if name in seen and node.parents else ""
        label = f"{role}: " if role else ""
        yield f"{before}{label}{name}  {node.kind.name}  {screen.status(node.status, 0)}  {node.id}{again}"
        if name in seen:
            return
        seen.add(name)
        parents = [(role, parent) for role, parent in node.roles.items() if parent in nodes]
        for number, (its_role, parent) in enumerate(parents, 1):
            last = number == len(parents)
            yield from below(parent, after + ("└─ " if last else "├─ "), after + ("   " if last else "│  "), its_role)

    for root in roots:
        yield from below(root, "  ", "  ", "")


def _artifact(screen: Screen, stored: "Stored") -> None:
    manifest = stored.manifest
    size = sum(output["size"] for output in manifest["outputs"])
    screen.rows(
        [
            ("stage", f"{stored.stage} ({stored.kind})"),
            ("id", stored.id),
            ("attempt", stored.attempt),
            ("digest", stored.digest),
            ("folder", str(stored.path)),
            ("built", f"{manifest['started']}, {duration(manifest['seconds'])}"),
            ("size", f"{size / 2**20:.1f} MiB in {len(manifest['outputs'])} files"),
            *((f"input {role}", f"{item['id']} {item['attempt']}") for role, item in manifest["inputs"].items()),
            *((key, f"{value:.6g}") for key, value in manifest["metrics"].items()),
        ]
    )
