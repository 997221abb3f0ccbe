"""Plain values into the dataclasses of the schema and of the stage kinds; what does not fit becomes a sentence."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.patterns import SUBJECTS, written_out
from pipeline.config.suites import complete_suites
from pipeline.errors import ConfigError
from pipeline.names import require_name
from pipeline.registry import kind
from pipeline.schema import Experiment, StageConfig
from pipeline.trackers import TRACKERS

CHANGES = ("base", "config", "data")  # what `retrain.on` may name


def typed_experiment(resolved: Mapping[str, Any]) -> Experiment:
    """The whole configuration, every stage and data set as the config of its kind."""
    require_name("name", resolved["name"])
    for part in ("stages", "data", "gates"):
        for name in resolved.get(part, {}):
            require_name(part, name)
    for name in resolved.get("eval", {}).get("suites") or {}:
        require_name("eval.suites", name)
    model = {key: "" if value == "???" else value for key, value in resolved["model"].items()}  # data needs no model
    plain = {key: value for key, value in resolved.items() if key not in ("stages", "data")} | {"model": model}
    experiment: Experiment = typed("", Experiment, plain)
    _check_choices(experiment)
    stages = {name: stage_config(f"stages.{name}", value) for name, value in resolved["stages"].items()}
    experiment.stages = _expanded(stages)
    experiment.data = {name: stage_config(f"data.{name}", value, "prepare") for name, value in resolved["data"].items()}
    brought = complete_suites(experiment.eval, experiment.data)
    experiment.data |= {name: stage_config(f"data.{name}", value) for name, value in brought.items()}
    experiment.gates = written_out(experiment)
    _check_retrain(experiment)
    return experiment


def _expanded(stages: Mapping[str, StageConfig]) -> dict[str, StageConfig]:
    """All stages, those that stand for several written out. ConfigError where two would have one name."""
    found: dict[str, StageConfig] = {}
    for name, config in stages.items():
        for made, made_config in kind(config.kind).stage().expand(name, config, stages).items():
            if made in found or (made != name and made in stages):
                raise ConfigError(f"stages.{made}: the stage {name} makes one of this name; rename yours")
            found[made] = made_config
    return found


def _check_choices(experiment: Experiment) -> None:
    """Fields of the experiment itself that are one of a few words."""
    for key, value, known in (
        ("identity.code", experiment.identity.code, ("record", "strict")),
        ("tracker.kind", experiment.tracker.kind, TRACKERS),
        ("tracker.mode", experiment.tracker.mode, ("offline", "online")),
    ):
        if value not in known:
            raise ConfigError(f"{key}={value}: use {' or '.join(known)}{nearest(value, known)}")
    for name, suite in experiment.eval.suites.items():
        if suite.about not in (None, *SUBJECTS):
            near = nearest(str(suite.about), SUBJECTS)
            raise ConfigError(f"eval.suites.{name}.about={suite.about}: use {', '.join(SUBJECTS)}{near}")


def _check_retrain(experiment: Experiment) -> None:
    """What `retrain` names is there, and its numbers can be meant."""
    asked = experiment.retrain
    models = [name for name, config in experiment.stages.items() if kind(config.kind).stage.produces == "model"]
    samples = [asked.drift.sample] if asked.drift.sample else []
    for key, names, known in (
        ("on", asked.on, CHANGES),
        ("stage", [asked.stage] if asked.stage else [], models),
        ("feedback.data", asked.feedback.data, experiment.data),
        ("drift.sample", samples, experiment.data),
    ):
        for name in names:
            if name not in known:
                raise ConfigError(f"retrain.{key}={name}: known: {', '.join(known) or 'none'}{nearest(name, known)}")
    for key, value, least in (
        ("feedback.rows", asked.feedback.rows, 1),
        ("drift.psi", asked.drift.psi, 0),
        ("margin", asked.margin, 0),
        ("days", asked.days, 0),
    ):
        if value < least:
            raise ConfigError(f"retrain.{key}={value}: at least {least}")


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
        raise ConfigError(key_sentence(error, _joined(where, str(error.full_key)))) from error
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise ConfigError(f"{_joined(where, missing[0])}: a value is required and none is given")
    return OmegaConf.to_object(merged)


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def key_sentence(error: OmegaConfBaseException, key: str, siblings: Iterable[str] = ()) -> str:
    """`stages.sft.trian: unknown key (did you mean 'train'?)`, or what is wrong with the value."""
    text = first_line(error)
    if not re.match(r"Key '.*' (not in|is not in struct)", text):
        return f"{key}: {text}"
    names = [f.name for f in fields(error.object_type)] if is_dataclass(error.object_type) else list(siblings)
    parent, _, last = key.rpartition(".")
    known = f"; known{' in ' + parent if parent else ''}: {', '.join(sorted(set(names)))}" if names else ""
    return f"{key}: unknown key{nearest(last, names)}{known}"


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the closest known name, or nothing."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
