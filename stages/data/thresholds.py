"""What is asked of thresholds in a configuration: a field of whole numbers is a count, another number a share."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from pipeline.errors import ConfigError


def check(where: str, config: Any, above: Collection[str] = (), free: Collection[str] = ()) -> None:
    """ConfigError for counts below 1 and shares outside 0 to 1.

    `above`: shares that may not be 0, where everything would count; `free`: positive numbers that are no shares.
    """
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name in free and not value > 0:
            raise ConfigError(f"{where}.{each.name}={value}: give a number above 0")
        if each.type is int and value < 1:
            raise ConfigError(f"{where}.{each.name}={value}: give a whole number from 1")
        if each.type is float and each.name not in free:
            _check_share(f"{where}.{each.name}", value, each.name in above)


def check_shares(where: str, shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        _check_share(f"{where}.{name}", share)


def _check_share(key: str, value: float, above: bool = False) -> None:
    if not 0 <= value <= 1 or (above and value == 0):
        raise ConfigError(f"{key}={value}: give a share {'above 0 and up' if above else 'from 0'} to 1")


def suggestion(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    near = get_close_matches(name, known, 1)
    return f" (did you mean '{near[0]}'?)" if near else f"; known: {', '.join(known)}"
