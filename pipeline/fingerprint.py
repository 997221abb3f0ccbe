"""Digests of what lies outside the store: files, folders, installed packages, hub references, and a stage's code."""

import ast
import hashlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from pipeline.errors import ConfigError

RECENT = 2.0  # seconds: a file changed this lately may change again within one tick of its clock, so is not cached
_known: dict[str, list] = {}  # absolute path -> [size, mtime_ns, inode, sha256]; code:path -> [..., digest, imports]
_cache: Path | None = None


def use_cache(path: Path) -> None:
    """Remember digests of unchanged files (same size, mtime and inode) in the JSON file `path`."""
    global _cache
    _cache = path
    try:
        _known.update(json.loads(path.read_text()))
    except (OSError, ValueError):
        _known.clear()


def save_cache() -> None:
    """Write what was learnt, if a cache is in use and its folder can be written."""
    if _cache is None:
        return
    try:
        _cache.parent.mkdir(parents=True, exist_ok=True)
        part = _cache.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(_known))
        os.replace(part, _cache)
    except OSError:  # a cache only saves time; a store that cannot be written is reported by whoever needs to write
        pass


def digest_file(path: Path | str) -> str:
    """sha256 of the file's bytes; ConfigError if it cannot be read."""
    path = Path(path).absolute()
    try:
        stat = path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = _known.get(str(path))
        if known and known[:3] == mark:
            return known[3]
        digest = sha256(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    if time.time() - stat.st_mtime > RECENT:
        _known[str(path)] = [*mark, digest]
    return digest


def sha256(path: Path) -> str:
    """sha256 of the file's bytes, always read anew."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_folder(path: Path | str) -> str:
    """One digest over the relative paths and contents of every file below a folder; hidden files do not count."""
    root = Path(path)
    files = sorted(f for f in root.rglob("*") if f.is_file() and not _hidden(f.relative_to(root)))
    if not files:
        raise ConfigError(f"the folder {root} is empty or does not exist")
    return combine((f.relative_to(root).as_posix(), digest_file(f)) for f in files)


def digest_path(path: Path | str) -> str:
    """Digest of a file or of a folder."""
    return digest_folder(path) if Path(path).is_dir() else digest_file(path)


def combine(parts: Iterable[tuple[str, str]]) -> str:
    """One digest for named digests, in the order given."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def digest_package(name: str) -> str:
    """`<name>==<version>@<hash of its RECORD>` of an installed distribution; ConfigError if it is missing."""
    try:
        found = distribution(name)
    except PackageNotFoundError as error:
        raise ConfigError(f"the package '{name}' is not installed; `make setup` installs it") from error
    # RECORD has "path,sha256=...,size" for what the wheel brought; bytecode and pip's own notes are no content
    rows = (found.read_text("RECORD") or "").splitlines()
    rows = sorted(row for row in rows if ",sha256=" in row and ".dist-info/" not in row and ".pyc," not in row)
    content = hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]
    return f"{name}=={found.version}@{content}"


def hub_commit(name: str, revision: str | None = None, kind: str = "model", lock: Path = Path("hub.lock")) -> str:
    """The 40-hex commit of a hub `model` or `dataset`: as given, from hub.lock, or resolved once online and locked."""
    if revision and len(revision) == 40 and all(c in "0123456789abcdef" for c in revision):
        return revision
    locked = json.loads(lock.read_text()) if lock.is_file() else {}
    key = f"{kind}:{name}@{revision or 'main'}"
    if key not in locked:
        locked[key] = _resolve(name, revision, kind)
        lock.write_text(json.dumps(locked, indent=1, sort_keys=True) + "\n")
        print(f"{name} is pinned to commit {locked[key]} from now on ({lock}: commit this file)", file=sys.stderr)
    return locked[key]


def _resolve(name: str, revision: str | None, kind: str) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().repo_info(name, revision=revision, repo_type=kind).sha)
    except Exception as error:  # every way in which a network and a server can fail
        raise ConfigError(
            f"the hub {kind} '{name}' is not pinned and cannot be looked up ({type(error).__name__}). "
            f"Go online once, give its 40-digit commit as `revision`, or use a local folder."
        ) from error


def digest_code(module: str) -> str:
    """Digest of a module's syntax tree and of the modules of its own package that it imports, without docstrings.

    Comments and formatting do not count. Advisory: a change is reported, and only `identity.code=strict` rebuilds.
    """
    own, seen, waiting = module.partition(".")[0], {}, [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen[name], imports = _module(name)
            waiting += [found for found in imports if found.partition(".")[0] == own]
    return combine(sorted((name, digest) for name, digest in seen.items() if digest))


@cache
def _module(name: str) -> tuple[str, list[str]]:
    """Digest of one module's tree and what it imports; ("", []) for what is no Python file."""
    file = _source(name)
    if file is None:
        return "", []
    stat = file.stat()
    mark, key = [stat.st_size, stat.st_mtime_ns, stat.st_ino], f"code:{file}"
    known = _known.get(key, [])
    if known[:3] != mark:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        known = [*mark, hashlib.sha256(ast.dump(_bare(tree)).encode()).hexdigest(), _imports(tree)]
        if time.time() - stat.st_mtime > RECENT:
            _known[key] = known
    return known[3], known[4]


def _source(module: str) -> Path | None:
    """The file of a module, found without importing anything; None for what is no Python file."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # __main__
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    if not rest:
        return Path(spec.origin)
    places = [Path(folder, *rest) for folder in spec.submodule_search_locations or []]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    return files[0] if files else None


def _imports(tree: ast.Module) -> list[str]:
    """Absolute names a module imports, also inside functions; `from a import b` counts as a and a.b."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _bare(tree: ast.Module) -> ast.Module:
    """The tree without bare strings: docstrings."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                item for item in body if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
            ]
    return tree
