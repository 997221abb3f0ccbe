"""Names and paths that stand in a config or in a file of the store: they stay where they belong."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, StoreError

NAME = re.compile(r"[A-Za-z0-9][\w.@-]*")


def require_name(where: str, name: object) -> None:
    """ConfigError for a name that could be read as a path, or that no folder can have."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > 120:
        raise ConfigError(f"{where}: {str(name)[:120]!r} must be letters, digits, '-', '_' and '.', at most 120")


def is_plain(path: object) -> bool:
    """Whether a relative path, as a manifest writes it, stays below the folder that it is relative to."""
    parts = path.split("/") if isinstance(path, str) else [""]
    return not any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts)


def inside(root: Path, path: object, what: str) -> Path:
    """The file or folder `path` below `root`; StoreError where it leads out, by itself or by a link."""
    if not is_plain(path) or not (root / str(path)).resolve().is_relative_to(root.resolve()):
        raise StoreError(f"{what} names {str(path)!r}, which is not below {root}: it was not written by Journeyman")
    return root / str(path)


def check_manifest(manifest: Mapping[str, Any], what: str) -> None:
    """StoreError for a manifest whose outputs, inputs or id could be read as a way out of the store."""
    named = [manifest["id"], manifest["kind"]]
    named += [item[key] for item in manifest["inputs"].values() for key in ("id", "attempt")]
    for path in (*named, *(item["path"] for item in manifest["outputs"])):
        if not is_plain(path) or (path in named and "/" in path) or any(char in path for char in "*?["):
            raise StoreError(f"{what} names {str(path)!r}: it was not written by Journeyman")
