"""Several models side by side: what a word of the command line means, and how the results of those models differ."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.typed import nearest
from pipeline.errors import ConfigError, StoreError
from pipeline.manifest import read_json
from pipeline.pins import pins
from pipeline.report.changes import changes
from pipeline.report.collect import Node, Run, read_run
from pipeline.report.effect import summary_of
from pipeline.report.words import Change
from pipeline.store import Store, Stored

LEAST = 4  # digits of an id that may stand for all


@dataclass(frozen=True)
class Model:
    """A measured model. `run`: the run.json that it was chosen from, empty for an artifact that was named itself."""

    name: str  # as the command line says it
    node: Node = field(repr=False)
    root: Path  # of its store
    run: dict[str, Any] = field(repr=False)

    @property
    def summary(self) -> dict[str, dict[str, Any]]:
        return summary_of(self.node)

    @property
    def id(self) -> str:
        return str(self.node.entry["id"])

    def json(self) -> dict[str, Any]:
        known = {key: self.run.get(key) for key in ("experiment", "run_id", "overrides", "exit")}
        evaluation = self.node.evaluation.entry["id"] if self.node.evaluation else None
        about = {"name": self.name, "stage": self.node.name, "id": self.id, "evaluation": evaluation}
        return {**about, "seconds": made_in(self), **known, "run_seconds": self.run.get("seconds")}


@dataclass(frozen=True)
class Comparison:
    """The models, and suite -> (summary, change against the first model) of each; a text is a reason for no change."""

    models: list[Model]
    suites: dict[str, list[tuple[dict[str, Any], Change | str | None]]]

    def json(self) -> dict[str, Any]:
        suites = [
            {"suite": suite, **_about(cells), "cells": [_cell(*cell) for cell in cells]}
            for suite, cells in self.suites.items()
        ]
        return {"models": [model.json() for model in self.models], "suites": suites}


def compare(models: Sequence[Model]) -> Comparison:
    """Every suite of any of the models, each model against the first one on the same items."""
    against = [_against(models[0], model) for model in models]
    suites = dict.fromkeys(suite for model in models for suite in model.summary)
    read = [model.summary for model in models]
    cells = {
        suite: [(one.get(suite, {}), change.get(suite)) for one, change in zip(read, against, strict=True)]
        for suite in suites
    }
    return Comparison(list(models), cells)


def _against(first: Model, other: Model) -> dict[str, Change | str]:
    """What has no change is missing in `first` or in both."""
    if first is other:
        return {}
    assert first.node.evaluation and other.node.evaluation
    missing = dict.fromkeys(other.summary.keys() - first.summary.keys(), f"{first.name} was not measured on it")
    return missing | changes(first.node.evaluation, other.node.evaluation, first.root / "cache" / "changes")


def _about(cells: Iterable[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
    one = next(summary for summary, _ in cells if summary)
    return {key: one.get(key) for key in ("metric", "higher_is_better")}


def _cell(summary: dict[str, Any], change: Change | str | None) -> dict[str, Any] | None:
    if not summary:
        return None
    value = {key: summary.get(key) for key in ("value", "low", "high", "n")}
    if isinstance(change, str):
        return {**value, "change": None, "reason": change}
    return {**value, "change": change._asdict() if change else None, "reason": ""}


def made_in(model: Model) -> float:
    """Wall seconds of building the model and all that it was made from, in whichever run that happened."""
    waiting, seen, total = [model.node.manifest], set(), 0.0
    while waiting:
        manifest = waiting.pop()
        if manifest.get("id") in seen:
            continue
        seen.add(manifest.get("id"))
        total += float(manifest.get("seconds") or 0.0)
        for one in (manifest.get("inputs") or {}).values():
            files = (model.root / "artifacts").glob(f"*/{one['id']}/{one['attempt']}/manifest.json")
            waiting += [read_json(file) for file in files]
    return round(total, 3)


# -- ranking ------------------------------------------------------------------------------------------------------
def ranked(models: Iterable[Model], suite: str) -> list[Model]:
    """The models measured on a suite, the best first; ConfigError for a suite that nobody was measured on."""
    models = list(models)
    there = [model for model in models if suite in model.summary]
    if not there:
        known = dict.fromkeys(suite for model in models for suite in model.summary)
        raise ConfigError(f"--rank {suite}: no such suite{nearest(suite, known)}; known: {', '.join(known)}")
    sign = -1 if there[0].summary[suite]["higher_is_better"] else 1
    return sorted(there, key=lambda model: sign * model.summary[suite]["value"])


def cells_of_sweep(word: str, store: Store) -> tuple[list[Model], dict[str, str]]:
    """The measured models of the multirun that a run was part of, and why others have none."""
    place, _, stage = word.partition(":")
    run = _run(place, store)
    root = _root(run) if run else store.root
    sweep = run.data.get("sweep") if run else None
    if not sweep:
        raise ConfigError(f"--rank with one name ranks the runs of its multirun, and '{word}' is of none; name more")
    files = sorted((root / "runs").glob("*/2*/run.json"))
    runs = [read_run(file.parent, root) for file in files if read_json(file).get("sweep") == sweep]
    common = set.intersection(*(set(one.data["overrides"]) for one in runs))
    models: list[Model] = []
    without: dict[str, str] = {}
    for one in runs:
        changed = (part.lstrip("+") for part in one.data["overrides"] if part not in common)
        name = " ".join(changed) or one.data["run_id"]
        try:
            models.append(_of_run(name, one, stage))
        except ConfigError as error:
            without[name] = str(error)
    return models, without


# -- what a word means --------------------------------------------------------------------------------------------
def find(word: str, store: Store) -> Model:
    """The measured model that a word means: a run or an experiment (`:STAGE` chooses in it), a pin, the id of one."""
    place, _, stage = word.partition(":")
    run, pinned = _run(place, store), pins(store).get(word)
    made = _by_id(word, store)
    meant = {"a run or an experiment": run, "a pin": pinned, "an artifact": made}
    several = [what for what, found in meant.items() if found]
    if len(several) > 1:
        raise ConfigError(f"'{word}' is {' and '.join(several)}; a run's folder, or more digits of an id, is clear")
    if run:
        return _of_run(word, run, stage)
    if pinned:
        return _of_artifact(word, store.read(store.root / pinned["path"]), store)
    if made:
        return _of_artifact(word, made, store)
    raise _unknown(word, place, store)


def _unknown(word: str, place: str, store: Store) -> ConfigError:
    experiments, pinned = sorted(folder.name for folder in (store.root / "runs").glob("*")), list(pins(store))
    return ConfigError(
        f"'{word}': no run, experiment, pin or artifact of {store.root} is called so"
        f"{nearest(place, [*experiments, *pinned])}; experiments: {', '.join(experiments) or 'none'}; pins: "
        f"{', '.join(pinned) or 'none'}. A run's folder or id, EXPERIMENT:STAGE and a model's id can be given as well"
    )


def _run(place: str, store: Store) -> Run | None:
    """A run by its folder, the latest one of an experiment, or the one whose id begins so."""
    if (Path(place) / "run.json").is_file():
        folder = Path(place).resolve()
        return read_run(folder, folder.parents[2])
    latest = store.runs(place) / "latest" / "run.json"
    if place and latest.is_file():
        return read_run(latest.parent.resolve(), store.root)
    files = [file for file in (store.root / "runs").glob("*/2*/run.json") if file.parent.name.startswith(place)]
    if len(files) > 1 and len(place) > LEAST:
        raise ConfigError(f"'{place}' is the beginning of {len(files)} runs; give more of it")
    return read_run(files[0].parent, store.root) if len(files) == 1 and len(place) > LEAST else None


def _root(run: Run) -> Path:
    """The store that a run is in."""
    return run.folder.resolve().parents[2]


def _by_id(word: str, store: Store) -> Stored | None:
    if len(word) < LEAST or any(char not in "0123456789abcdef" for char in word):
        return None
    found = store.find(word)
    if len(found) > 1:
        raise ConfigError(f"{word} is the beginning of {len(found)} ids; give more digits")
    return found[0] if found else None


def _of_run(name: str, run: Run, stage: str) -> Model:
    """The model of a stage, or the last one that the run measured."""
    measured = {node.name: node for node in (*run.prompted, *run.models) if summary_of(node)}
    own = [node for node in measured.values() if node.name != "champion"]
    if stage and stage not in measured:
        raise ConfigError(
            f"'{name}': the run {run.data['run_id']} measured no '{stage}'{nearest(stage, measured)}; measured: "
            f"{', '.join(measured) or 'nothing'}"
        )
    if not own:
        raise ConfigError(f"'{name}': the run {run.data['run_id']} measured no model (exit code {run.data['exit']})")
    return Model(name, measured[stage] if stage else own[-1], _root(run), run.data)


def _of_artifact(name: str, stored: Stored, store: Store) -> Model:
    """The model with the newest of its evaluations."""
    evaluations = [one for one in _evaluations(store) if one.manifest["inputs"]["model"]["digest"] == stored.digest]
    if not evaluations:
        raise ConfigError(
            f"'{name}' ({stored.stage}, kind {stored.kind}, {stored.id}): no evaluation of it is in the store; name a "
            "measured model"
        )
    newest = max(evaluations, key=lambda one: str(one.manifest["finished"]))
    return Model(name, _node(stored, _node(newest)), store.root, {})


def _evaluations(store: Store) -> list[Stored]:
    found = []
    for folder in sorted((store.root / "artifacts" / "evaluate").glob("*")):
        with suppress(StoreError):  # a damaged one is not what was asked for; the run that needs it says so
            found.append(store.current("evaluate", folder.name))
    return [stored for stored in found if stored]


def _node(stored: Stored, evaluation: Node | None = None) -> Node:
    entry = {"kind": stored.kind, **stored.reference()}
    return Node(stored.stage, entry, stored.path, dict(stored.manifest), {}, evaluation)
