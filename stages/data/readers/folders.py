"""What is more than one file: folders, patterns, `datasets` folders and data sets of the hub."""

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, DataError
from pipeline.names import is_plain
from stages.data.readers.opening import PACKAGE, Source

HUB = re.compile(r"hub:(?P<name>[\w.-]+(?:/[\w.-]+)?)@(?P<revision>[0-9a-f]{40})(?:/(?P<config>[^/]+))?")
HUB_FORM = "hub:OWNER/NAME@COMMIT, with all 40 digits of the commit"
MARKS = ("state.json", "dataset_dict.json")  # what `save_to_disk` leaves in a folder


def expand(name: str, endings: Iterable[str]) -> list[str]:
    """The files meant by an entry of `files`: a folder's files and those that fit a pattern, in order of their names.

    ConfigError when there is none, or when one of a folder is of a kind that no reader knows.
    """
    if name.startswith(("hub:", PACKAGE)) or is_saved(name):
        return [name]
    if glob.has_magic(name) and not os.path.exists(name):
        found = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
        _check_links(found, Path(os.path.dirname(re.split(r"[*?\[]", name)[0]) or "."))
    elif os.path.isdir(name):
        found = sorted(str(path) for path in Path(name).rglob("*") if path.is_file() and not _hidden(path, name))
        _check_links(found, Path(name))
        unknown = [path for path in found if not path.endswith(tuple(endings))]
        if unknown:
            raise ConfigError(
                f"{unknown[0]}: cannot read files of this kind in a folder ({len(unknown)} of {len(found)}); name "
                f"those to read by a pattern, such as {name.rstrip('/')}/**/*.md"
            )
    else:
        return [name]
    if not found:
        raise ConfigError(f"{name}: no file is there; correct the path in `files`")
    return found


def _check_links(found: Iterable[str], folder: Path) -> None:
    """ConfigError for a link out of the folder: whoever fills a folder of data must not choose what else is read."""
    for path in found:
        if not Path(path).resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{path}: is a link to {Path(path).resolve()}, outside {folder}; name that file itself")


def _hidden(path: Path, folder: str) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def is_saved(name: str) -> bool:
    """Whether `datasets` wrote the folder."""
    return any(os.path.isfile(os.path.join(name, mark)) for mark in MARKS)


def saved(source: Source) -> Iterator[tuple[int, Any]]:
    """Rows of a folder that `datasets` wrote (`save_to_disk`); all splits, one after the other."""
    import datasets

    _check_links([str(path) for path in Path(source.path).rglob("*")], Path(source.path))
    try:
        _check_state(Path(source.path))
        found = datasets.load_from_disk(source.path)
    except Exception as error:  # whatever a damaged folder makes of it
        raise DataError(f"{source.path}: not a readable datasets folder ({error}); save it again") from error
    yield from _numbered(source, found)


def _check_state(folder: Path) -> None:
    """ValueError where the folder's own list of its files leads out of it."""
    for state in folder.rglob("state.json"):
        for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]:
            if not is_plain(entry["filename"]):
                raise ValueError(f"{state} names {entry['filename']!r}, outside the folder")


def pinned(name: str) -> re.Match[str]:
    """The parts of a hub id. ConfigError when it has no commit."""
    found = HUB.fullmatch(name)
    if found is None:
        raise ConfigError(f"{name}: a data set of the hub is named by its commit: {HUB_FORM}[/CONFIG]")
    return found


def hub(source: Source) -> Iterator[tuple[int, Any]]:
    """Rows of a data set of the hub at its commit; all splits, one after the other."""
    import datasets

    parts = pinned(source.path)
    try:
        found = datasets.load_dataset(parts["name"], parts["config"], revision=parts["revision"])
    except Exception as error:  # the hub, the network, the data set's own files
        if offline(error):
            raise ConfigError(
                f"{source.path}: not in the local cache, and the hub cannot be asked ({_first_line(error)}); load it "
                "once with a connection, or copy its files here and name them"
            ) from error
        raise DataError(f"{source.path}: cannot be loaded ({_first_line(error)})") from error
    yield from _numbered(source, found)


def offline(error: Exception) -> bool:
    from datasets import config

    return config.HF_HUB_OFFLINE or isinstance(error, ConnectionError | TimeoutError)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _numbered(source: Source, found: Any) -> Iterator[tuple[int, Any]]:
    import datasets

    number = 0
    for part in found.values() if isinstance(found, datasets.DatasetDict) else [found]:
        for batch in part.with_format("arrow").iter(512):
            for row in batch.to_pylist():
                number += 1
                yield number, row
