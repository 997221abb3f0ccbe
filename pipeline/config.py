"""From a command line to a checked `Experiment`: Hydra composes, the dataclasses judge, errors become sentences."""

import ctypes
import difflib
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from pipeline.errors import ConfigError
from pipeline.registry import kind, load_kinds
from pipeline.schema import Experiment, StageConfig

PLACES = ("store", "tracker", "hydra")  # where and how one runs: a stage config may not look there
OWN = "this experiment's own"
STAGE_KEY = re.compile(r"(stages|data)\.([^.=]+)\.([^.=]+)[^=]*=")
QUOTE, ESCAPED = "'", "\\'"  # in Hydra's override grammar
FORBIDDEN = re.compile(r"\$\{\s*(now|hydra|oc\.env)\s*:")
COMPOSED = (HydraException, OmegaConfBaseException, MarkedYAMLError)


@dataclass
class Loaded:
    """A composed experiment and how it came about."""

    experiment: Experiment
    overrides: list[str]  # as given, and what the command chose
    resolved: dict[str, Any] = field(repr=False)
    chosen: str | None = None  # a sentence on what the command chose by itself


def register_schemas() -> None:
    """Tell Hydra the types: `schema`, `base_<kind>` of group `stage`, and of group `data` for kinds that make data."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Experiment)
    for name, found in load_kinds().items():
        store.store(name=f"base_{name}", group="stage", node=found.config(kind=name))
        if found.stage.produces == "data":
            store.store(name=f"base_{name}", group="data", node=found.config(kind=name))


def load(overrides: Sequence[str], folders: Sequence[str] = ()) -> Loaded:
    """Compose and check; ConfigError with a sentence for every mistake a user can make."""
    register_schemas()
    path = search_path(folders)
    words, chosen = _with_budget(list(overrides), path)
    cfg, budget = _compose_stages(words, path)
    own = cfg.get("budget")
    if chosen and own and own != budget:  # the experiment got its budget from another experiment
        words, chosen = [*words[:-1], f"budget={own}"], _choice(own, OWN)
        cfg, budget = _compose_stages(words, path)
    _drop_foreign(cfg, budget, words, path)
    with open_dict(cfg):
        cfg.budget = budget
    refuse_code(OmegaConf.to_container(cfg, resolve=False))
    resolved = _resolve(cfg)
    return Loaded(_typed_experiment(resolved), words, resolved, chosen)


def search_path(folders: Sequence[str]) -> list[str]:
    """The override that makes Hydra also look in `folders` and in ./conf; no override if there is neither."""
    found = []
    for folder in folders:
        if not Path(folder).is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder")
        found.append(Path(folder).absolute())
    own = Path("conf").absolute()
    if own.is_dir() and not (own / "config.yaml").exists():
        found.append(own)
    listed = ",".join(f"'file://{str(folder).replace(QUOTE, ESCAPED)}'" for folder in found)
    return [f"hydra.searchpath=[{listed}]"] if found else []


def store_root(overrides: Sequence[str], folders: Sequence[str] = ()) -> Path:
    """The store's folder, for verbs that need no experiment."""
    register_schemas()
    cfg, _ = _compose([*overrides, *search_path(folders)])
    return Path(cfg.store.root or "store")


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra set up for `compose`, also inside a cell of a multirun, whose own Hydra is put back afterwards."""
    current = GlobalHydra.instance()
    outer, current.hydra = current.hydra, None
    try:
        with initialize_config_module("conf", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def _compose(overrides: Sequence[str]) -> tuple[DictConfig, Mapping[str, str]]:
    """The untyped config, and the chosen option of every group."""
    try:
        with _hydra():
            cfg = compose("config", overrides=list(overrides), return_hydra_config=True)
    except COMPOSED as error:
        raise ConfigError(sentence(error, overrides)) from error
    choices = OmegaConf.to_container(cfg.hydra.runtime.choices)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices  # type: ignore[return-value]


def _compose_stages(words: Sequence[str], path: Sequence[str]) -> tuple[DictConfig, str | None]:
    """The config and its budget; overrides may also name what an experiment's own mapping leaves to its default."""
    try:
        cfg, choices = _compose([*words, *path])
    except ConfigError:
        completed = complete(words, path)
        if completed == list(words):
            raise
        cfg, choices = _compose([*completed, *path])
    return cfg, choices.get("budget")


def complete(words: Sequence[str], path: Sequence[str]) -> list[str]:
    """`words` with a `+` where Hydra wants one although the key is a field of the stage: `stages.first.seed=1` of a
    stage that is written in the experiment without `seed`."""
    matches = {word: STAGE_KEY.match(word) for word in words}
    rest = [word if "[" in word else word.partition(",")[0] for word, match in matches.items() if not match]
    try:
        cfg, _ = _compose([*rest, *path])
    except ConfigError:
        return list(words)
    return [f"+{word}" if match and _left_out(cfg, *match.groups()) else word for word, match in matches.items()]


def _left_out(cfg: DictConfig, group: str, name: str, key: str) -> bool:
    node = cfg[group].get(name)
    return _plain(node) and key not in node and key in _field_names(node)


def _plain(node: Any) -> bool:
    """Whether a stage is written in an experiment directly, so that Hydra does not know its type."""
    return isinstance(node, DictConfig) and OmegaConf.get_type(node) is dict


def _field_names(node: DictConfig) -> list[str]:
    try:
        return [item.name for item in fields(kind(node.get("kind") or "prepare").config)]
    except ConfigError:
        return []


def _files(group: str, path: Sequence[str], name: str = "*") -> list[Path]:
    """YAML files of a config group in the package and in the folders of the search path."""
    folders = [*importlib.import_module("conf").__path__]
    folders += [entry.replace(ESCAPED, QUOTE) for entry in re.findall(r"'file://((?:[^'\\]|\\')+)'", " ".join(path))]
    return [file for folder in folders for file in sorted(Path(folder, group).glob(f"{name}.yaml"))]


def _options(group: str, path: Sequence[str]) -> list[str]:
    return sorted({file.stem for file in _files(group, path)})


# -- budgets ------------------------------------------------------------------------------------------------------
def _with_budget(words: list[str], path: Sequence[str]) -> tuple[list[str], str | None]:
    """The words with a budget, and a sentence on it if nobody named it. `budget=none` is the experiment as written."""
    named = [word for word in words if word.lstrip("+").startswith("budget=")]
    if named and named[-1].partition("=")[2] in ("none", "null"):
        return [word for word in words if word not in named], None
    if named:
        return words, None
    name, why = _own_budget(words, path), OWN
    if name is None:
        name, why = ("gpu", "a CUDA device is present") if has_cuda() else ("cpu", "no CUDA device here")
        why += "; budget=NAME chooses another"
    if name not in _options("budget", path):
        return words, None
    return [*words, f"budget={name}"], _choice(name, why)


def _choice(name: str, why: str) -> str:
    return f"budget={name} ({why})"


def _own_budget(words: Sequence[str], path: Sequence[str]) -> str | None:
    """What the experiment's file pins, read without composing (which takes a while); `load` checks it afterwards."""
    names = [word.partition("=")[2] for word in words if word.lstrip("+").startswith("experiment=")]
    for file in _files("experiment", path, names[-1]) if names and "," not in names[-1] else []:
        match = re.search(r"^budget:\s*([\w-]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match[1]
    return None


def has_cuda() -> bool:
    """Whether there is a CUDA device, found without importing torch."""
    if Path("/proc/driver/nvidia/gpus").is_dir():
        return True
    try:
        cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        return cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


def _drop_foreign(cfg: DictConfig, budget: str | None, words: Sequence[str], path: Sequence[str]) -> None:
    """A budget may speak of stages that this experiment does not have; take those words out again."""
    spoken: list[tuple[str, Any]] = []
    for file in _files("budget", path, budget) if budget else []:
        written = OmegaConf.load(file)
        spoken += [(group, name) for group in ("stages", "data") for name in OmegaConf.select(written, group) or {}]
    nameless = [
        (group, name) for group, name in spoken if _plain(cfg[group].get(name)) and "kind" not in cfg[group][name]
    ]
    if not nameless:
        return
    others = [w for w in words if not w.lstrip("+").startswith("budget=") and not _speaks_of(w, nameless)]
    bare, _ = _compose_stages(others, path)
    with open_dict(cfg):
        for group, name in nameless:
            if name not in bare[group]:
                cfg[group].pop(name, None)


def _speaks_of(word: str, names: Iterable[tuple[str, Any]]) -> bool:
    return any(word.lstrip("+~").startswith(f"{group}.{name}.") for group, name in names)


# -- what a config may hold ---------------------------------------------------------------------------------------
def refuse_code(value: Any, where: str = "") -> None:
    """ConfigError for a key `_target_` anywhere, and for text of a stage that would change from run to run."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "_target_":
                raise ConfigError(f"{where or 'the config'}: the key _target_ is refused; configs are data, not code")
            refuse_code(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            refuse_code(item, f"{where}[{i}]")
    elif isinstance(value, str) and where.split(".")[0] not in PLACES and FORBIDDEN.search(value):
        raise ConfigError(f"{where}: {value} would change from run to run; write the value itself")


def _resolve(cfg: DictConfig) -> dict[str, Any]:
    """Plain values. What decides results is resolved without sight of the store and the tracker."""
    inner = cfg.copy()
    with open_dict(inner):
        for key in PLACES:
            inner.pop(key, None)
    try:
        resolved = OmegaConf.to_container(inner, resolve=True)
        places = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in PLACES if key in cfg}
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_first_line(error)}") from error
    return {**resolved, **places}  # type: ignore[dict-item]


def _typed_experiment(resolved: Mapping[str, Any]) -> Experiment:
    if not resolved.get("name") or resolved["name"] == "???":
        known = ", ".join(_options("experiment", search_path([]))) or "none yet"
        raise ConfigError(f"no experiment is chosen, or it has no `name`: give experiment=NAME (known: {known})")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", resolved["name"]):
        raise ConfigError(f"name: {resolved['name']!r} must be letters, digits, '-', '_' and '.'")
    model = {
        key: "" if value == "???" else value for key, value in resolved["model"].items()
    }  # not every chain has one
    plain = {key: value for key, value in resolved.items() if key not in ("stages", "data")} | {"model": model}
    experiment: Experiment = typed("", Experiment, plain)
    _check_choices(experiment)
    experiment.stages = {name: stage_config(f"stages.{name}", value) for name, value in resolved["stages"].items()}
    experiment.data = {name: stage_config(f"data.{name}", value, "prepare") for name, value in resolved["data"].items()}
    return experiment


def _check_choices(experiment: Experiment) -> None:
    """Fields of the experiment itself that are one of a few words."""
    for key, value, known in (
        ("identity.code", experiment.identity.code, ("record", "strict")),
        ("tracker.kind", experiment.tracker.kind, ("wandb", "none")),
        ("tracker.mode", experiment.tracker.mode, ("offline", "online")),
    ):
        if value not in known:
            raise ConfigError(f"{key}={value}: use {' or '.join(known)}{nearest(value, known)}")


def stage_config(where: str, value: Any, default: str | None = None) -> StageConfig:
    """A stage's or data set's mapping as the dataclass of its kind."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a mapping with `kind`, found {value!r}")
    name = value.get("kind", default)
    if name in (None, "???"):
        raise ConfigError(f"{where}: `kind` is missing; is '{where.split('.')[-1]}' misspelt or removed elsewhere?")
    config: StageConfig = typed(where, kind(name).config, {**value, "kind": name})
    return config


def typed(where: str, schema: type, plain: Mapping[str, Any]) -> Any:
    """`plain` as an instance of the dataclass `schema`; ConfigError names a wrong key and the nearest known one."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), plain)
    except OmegaConfBaseException as error:
        key = ".".join(part for part in (where, error.full_key) if part)
        raise ConfigError(_key_sentence(error, key)) from error
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        key = ".".join(part for part in (where, missing[0]) if part)
        raise ConfigError(f"{key}: a value is required and none is given")
    return OmegaConf.to_object(merged)


# -- errors -------------------------------------------------------------------------------------------------------
def sentence(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """What a composition error means: what is wrong, where, the nearest known name."""
    if isinstance(error, MissingConfigException):
        return _missing_sentence(error, overrides)
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read the override '{error.override}': {_first_line(error)}. Overrides look like stages.sft.seed=1"
        )
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}" if mark else "a config file"
        return f"{place}: not valid YAML: {error.problem}"
    text = str(error)
    if text.startswith("Ambiguous value"):
        key = text.split("'")[1] if "'" in text else ""
        return f"'{key}' has several values: `run -m` runs one after the other; key=[a,b] is a list"
    return _composed_sentence(error, overrides)


def _missing_sentence(error: MissingConfigException, overrides: Sequence[str]) -> str:
    match = re.search(r"(?:(In '[^']*'): )?Could not find '(?:(.*)/)?([^/']+)'", str(error))
    if not match:
        return _first_line(error)
    place, group, name = match.groups()
    known = _options(group, overrides) if group else []
    where = "" if place in (None, "In 'config'") else f"{place}: "
    listed = f"known: {', '.join(known)}" if known else f"there is no folder conf/{group}"
    return f"{where}unknown {group or 'config'} '{name}'{nearest(name, known)}; {listed}"


def _composed_sentence(error: BaseException, overrides: Sequence[str]) -> str:
    """For a wrong key or value: from the exception of OmegaConf below Hydra's, or from Hydra's text."""
    inner: BaseException | None = error
    while inner is not None and not (isinstance(inner, OmegaConfBaseException) and inner.full_key):
        inner = inner.__cause__ or inner.__context__
    place = re.match(r"(In '[^']+'): ", str(error))
    where = f"{place[1]}: " if place else ""
    if isinstance(inner, OmegaConfBaseException):
        siblings = _siblings(str(inner.full_key), overrides)
        return where + _key_sentence(inner, str(inner.full_key), siblings)
    key = re.search(r"full_key: (\S+)", str(error))
    lines = [line for line in str(error).splitlines() if line.strip()]
    detail = lines[1] if place and len(lines) > 1 else lines[0] if lines else type(error).__name__
    return f"{where}{key[1] + ': ' if key else ''}{detail}"


def _key_sentence(error: OmegaConfBaseException, key: str, siblings: Iterable[str] = ()) -> str:
    """`stages.sft.trian: unknown key; did you mean 'train'?`, or what is wrong with the value."""
    text = _first_line(error)
    if not re.match(r"Key '.*' (not in|is not in struct)", text):
        return f"{key}: {text}"
    names = [f.name for f in fields(error.object_type)] if is_dataclass(error.object_type) else list(siblings)
    parent, _, last = key.rpartition(".")
    known = f"; known{' in ' + parent if parent else ''}: {', '.join(sorted(set(names)))}" if names else ""
    return f"{key}: unknown key{nearest(last, names)}{known}"


def _siblings(key: str, overrides: Sequence[str]) -> list[str]:
    """Names that may stand beside a wrong key, from the config without the override that named it."""
    rest = [item for item in overrides if not item.lstrip("+~").startswith(key)]
    if len(rest) == len(overrides):
        return []
    try:
        cfg, _ = _compose(rest)
    except ConfigError:
        return []
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(cfg, parent) if parent else cfg
    inline = _plain(node) and re.fullmatch(r"(stages|data)\.[^.]+", parent)
    return [str(name) for name in node] + (_field_names(node) if inline else []) if isinstance(node, DictConfig) else []


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the closest known name, or nothing."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
