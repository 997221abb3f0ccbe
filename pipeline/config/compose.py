"""Hydra: from overrides to the plain values of one experiment, and what its errors mean."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from pipeline.config.inert import PLACES, check_files, refuse_code, refuse_hydra, refuse_leftovers, refuse_searchpath
from pipeline.config.search import choose_budget, fast_dtype, files, options
from pipeline.config.typed import first_line, key_sentence, nearest
from pipeline.errors import ConfigError
from pipeline.redaction import refuse_secrets
from pipeline.registry import kind, load_kinds
from pipeline.schema import Experiment, StageConfig

STAGE_KEY = re.compile(r"(stages|data)\.([^.=]+)\.([^=]+)=")
COMPOSED = (HydraException, OmegaConfBaseException, MarkedYAMLError)


@dataclass(frozen=True)
class Composition:
    """Plain values of an experiment, the overrides that gave them, and sentences on what the command chose."""

    words: list[str]
    resolved: dict[str, Any]
    chosen: list[str]


def register_schemas() -> None:
    """Tell Hydra the types: `schema`, `base_<kind>` of group `stage`, and of group `data` for kinds that make data."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Experiment)
    for name, found in load_kinds().items():
        store.store(name=f"base_{name}", group="stage", node=found.config(kind=name))
        if found.stage.produces == "data":
            store.store(name=f"base_{name}", group="data", node=found.config(kind=name))


def composition(overrides: Sequence[str], folders: Sequence[Path]) -> Composition:
    """Compose, take out what is not this experiment's, refuse code, resolve; ConfigError with a sentence."""
    register_schemas()
    check_files(folders)
    words, chosen = choose_budget(list(overrides), folders)
    cfg, budget = _compose_stages(words, folders)
    if OmegaConf.select(cfg, "model.dtype") == "auto":
        cfg.model.dtype, why = fast_dtype()
        words = [*words, f"model.dtype={cfg.model.dtype}"]
        chosen = [*chosen, f"model.dtype={cfg.model.dtype} ({why})"]
    _drop_foreign(cfg, budget, words, folders)
    _keep_aligning(cfg, words, folders)
    with open_dict(cfg):
        cfg.budget = budget
    if "name" not in cfg:  # also when it is ???
        known = ", ".join(options("experiment", folders)) or "none yet"
        raise ConfigError(f"no experiment is chosen, or it has no `name`: give experiment=NAME (known: {known})")
    return Composition(words, resolve(cfg), chosen)


def parse(words: Sequence[str], folders: Sequence[Path]) -> list[Override]:
    """Overrides as Hydra reads them, with the values of each; ConfigError for one that cannot be read."""
    try:
        with _hydra():
            return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(words))
    except OverrideParseException as error:
        raise ConfigError(sentence(error, words, folders)) from error


def store_root(overrides: Sequence[str], folders: Sequence[Path]) -> Path:
    """The store's folder, for verbs that need no experiment."""
    return Path(store_config(overrides, folders).root or "store")


def store_config(overrides: Sequence[str], folders: Sequence[Path]) -> Any:
    """The section `store` of the config, with or without an experiment."""
    register_schemas()
    check_files(folders)
    return _compose(overrides, folders)[0].store


def hydra_path(folders: Sequence[Path]) -> list[str]:
    """The override that makes Hydra look in `folders` too; none if there are none."""
    escaped = [str(folder).replace("'", "\\'") for folder in folders]
    return ["hydra.searchpath=[" + ",".join(f"'file://{folder}'" for folder in escaped) + "]"] if folders else []


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra set up for `compose`; what was set up before is put back afterwards."""
    current = GlobalHydra.instance()
    outer, current.hydra = current.hydra, None
    try:
        with initialize_config_module("conf", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def _compose(words: Sequence[str], folders: Sequence[Path]) -> tuple[DictConfig, Mapping[str, str]]:
    """The untyped config, and the chosen option of every group; ConfigError where either could do something."""
    refuse_searchpath(words)
    try:
        with _hydra():
            cfg = hydra_compose("config", overrides=[*words, *hydra_path(folders)], return_hydra_config=True)
    except COMPOSED as error:
        raise ConfigError(sentence(error, words, folders)) from error
    except ValueError as error:  # Hydra's own, for a group set to null
        raise ConfigError(f"{error}; `~GROUP` takes a group out") from error
    choices = OmegaConf.to_container(cfg.hydra.runtime.choices)
    refuse_hydra(OmegaConf.to_container(cfg.hydra, resolve=False))  # type: ignore[arg-type]
    with open_dict(cfg):
        del cfg["hydra"]
    refuse_code(OmegaConf.to_container(cfg, resolve=False))
    return cfg, choices  # type: ignore[return-value]


# -- stages that are written in an experiment itself --------------------------------------------------------------
def _compose_stages(words: Sequence[str], folders: Sequence[Path]) -> tuple[DictConfig, str | None]:
    """The config and its budget; overrides may also name what an experiment's own mapping leaves to its default."""
    try:
        cfg, choices = _compose(words, folders)
    except ConfigError:
        completed = complete(words, folders)
        if completed == list(words):
            raise
        cfg, choices = _compose(completed, folders)
    return cfg, choices.get("budget")


def complete(words: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """`words` with a `+` where Hydra wants one although the key is a field of the stage.

    So `stages.first.seed=1` works for a stage that is written in the experiment without `seed`.
    """
    matches = {word: STAGE_KEY.match(word) for word in words}
    try:
        cfg, _ = _compose([word for word, match in matches.items() if not match], folders)
    except ConfigError:
        return list(words)
    return [f"+{word}" if match and _left_out(cfg, *match.groups()) else word for word, match in matches.items()]


def _left_out(cfg: DictConfig, group: str, name: str, path: str) -> bool:
    """Whether the first key of a dotted path that is not written down is a field of the kind, or of a field of it."""
    node = cfg[group].get(name)
    owner = _default(node) if _inline(node) else None
    for key in path.split("."):
        if not (is_dataclass(owner) and isinstance(node, DictConfig) and hasattr(owner, key)):
            return False
        if key not in node:
            return True
        node, owner = node[key], getattr(owner, key)
    return False


def _inline(node: Any) -> bool:
    """Whether a stage is written in an experiment directly, so that Hydra does not know its type."""
    return isinstance(node, DictConfig) and OmegaConf.get_type(node) is dict


def _field_names(node: DictConfig) -> list[str]:
    default = _default(node)
    return [item.name for item in fields(default)] if default else []


def _default(node: DictConfig) -> StageConfig | None:
    """The config of the node's kind with all defaults; None for an unknown kind."""
    try:
        return kind(node.get("kind") or "prepare").config()
    except ConfigError:
        return None


def _drop_foreign(cfg: DictConfig, budget: str | None, words: Sequence[str], folders: Sequence[Path]) -> None:
    """A budget may speak of stages that this experiment does not have; take those words out again."""
    spoken: list[tuple[str, Any]] = []
    for file in files("budget", folders, budget) if budget else []:
        written = OmegaConf.load(file)
        spoken += [(group, name) for group in ("stages", "data") for name in OmegaConf.select(written, group) or {}]
    nameless = [
        (group, name) for group, name in spoken if _inline(cfg[group].get(name)) and "kind" not in cfg[group][name]
    ]
    if not nameless:
        return
    others = [word for word in words if not word.lstrip("+").startswith("budget=") and not _speaks_of(word, nameless)]
    bare, _ = _compose_stages(others, folders)
    with open_dict(cfg):
        for group, name in nameless:
            if name not in bare[group]:
                cfg[group].pop(name, None)


def _keep_aligning(cfg: DictConfig, words: Sequence[str], folders: Sequence[Path]) -> None:
    """Of the stages that options of the group `align` bring, those of the chosen one stay.

    So an experiment can say what each of them would be trained on, and `align=NAME` is the one word that chooses.
    """
    if cfg.get("align") is None:
        return
    others = [
        ("stages", name) for name in sorted(_aligning(folders))
        if _inline(cfg.stages.get(name)) and "kind" not in cfg.stages[name]
    ]  # fmt: skip
    _check_aligning(cfg, others, words, folders)
    with open_dict(cfg):
        for _, name in others:
            cfg.stages.pop(name)
        for name in [str(name) for name in cfg.stages if name in _aligning(folders)]:
            cfg.stages[name] = cfg.stages.pop(name)  # last, though the group stands before the experiment


def _check_aligning(
    cfg: DictConfig, others: Sequence[tuple[str, str]], words: Sequence[str], folders: Sequence[Path]
) -> None:
    """ConfigError where the chosen option brings no stage, or a word speaks of one that is left out."""
    align = cfg.align
    if align not in cfg.stages or ("stages", align) in others:
        raise ConfigError(
            f"align: {align} brings no stage; choose with `align=NAME`, or in an experiment's defaults with `override "
            f"/align: NAME` (known: {', '.join(options('align', folders))})"
        )
    for word in words:
        if _speaks_of(word, others):
            known = [str(name) for name in cfg.stages if ("stages", name) not in others]
            raise ConfigError(f"{word}: align={align} has no such stage; it has {', '.join(known)}")


def _aligning(folders: Sequence[Path]) -> set[str]:
    """The stages that some option of the group `align` brings."""
    written = [OmegaConf.to_container(OmegaConf.load(file)) for file in files("align", folders)]
    entries = [entry for plain in written if isinstance(plain, dict) for entry in plain.get("defaults", [])]
    keys = [str(key) for entry in entries if isinstance(entry, dict) for key in entry]
    return {key.partition("@stages.")[2] for key in keys if "@stages." in key}


def _speaks_of(word: str, names: Iterable[tuple[str, Any]]) -> bool:
    return any(word.lstrip("+~").startswith(f"{group}.{name}.") for group, name in names)


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """Plain values. What decides results is resolved without sight of the store and the tracker."""
    inner = cfg.copy()
    with open_dict(inner):
        for key in PLACES:
            inner.pop(key, None)
    try:
        resolved = OmegaConf.to_container(inner, resolve=True)
        places = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in PLACES if key in cfg}
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from error
    refuse_leftovers(resolved)
    refuse_secrets({**resolved, "tracker": places.get("tracker")})  # type: ignore[dict-item]
    return {**resolved, **places}  # type: ignore[dict-item]


# -- errors -------------------------------------------------------------------------------------------------------
def sentence(error: BaseException, words: Sequence[str], folders: Sequence[Path]) -> str:
    """What a composition error means: what is wrong, where, the nearest known name."""
    if isinstance(error, MissingConfigException):
        return _missing_sentence(error, folders)
    if isinstance(error, OverrideParseException):
        what = first_line(error)
        return f"cannot read the override '{error.override}': {what}. Overrides look like stages.sft.seed=1"
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}" if mark else "a config file"
        return f"{place}: not valid YAML: {error.problem}"
    text = str(error)
    if text.startswith("Ambiguous value"):
        word = text.partition("'")[2].partition("'")[0]
        return f"'{word}' has several values: `run -m` goes through them; key=[a,b] is a list"
    return _composed_sentence(error, words, folders)


def _missing_sentence(error: MissingConfigException, folders: Sequence[Path]) -> str:
    match = re.search(r"(?:(In '[^']*'): )?Could not find '(?:(.*)/)?([^/']+)'", str(error))
    if not match:
        return first_line(error)
    place, group, name = match.groups()
    known = options(group, folders) if group else []
    where = "" if place in (None, "In 'config'") else f"{place}: "
    listed = f"known: {', '.join(known)}" if known else f"there is no folder conf/{group}"
    return f"{where}unknown {group or 'config'} '{name}'{nearest(name, known)}; {listed}"


def _composed_sentence(error: BaseException, words: Sequence[str], folders: Sequence[Path]) -> str:
    """For a wrong key or value: from the exception of OmegaConf below Hydra's, or from Hydra's text."""
    inner: BaseException | None = error
    while inner is not None and not (isinstance(inner, OmegaConfBaseException) and inner.full_key):
        inner = inner.__cause__ or inner.__context__
    place = re.match(r"(In '[^']+'): ", str(error))
    where = f"{place[1]}: " if place else ""
    if isinstance(inner, OmegaConfBaseException):
        key = str(inner.full_key)
        if "AnyNode" in str(inner):  # plain values, then the stage's types, then values again: OmegaConf gives up
            name = key.split(".")[1]
            return (
                f"{where}{key}: an experiment that this one builds on speaks of the stage; put `/stage@stages.{name}: "
                "KIND` before it in the defaults, or choose the stage with `override /align: NAME`"
            )
        if made := re.search(r"dict is not a subclass of (Gate|Suite)", str(inner)):
            return _not_from_words(made[1].lower(), key, words)
        return where + key_sentence(inner, key, _siblings(key, words, folders))
    if twice := re.search(r"@stages\.([^.\s]+)\S* appears more than once", str(error)):
        return (
            f"stages.{twice[1]}: both `align` and the experiment itself bring this stage; choose another word for "
            "`align`, or an experiment that does not bring it"
        )
    named = re.search(r"full_key: (\S+)", str(error))
    lines = [line for line in str(error).splitlines() if line.strip()]
    detail = lines[1] if place and len(lines) > 1 else lines[0] if lines else type(error).__name__
    return f"{where}{named[1] + ': ' if named else ''}{detail}"


def _not_from_words(what: str, name: str, words: Sequence[str]) -> str:
    """For a new entry of a typed mapping, which OmegaConf takes from files only."""
    place = {"gate": "gates", "suite": "eval.suites"}[what]
    word = next((word for word in words if word.lstrip("+").startswith(f"{place}.{name}")), f"{place}.{name}")
    return (
        f"{word}: a new {what} cannot be made on the command line; write it under `{place}` of the experiment, or in a "
        f"file of conf/{place.split('.')[0]} (there, its fields can be set like this)"
    )


def _siblings(key: str, words: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Names that may stand beside a wrong key, from the config without the override that named it."""
    rest = [word for word in words if not word.lstrip("+~").startswith(key)]
    if len(rest) == len(words):
        return []
    try:
        cfg, _ = _compose(rest, folders)
    except ConfigError:
        return []
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(cfg, parent) if parent else cfg
    inline = _inline(node) and re.fullmatch(r"(stages|data)\.[^.]+", parent)
    return [str(name) for name in node] + (_field_names(node) if inline else []) if isinstance(node, DictConfig) else []
