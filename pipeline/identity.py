"""Identity of an artifact: canonical JSON of what decides its content -> payload -> id; the diff of two payloads."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from pipeline.errors import ConfigError

SCHEMA = 1  # version of the payload's form: raising it gives every artifact a new id
ABSENT = "(absent)"
NAMES = ("kind", "inputs", "data")  # of a stage config: in the payload by themselves, as ids, never as names


def canonical(value: Any, where: str = "config") -> Any:
    """`value` as plain JSON without the fields marked `identity=False`; ConfigError for what has no stable form."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: canonical(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value) if _bears(f, value)
        }
    if isinstance(value, Mapping):
        return {_key(key, where): canonical(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: {value} is not allowed in a config; give a finite number or null")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ConfigError(
        f"{where}: a {type(value).__name__} is not allowed in a config; use text, numbers, lists and mappings"
    )


def _bears(field: Field, owner: Any) -> bool:
    """Whether the field is part of the id. `identity: "non_default"` lets a field be added later at no cost."""
    rule = field.metadata.get("identity", True)
    if rule == "non_default":
        default = field.default if field.default_factory is MISSING else field.default_factory()
        return getattr(owner, field.name) != default
    return bool(rule)


def _key(key: Any, where: str) -> str:
    if not isinstance(key, (str, int)) or isinstance(key, bool):
        raise ConfigError(f"{where}: the key {key!r} must be text")
    return str(key)


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def payload_of(
    kind: str,
    version: int,
    config: Any,
    inputs: Mapping[str, str],
    data: Mapping[str, str],
    code: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All that decides an artifact. `inputs`, `data`: role -> artifact id; also name -> digest of outside content."""
    settings = {key: value for key, value in canonical(config).items() if key not in NAMES}
    payload = {
        "schema": SCHEMA,
        "kind": kind,
        "version": version,
        "config": settings,
        "inputs": dict(inputs),
        "data": dict(data),
    }
    return payload | ({"code": dict(code)} if code else {})


def artifact_id(payload: Mapping[str, Any]) -> str:
    """16 hex digits that name the payload."""
    return hashlib.sha256(canonical_json(payload).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Change:
    """One leaf that differs: `key` is dotted; `old` or `new` is ABSENT where the leaf did not exist."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {_short(self.old)} -> {_short(self.new)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def leaf_diff(old: Any, new: Any) -> list[Change]:
    """The leaves in which two JSON values differ, sorted by key."""
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    keys = sorted(before.keys() | after.keys())
    changes = [Change(key, before.get(key, ABSENT), after.get(key, ABSENT)) for key in keys]
    return [change for change in changes if canonical_json(change.old) != canonical_json(change.new)]


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf; a list is one leaf, so that a diff shows it whole."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
