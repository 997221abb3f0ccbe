"""The configuration of a command: composed by Hydra once, remembered, and typed.

Hydra takes most of a second for forty files. What it made is kept in the store's cache under everything it read:
the overrides, the config files, the code of the schemas, the environment variables that the files name.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.config.patterns import told
from pipeline.config.search import config_folders, has_bfloat16, has_cuda, named, package_folder
from pipeline.config.typed import typed_experiment
from pipeline.fingerprint import combine
from pipeline.manifest import write_json
from pipeline.redaction import redacted
from pipeline.registry import load_kinds
from pipeline.schema import Experiment

KEPT = 50  # remembered compositions
VARIABLE = re.compile(r"oc\.env:\s*(\w+)")
_seen: dict[Path, str] = {}  # what this process composed, as JSON: a sweep composes all its cells before the first runs


@dataclass(frozen=True)
class Loaded:
    """A composed experiment and how it came about."""

    experiment: Experiment
    overrides: list[str]  # as given, and what the command chose
    resolved: dict[str, Any] = field(repr=False)
    chosen: list[str] = field(default_factory=list)  # sentences on what the command chose by itself
    opened: dict[str, int] = field(default_factory=dict)  # data set -> folds, where this is only the first of them


def load(
    overrides: Sequence[str], given: Sequence[str] = (), before_composing: Callable[[], None] = lambda: None
) -> Loaded:
    """Compose (or remember) and type; ConfigError with a sentence for every mistake a user can make.

    `before_composing` is called unless the composition is remembered: then there may well be something to build.
    """
    found = composed(overrides, given, before_composing)
    experiment, resolved = typed_experiment(found["resolved"]), found["resolved"]
    gates = {name: asdict(gate) for name, gate in experiment.gates.items()}
    chosen = [*found["chosen"], *told(resolved["gates"], experiment.gates)]
    return Loaded(experiment, found["words"], {**resolved, "gates": gates}, chosen)


def composed(
    overrides: Sequence[str], given: Sequence[str] = (), before_composing: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """{words, resolved, chosen} of `compose.Composition`, from memory where nothing that Hydra reads has changed."""
    folders = config_folders(given)
    load_kinds()
    memory = _memory(overrides, folders)
    found = _recall(memory) if memory else None
    if found is None:
        before_composing()
        from pipeline.config.compose import composition  # Hydra

        found = asdict(composition(overrides, folders))
        if memory:
            _remember(memory, found, overrides, folders)
    return found


def _memory(overrides: Sequence[str], folders: Sequence[Path]) -> Path | None:
    """The file in which this composition would be remembered; its name is a digest of all that Hydra reads."""
    if any(word.lstrip("+").startswith("hydra") for word in overrides):  # it may read what we do not know
        return None
    root = named("store.root", overrides) or os.environ.get("JOURNEYMAN_STORE") or "store"
    read = [*_yamls(folders), *_code(), *Path(__file__).parents[1].rglob("*.py")]
    parts = [("words", json.dumps([*overrides])), ("folders", json.dumps([str(f) for f in folders]))]
    parts += [("hydra", version("hydra-core")), ("omegaconf", version("omegaconf")), ("cuda", str(has_cuda()))]
    parts += [("bfloat16", str(has_bfloat16()))]
    parts += [("kinds", ",".join(load_kinds())), ("folder", str(Path.cwd()))]
    for file in sorted(set(read)):
        stat = file.stat()
        parts.append((str(file), f"{stat.st_size} {stat.st_mtime_ns}"))
    return Path(root) / "cache" / "compose" / f"{combine(parts)[:32]}.json"


def _code() -> list[Path]:
    """Files of the packages that bring stage kinds, loaded or not: what a command has imported so far says nothing."""
    names = {found.stage.__module__.partition(".")[0] for found in load_kinds().values()}
    modules = [sys.modules[name] for name in names]
    folders = [Path(folder) for module in modules for folder in getattr(module, "__path__", [])]
    alone = [Path(module.__file__) for module in modules if not hasattr(module, "__path__") and module.__file__]
    return [*alone, *(file for folder in folders for file in folder.rglob("*.py"))]


def _yamls(folders: Iterable[Path]) -> list[Path]:
    return [file for folder in (package_folder(), *folders) for file in folder.rglob("*.yaml")]


def _recall(memory: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, KeyError):
        found = json.loads(_seen.get(memory) or memory.read_text(encoding="utf-8"))
        if found["environment"] == _variables(found["environment"]):
            return dict(found)
    return None


def _remember(memory: Path, found: Mapping[str, Any], overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Keep the composition, also as a file in a store that exists already and can be written."""
    texts = [*overrides, *(file.read_text(encoding="utf-8") for file in _yamls(folders))]
    kept = {**found, "environment": _variables(name for text in texts for name in VARIABLE.findall(text))}
    with suppress(OSError, ValueError):  # ValueError: not a number, which typing will refuse
        _seen[memory] = json.dumps(kept, allow_nan=False)
        if not memory.parent.parent.is_dir() or redacted(found) != found:
            return
        memory.parent.mkdir(exist_ok=True)
        old = sorted(memory.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for file in old[: max(0, len(old) - KEPT + 1)]:
            file.unlink(missing_ok=True)
        write_json(memory, kept)


def _variables(names: Iterable[str]) -> dict[str, str]:
    """name -> digest of its value, which may be a secret."""
    return {name: combine([(name, os.environ.get(name, ""))]) for name in names}
