"""What an artifact was made from, up to the sources outside the store: as JSON or as a Mermaid graph."""

import re
from collections.abc import Mapping
from typing import Any

from pipeline.store import Store, Stored

FORMS = ("json", "mermaid")


def lineage(store: Store, stored: Stored) -> dict[str, Any]:
    """{artifact, nodes, edges} of everything above `stored`.

    A node is {id, kind, stage, attempt, digest, started, seconds, packages, sources}; `sources` are digests of what
    lies outside the store. A node that is no longer in the store has its reference alone. An edge is {from, to, role}.
    """
    nodes: dict[str, dict[str, Any]] = {}
    edges: list[dict[str, str]] = []
    waiting = [stored]
    for one in waiting:  # grows while it is read
        key = _key(one.reference())
        if "kind" in nodes.get(key, {}):
            continue
        nodes[key] = _node(one)
        for role, item in one.manifest["inputs"].items():
            edges.append({"from": _key(item), "to": key, "role": role})
            nodes.setdefault(_key(item), {**item})
            folders = (store.root / "artifacts").glob(f"*/{item['id']}/{item['attempt']}")
            waiting += [store.read(folder) for folder in folders]
    return {"artifact": _key(stored.reference()), "nodes": nodes, "edges": edges}


def _key(reference: Mapping[str, str]) -> str:
    return f"{reference['id']}/{reference['attempt']}"


def _node(one: Stored) -> dict[str, Any]:
    manifest = one.manifest
    data = manifest["payload"]["data"].items()
    sources = {name: digest for name, digest in data if f"data.{name}" not in manifest["inputs"]}
    return {
        **one.reference(),
        "kind": one.kind,
        "stage": one.stage,
        "started": manifest.get("started"),
        "seconds": manifest.get("seconds"),
        "packages": (manifest.get("env") or {}).get("packages", {}),
        "sources": sources,
    }


def mermaid(found: Mapping[str, Any]) -> str:
    """The same as the text of a Mermaid graph: artifacts as boxes, sources outside the store as cylinders."""
    names = {key: f"n{number}" for number, key in enumerate(found["nodes"])}
    lines = ["graph TD"]
    for key, node in found["nodes"].items():
        title = f"{node['stage']} ({node['kind']})" if "kind" in node else "no longer in the store"
        lines.append(f'  {names[key]}["{_text(title)}<br/>{_text(node["id"])}"]')
        for number, (source, digest) in enumerate(node.get("sources", {}).items()):
            label = f"{_text(source)}<br/>{_text(str(digest)[:60])}"
            lines.append(f'  {names[key]}s{number}[("{label}")] --> {names[key]}')
    lines += [f'  {names[edge["from"]]} -->|"{_text(edge["role"])}"| {names[edge["to"]]}' for edge in found["edges"]]
    return "\n".join([*lines, f"  style {names[found['artifact']]} stroke-width:3px"])


def _text(text: str) -> str:
    """Letters that a label may hold; all others by their number, as Mermaid has it."""
    return re.sub(r"[^\w .:/@=+()-]", lambda found: f"#{ord(found[0])};", text)
