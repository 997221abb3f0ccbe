"""Builders: functions that make the rows of a data set from installed packages and authored files.

`@builder("name", ...)` makes one known to `prepare`. A builder takes its options (a dataclass) and a seed and yields
rows in the order in which `limit` takes them, so its first rows should stand for the whole.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, get_type_hints

from pipeline.errors import ConfigError

MODULES = (
    "stages.data.legal.training",
    "stages.data.legal.measured",
    "stages.data.smoke",
)  # imported when a name is looked up; plug-ins import themselves


@dataclass(frozen=True)
class Builder:
    """What `prepare` must know of a builder before it runs it."""

    name: str
    format: str
    options: type
    packages: tuple[str, ...]  # distributions whose data it reads
    files: tuple[Path, ...]  # authored files that it reads
    version: int  # raise it when the same sources must give other rows
    build: Callable[[Any, int], Iterator[dict[str, Any]]]
    attribution: str  # Markdown: package, version, licence and origin of what the rows hold


_builders: dict[str, Builder] = {}


def builder(
    name: str,
    *,
    format: str,
    options: type,
    packages: tuple[str, ...],
    files: tuple[Path, ...] = (),
    version: int = 1,
    attribution: str,
) -> Callable[[Callable[[Any, int], Iterator[dict[str, Any]]]], Callable[[Any, int], Iterator[dict[str, Any]]]]:
    """Decorator: the function becomes the builder `name`."""

    def add(build: Callable[[Any, int], Iterator[dict[str, Any]]]) -> Callable[[Any, int], Iterator[dict[str, Any]]]:
        _builders[name] = Builder(name, format, options, packages, files, version, build, attribution)
        return build

    return add


def find(name: str) -> Builder:
    """The builder called `name`; ConfigError with the known names otherwise."""
    for module in MODULES:
        import_module(module)
    if name not in _builders:
        raise ConfigError(f"unknown data builder '{name}'; known: {', '.join(sorted(_builders))}")
    return _builders[name]


def parse_options(found: Builder, given: dict[str, Any]) -> Any:
    """The builder's options as its dataclass. ConfigError on an unknown key or a wrong type."""
    types = get_type_hints(found.options)
    known = [f.name for f in fields(found.options)]
    for key, value in given.items():
        if key not in types:
            raise ConfigError(f"builder '{found.name}' has no option '{key}'; known: {', '.join(known) or 'none'}")
        if type(value) is not types[key]:
            raise ConfigError(f"option '{key}' of builder '{found.name}' must be {types[key].__name__}, not {value!r}")
        if type(value) is int and value < 0:
            raise ConfigError(f"option '{key}' of builder '{found.name}' must be 0 or more, not {value}")
    try:
        return found.options(**given)
    except ValueError as error:
        raise ConfigError(f"options of builder '{found.name}': {error}") from error


@lru_cache
def package_digest(name: str) -> str:
    """`<version> sha256:<digest of the package's files>`, from its RECORD. ConfigError when it is not installed.

    RECORD lists a hash for every file, so it stands for the content without reading it. Lines that depend on the
    installer (byte code, scripts, the .dist-info folder) are left out.
    """
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise ConfigError(f"the package '{name}' is not installed; run: pip install 'journeyman[legal]'") from None
    record = found.read_text("RECORD")
    if not record:
        raise ConfigError(f"the package '{name}' has no RECORD of its files; reinstall it with pip")
    lines = [x for x in record.splitlines() if ".dist-info/" not in x and "__pycache__" not in x and x[:3] != "../"]
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return f"{found.version} sha256:{digest}"
