"""Checks of other packages: entry points of the group `journeyman.checks`, each a function (check, text) -> bool.

The name of the entry point is the check's `type`; what other keys the check has is the function's own business. It is
tried on an empty answer when the items are read, so that a broken one is found before a model is loaded.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pipeline.errors import ConfigError, StageFailed

GROUP = "journeyman.checks"


@lru_cache
def found() -> dict[str, EntryPoint]:
    """Entry points by name. ConfigError for a name that two packages bring."""
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in points:
            both = f"{owner(points[point.name])} and {owner(point)}"
            raise ConfigError(f"{both} both bring a check '{point.name}'; uninstall one of them")
        points[point.name] = point
    return points


def owner(point: EntryPoint) -> str:
    return f"distribution '{point.dist.name}'" if point.dist else "an unnamed distribution"


@lru_cache
def load(point: EntryPoint) -> Callable[[dict[str, Any], str], bool]:
    """The function. ConfigError when it cannot be imported or called."""
    try:
        function = point.load()
    except Exception as error:  # whatever a module's top level can do
        text = f"check '{point.name}' of {owner(point)} cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError(text) from error
    if not callable(function):
        raise ConfigError(f"check '{point.name}' of {owner(point)} is {function!r}; it must be a function")
    return function


def passes(check: dict[str, Any], text: str) -> bool:
    """What the function says of the answer. StageFailed when it breaks or says neither True nor False."""
    point = found()[check["type"]]
    try:
        said = load(point)(dict(check), text)
    except ConfigError:
        raise
    except Exception as error:  # the function is not ours
        what = f"{type(error).__name__}: {error}"
        raise StageFailed(f"check '{point.name}' of {owner(point)} failed on {text[:80]!r}: {what}") from error
    if not isinstance(said, bool):
        raise StageFailed(f"check '{point.name}' of {owner(point)} must return True or False, not {said!r}")
    return said


def problem(check: dict[str, Any]) -> str:
    """Why the check cannot be used, or nothing: it is tried on an empty answer."""
    try:
        passes(check, "")
    except StageFailed as error:
        return str(error)
    return ""


def versions() -> dict[str, str]:
    """Every check of other packages with its distribution and version: results depend on it."""
    return {
        f"check:{name}": f"{point.dist.name} {point.dist.version}" if point.dist else owner(point)
        for name, point in found().items()
    }
