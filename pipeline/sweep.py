"""Sweeps: Hydra splits overrides that have several values into cells and runs one after the other."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from pipeline.compose import COMPOSED, complete, hydra_path, register_schemas, sentence
from pipeline.errors import ConfigError


def sweep(words: Sequence[str], folders: Sequence[Path], cell: Callable[[list[str]], None]) -> None:
    """Call `cell` with the overrides of each cell. ConfigError for what cannot be composed, before the first one."""
    register_schemas()
    words = complete(words, folders)

    def task(_: Any) -> None:
        cell(list(HydraConfig.get().overrides.task))

    with _as_hydra([sys.argv[0], "-m", *words, *hydra_path(folders)]):
        try:
            hydra.main(config_path="pkg://conf", config_name="config", version_base="1.3")(task)()
        except COMPOSED as error:
            raise ConfigError(sentence(error, words, folders)) from error


@contextmanager
def _as_hydra(argv: list[str]) -> Iterator[None]:
    """hydra.main reads the command line itself; its errors shall come to us instead of ending the process."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def first_cell(words: Sequence[str]) -> list[str]:
    """The overrides of a sweep's first cell; ConfigError for one that cannot be read."""
    try:
        parsed: list[Any] = OverridesParser.create().parse_overrides(list(words))
    except OverrideParseException as error:
        raise ConfigError(sentence(error, words, [])) from error
    return [
        f"{found.get_key_element()}={next(found.sweep_string_iterator())}" if found.is_sweep_override() else word
        for word, found in zip(words, parsed, strict=True)
    ]
