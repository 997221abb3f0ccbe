"""Sweeps: what the command line and `sweeper.params` go through, and the cells of a grid, in Hydra's own grammar."""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from pipeline.config.compose import parse
from pipeline.config.load import composed, load
from pipeline.config.search import config_folders
from pipeline.config.typed import nearest, typed
from pipeline.errors import ConfigError
from pipeline.folds import left_open
from pipeline.schema import Launcher, Sweeper

PLUGINS = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper")
LAUNCHERS = ("serial", "local", "slurm", "ray")
SWEEPERS = ("grid", "optuna")


@dataclass(frozen=True)
class Sweep:
    """What a multirun goes through. `opened`: data set -> number of its folds, where nobody chose one."""

    words: list[str]  # all overrides, those of `sweeper.params` included
    launcher: Launcher
    sweeper: Sweeper
    opened: dict[str, int]


def read(words: Sequence[str], given: Sequence[str]) -> Sweep:
    """The sweep that these overrides mean. `given`: folders of --config-dir. ConfigError for what cannot be one."""
    folders = config_folders(given)
    for word in words:
        if word.lstrip("+~").startswith(PLUGINS):
            raise ConfigError(f"{word}: Hydra's own launchers and sweepers are not used; launcher=NAME, sweeper=NAME")
    first = first_cell(parse(words, folders))
    resolved = composed(first, given)["resolved"]
    launcher = typed("launcher", Launcher, resolved["launcher"])
    sweeper = typed("sweeper", Sweeper, resolved["sweeper"])
    _check(launcher, sweeper)
    all_words = [*words, *_params(words, sweeper.params)]
    opened = {}
    with suppress(ConfigError):  # its cell says what is wrong with it, and the others run
        opened = left_open(load(first, given).experiment)
    return Sweep(all_words, launcher, sweeper, opened)


def grid(words: Sequence[str], given: Sequence[str]) -> list[list[str]]:
    """The overrides of every cell, the last key going round first; ConfigError for one that cannot be composed."""
    overrides = parse(words, config_folders(given))
    cells = [list(cell) for cell in itertools.product(*map(_values, overrides))]
    for cell in cells:
        composed(cell, given)
    return cells


def first_cell(overrides: Sequence[Override]) -> list[str]:
    """One value of each: the first, or where an interval begins."""
    return [_start(found) if found.is_interval_sweep() else _values(found)[0] for found in overrides]


def _start(found: Override) -> str:
    return f"{found.get_key_element()}={found.value().start}"  # type: ignore[union-attr]


def _values(found: Override) -> list[str]:
    """The override once for each of its values."""
    if not found.is_sweep_override():
        return [str(found.input_line)]
    key = found.get_key_element()
    if key.lstrip("+").startswith(("launcher", "sweeper")):
        raise ConfigError(f"{found.input_line}: one launcher and one sweeper have all cells; give one value")
    try:
        return [f"{key}={value}" for value in found.sweep_string_iterator()]
    except HydraException as error:
        raise ConfigError(f"{found.input_line}: an interval is searched, not enumerated: sweeper=optuna") from error


def _params(words: Sequence[str], params: Mapping[str, Any]) -> list[str]:
    """`sweeper.params` as overrides, without those that the command line gives itself."""
    given = {word.lstrip("+").partition("=")[0] for word in words}
    return [f"{key}={value}" for key, value in params.items() if key.lstrip("+") not in given]


def _check(launcher: Launcher, sweeper: Sweeper) -> None:
    for key, value, known in (
        ("launcher.kind", launcher.kind, LAUNCHERS),
        ("sweeper.kind", sweeper.kind, SWEEPERS),
        ("sweeper.direction", sweeper.direction, (None, "maximize", "minimize")),
    ):
        if value not in known:
            words = [str(word) for word in known if word]
            raise ConfigError(f"{key}={value}: use {' or '.join(words)}{nearest(str(value), words)}")
    for key, number, least in (
        ("launcher.workers", launcher.workers, 1),
        ("launcher.threads", launcher.threads, 0),
        ("sweeper.trials", sweeper.trials, 1),
        ("sweeper.startup", sweeper.startup, 1),
    ):
        if number < least:
            raise ConfigError(f"{key}={number}: at least {least}")
