"""Reads a run back from disk: run.json, the manifests, results and histories of its artifacts.

A run may have stopped anywhere, so whatever was never written is read as empty; what was written must parse.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.names import inside

MADE = ("HIT", "BUILT", "RESUMED")  # statuses that leave an artifact to read
FIRST = ("base", "champion")  # names that the engine gives
WORKED = ("BUILT", "RESUMED", "FAILED")  # statuses that cost time in this run


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty when there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@dataclass
class Node:
    """One node of the run's plan and the folder of its artifact (None if it has none)."""

    name: str
    entry: dict[str, Any]  # what run.json says about it
    folder: Path | None
    manifest: dict[str, Any]
    config: dict[str, Any]  # the stage's part of the experiment
    evaluation: "Node | None" = None  # of the model that this node made

    @property
    def kind(self) -> str:
        return str(self.entry.get("kind") or "?")

    @property
    def status(self) -> str:
        return str(self.entry.get("status") or "SKIPPED")

    @property
    def seconds(self) -> float:
        """Seconds spent on it in this run."""
        return float(self.entry.get("seconds") or 0.0)

    @property
    def parents(self) -> list[str]:
        return [str(name) for name in (self.config.get("inputs") or {}).values()]

    @property
    def sets(self) -> list[str]:
        return [str(name) for name in (self.config.get("data") or {}).values()]

    def json(self, relative: str) -> dict[str, Any]:
        return read_json(self.folder / relative) if self.folder else {}

    def section(self, name: str) -> Any:
        """A section of the manifest; empty when the stage recorded none."""
        return self.manifest.get(name) or {}

    def history(self) -> list[dict[str, Any]]:
        """The logged steps of a training stage, in order."""
        return self.lines("history.jsonl")

    def lines(self, relative: str) -> list[dict[str, Any]]:
        """The objects of a file of JSON Lines; none when there is no such file."""
        path = self.folder / relative if self.folder else None
        if path is None or not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


@dataclass
class Run:
    """A run with its nodes in the order of the plan."""

    data: dict[str, Any]
    folder: Path  # where run.json is and the report will be
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        return self.data.get("resolved_config") or {}

    @property
    def models(self) -> list[Node]:
        """Models, the start first, the champion before what the run itself made."""
        found = [node for node in self.nodes.values() if node.entry.get("produces") == "model"]
        return sorted(found, key=lambda node: FIRST.index(node.name) if node.name in FIRST else len(FIRST))

    @property
    def prompted(self) -> list[Node]:
        """Untrained models with a prompt."""
        return [node for node in self.nodes.values() if node.entry.get("produces") == "prompted"]

    @property
    def judges(self) -> list[Node]:
        """Reward models."""
        return [node for node in self.nodes.values() if node.entry.get("produces") == "reward"]

    @property
    def steps(self) -> list[Node]:
        """What is made one after another: models and reward models."""
        return [node for node in self.nodes.values() if node.entry.get("produces") in ("model", "reward")]

    @property
    def datasets(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.entry.get("produces") == "data"]

    @property
    def trained(self) -> list[Node]:
        return [node for node in self.steps if node.kind != "base" and node.name != "champion"]


def read_run(run_dir: Path, store_root: Path) -> Run:
    """The run recorded in run_dir/run.json, its artifacts read from the store."""
    data = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    run = Run(data, run_dir)
    parts = {**(run.config.get("data") or {}), **(run.config.get("stages") or {})}
    for name, entry in (data.get("stages") or {}).items():
        made = entry.get("path") and entry.get("status") in MADE
        folder = inside(store_root, entry["path"], f"{run_dir}/run.json") if made else None
        manifest = read_json(folder / "manifest.json") if folder else {}
        config = parts.get(name)
        run.nodes[name] = Node(name, entry, folder, manifest, config if isinstance(config, dict) else {})
    for node in (*run.models, *run.prompted):
        node.evaluation = run.nodes.get(f"eval_{node.name}")
    return run
