"""Configs are data: what no YAML file and no override may hold, whoever wrote it.

Nothing is ever instantiated from a config. What is refused here would change from run to run, read the environment,
reach a library that runs what it is told, or take all memory before anything is checked.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse

from pipeline.errors import ConfigError
from pipeline.redaction import SECRET_NAME

# where and how one runs: a stage config may not look there
PLACES = ("store", "tracker", "launcher", "sweeper", "hydra")
FORBIDDEN = re.compile(r"\$\{\s*(now|hydra|oc\.env)\s*:")
VARIABLE = re.compile(r"oc\.env:(\w+)(,[^${}]*)?")
PLUGINS = ("hydra._internal.core_plugins.",)  # the defaults of Hydra itself, which are not used either
LARGEST = 2**20  # bytes of a config file
MOST_NODES = 100_000  # values of a config file once its aliases are written out


def refuse_code(value: Any, where: str = "") -> None:
    """ConfigError for a key `_target_` anywhere, and for text that would change from run to run or tell a secret."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "_target_":
                raise ConfigError(f"{where or 'the config'}: the key _target_ is refused; configs are data, not code")
            refuse_code(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            refuse_code(item, f"{where}[{i}]")
    elif isinstance(value, str) and "${" in value:
        _refuse_resolvers(value, where)


def _refuse_resolvers(text: str, where: str) -> None:
    called = list(resolvers(text))
    if where.split(".")[0] in PLACES:
        for call in called:
            _check_variable(call, where)
    elif called or FORBIDDEN.search(text):  # also in quotes: what is resolved once may be read again
        raise ConfigError(f"{where}: {text} would change from run to run; write the value itself")


def _check_variable(call: str, where: str) -> None:
    """A place may come from an environment variable that is named plainly and is no secret."""
    found = VARIABLE.fullmatch("".join(call.split()))
    if not found:
        raise ConfigError(f"{where}: ${{{call}}} is refused; only ${{oc.env:NAME}} and ${{oc.env:NAME,DEFAULT}} work")
    if SECRET_NAME.search(found[1]):
        raise ConfigError(f"{where}: {found[1]} looks like a secret, and what a config says is recorded; leave it out")


def resolvers(text: str) -> Iterator[str]:
    """What stands between the braces of every interpolation that calls a resolver, the outer before the inner."""
    try:
        waiting: list[Any] = [parse(text)]
    except GrammarParseError:
        return  # resolving will say what is wrong
    for node in waiting:  # grows while it is read
        if type(node).__name__ == "InterpolationResolverContext":
            yield node.getText()[2:-1]
        waiting += [node.getChild(i) for i in range(getattr(node, "getChildCount", lambda: 0)())]


def refuse_leftovers(value: Any, where: str = "") -> None:
    """ConfigError for resolved text that still looks like an interpolation: a later reading would resolve it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_leftovers(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            refuse_leftovers(item, f"{where}[{i}]")
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(f"{where}: '${{' begins an interpolation, also where it is escaped; leave it out")


# -- Hydra's own part -----------------------------------------------------------------------------------------------
def refuse_hydra(node: Mapping[str, Any]) -> None:
    """ConfigError for settings of Hydra itself, unresolved, that run code, set variables or write outside the store."""
    job = node.get("job") or {}
    for key, value in (
        ("callbacks", node.get("callbacks")),
        ("job.env_set", job.get("env_set")),
        ("job.env_copy", job.get("env_copy")),
        *((f"{log}.{part}", (node.get(log) or {}).get(part)) for log in LOGS for part in LOG_PARTS),
    ):
        if value:
            raise ConfigError(f"hydra.{key}: refused; configs are data, not code")
    for key, item in node.items():
        _refuse_targets(item, f"hydra.{key}", PLUGINS if key in ("launcher", "sweeper") else ())
    for key in ("run", "sweep"):
        folder = str((node.get(key) or {}).get("dir", ""))
        if not folder.startswith("${store.root}/") or ".." in folder:
            raise ConfigError(f"hydra.{key}.dir: {folder} is not in the store; Journeyman chooses the folder")
    if ".." in (part := str((node.get("sweep") or {}).get("subdir", ""))) or part.startswith("/"):
        raise ConfigError(f"hydra.sweep.subdir: {part} leaves the store; leave it out")


LOGS, LOG_PARTS = ("job_logging", "hydra_logging"), ("handlers", "formatters", "filters", "loggers")


def _refuse_targets(value: Any, where: str, allowed: Sequence[str]) -> None:
    if isinstance(value, Mapping):
        target = str(value.get("_target_") or "")
        if target and not target.startswith(tuple(allowed)):
            raise ConfigError(f"{where}: the key _target_ is refused; configs are data, not code")
        for key, item in value.items():
            _refuse_targets(item, f"{where}.{key}", allowed)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _refuse_targets(item, f"{where}[{i}]", allowed)


def refuse_searchpath(words: Iterable[str]) -> None:
    """ConfigError for an override that makes Hydra import a package in search of YAML."""
    for word in words:
        if word.lstrip("+~").startswith("hydra.searchpath"):
            raise ConfigError(f"{word}: refused, it may import code; give a folder with --config-dir")


# -- files ----------------------------------------------------------------------------------------------------------
def check_files(folders: Iterable[Path]) -> None:
    """ConfigError for a YAML file of these folders that would grow without bound, or that looks up its defaults."""
    for file in (file for folder in folders for file in sorted(folder.rglob("*.yaml"))):
        if file.stat().st_size > LARGEST:
            raise ConfigError(f"{file}: {file.stat().st_size} bytes; a config file has at most {LARGEST}")
        try:
            root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
            size = _size(root, {}) if root else 0
        except RecursionError:
            raise ConfigError(f"{file}: nested too deeply, or an alias that stands in its own anchor") from None
        except (yaml.YAMLError, UnicodeDecodeError):
            continue  # composing will say where
        if size > MOST_NODES:
            raise ConfigError(f"{file}: its aliases stand for more than {MOST_NODES} values; write them out")
        _check_defaults(file, root)


def _size(node: Any, known: dict[int, int]) -> int:
    """Values below a node with every alias written out; an anchor that holds itself never ends (RecursionError)."""
    if id(node) not in known:
        parts = node.value if isinstance(node.value, list) else []
        flat = [item for part in parts for item in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_size(item, known) for item in flat)
    return known[id(node)]


def _check_defaults(file: Path, root: Any) -> None:
    """The list `defaults` may name a group by another key of the config, never by a resolver."""
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    for key, value in entries:
        if key.value != "defaults":
            continue
        for node in _scalars(value):
            if next(resolvers(node.value), None):
                line = node.start_mark.line + 1
                raise ConfigError(f"{file}, line {line}: {node.value} would change from run to run; write the name")


def _scalars(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    else:
        for part in node.value:
            for item in part if isinstance(part, tuple) else (part,):
                yield from _scalars(item)
