"""Task files of a user, in the YAML of lm-evaluation-harness: read as data, nothing in them is run.

A task of this kind reads local files, or a data set of the hub at a commit. What would run code is refused: `!function`
and the keys that take functions. Jinja in texts is fine; `tasks` renders it in a sandbox.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError
from pipeline.fingerprint import digest_file, digest_path

DISTRIBUTION = "lm_eval"
READERS = ("json", "csv", "parquet", "text")  # of `dataset_path`: what `datasets` reads local files with
COMMIT = re.compile(r"[0-9a-f]{40}")
FUNCTIONS = (  # keys that take a function or name code to be run
    "class", "custom_dataset", "process_docs", "process_results", "use_prompt", "unsafe_code", "doc_to_image",
    "doc_to_audio",
)  # fmt: skip
SEVERAL = ("group", "task_list")  # keys of files that stand for several tasks
REMOTE = ("trust_remote_code", "storage_options", "token", "data_dir")  # of `dataset_kwargs`


@dataclass
class TaskFile:
    """One task: its settings with all that it includes, the files they stand in, and the files its items come from."""

    path: Path
    config: dict[str, Any]
    sources: list[Path]
    data: list[Path] = field(default_factory=list)
    revision: str = ""  # commit of a data set of the hub


def is_path(tasks: str) -> bool:
    """Whether `tasks` names files of the user rather than a task of the harness."""
    return "/" in tasks or tasks.endswith((".yaml", ".yml"))


def installed() -> str:
    """The harness's version; ConfigError when it is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        raise ConfigError(
            "tasks of lm-evaluation-harness need the extra lm_eval: pip install 'journeyman[lm_eval]'"
        ) from None


def fingerprints(tasks: str) -> dict[str, str]:
    """The harness's version, which decides its own tasks, and digests of all files that stand behind a user's."""
    found = {DISTRIBUTION: installed()}
    for task in read(tasks) if is_path(tasks) else ():
        found |= {f"task:{path}": digest_file(path) for path in task.sources}
        found |= {f"file:{path}": digest_path(path) for path in task.data}
    return found


def read(tasks: str) -> list[TaskFile]:
    """The tasks of a file, or of all files of a folder. ConfigError for what is not there or may not be in them."""
    place = Path(tasks)
    if not place.exists():
        raise ConfigError(f"tasks={tasks}: there is no such file or folder, seen from {Path.cwd()}")
    files = sorted(p for p in place.rglob("*") if p.suffix in (".yaml", ".yml")) if place.is_dir() else [place]
    found = [task for path in files if (task := _task(path, required=path == place))]
    if not found:
        raise ConfigError(f"tasks={tasks}: no YAML file in this folder has a key `task`")
    names = [task.config["task"] for task in found]
    if twice := [task for i, task in enumerate(found) if task.config["task"] in names[:i]]:
        raise ConfigError(f"{twice[0].path}: the task {twice[0].config['task']} is in another file of {tasks} as well")
    return found


def _task(path: Path, required: bool) -> TaskFile | None:
    """The task of a file; None for one that others include. ConfigError if it is `required` to have one."""
    sources: list[Path] = []
    config = _included(path, sources)
    _check_shapes(path, config)
    _refuse_functions(path, config)
    name = config.get("task")
    if name is None and not required:
        return None
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"{path}: `task` is the name of the task: letters, digits, '-', '_' and '.', not {name!r}")
    return _with_data(TaskFile(path, config, sources))


def _included(path: Path, sources: list[Path]) -> dict[str, Any]:
    """The mapping of a file on top of what it includes; `sources` grows by every file that is read."""
    if path in sources:
        raise ConfigError(f"{path}: the files include one another in a circle")
    sources.append(path)
    own = _mapping(path)
    names = own.pop("include", [])
    merged: dict[str, Any] = {}
    for name in names if isinstance(names, list) else [names]:
        merged |= _included(path.parent / str(name), sources)
    return merged | own


def _mapping(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            found = yaml.load(stream, Loader=_Data)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: a task file is a mapping of keys like task, dataset_path and doc_to_text")
    return found


class _Data(yaml.SafeLoader):
    """Plain values only."""


def _refused(loader: yaml.SafeLoader, node: yaml.Node) -> None:
    raise ConfigError(
        f"{loader.name}, line {node.start_mark.line + 1}: !function would run code, and task files are data here; "
        "write it as a Jinja text, prepare the column in the data, or measure it with a check of a package of your own "
        "(docs/evaluation.md)"
    )


_Data.add_constructor("!function", _refused)


def _check_shapes(path: Path, config: Mapping[str, Any]) -> None:
    """ConfigError for a mapping or a list of mappings that is none."""
    for key in ("dataset_kwargs", "fewshot_config", "generation_kwargs", "metadata"):
        if not isinstance(config.get(key) or {}, dict):
            raise ConfigError(f"{path}: {key} must be a mapping, not {config[key]!r}")
    for key in ("metric_list", "filter_list"):
        _check_mappings(path, key, config.get(key) or [])
    for one in config.get("filter_list") or []:
        _check_mappings(path, "filter_list: filter", one.get("filter"))


def _check_mappings(path: Path, key: str, found: Any) -> None:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ConfigError(f"{path}: {key} must be a list of mappings")


def _refuse_functions(path: Path, config: Mapping[str, Any]) -> None:
    """ConfigError for keys that run code, and for files that stand for several tasks."""
    metrics = config.get("metric_list") or []
    own = [key for key in FUNCTIONS if config.get(key) not in (None, False)]
    own += ["filter_list: custom"] if "custom" in _filters(config) else []
    own += ["fewshot_config.process_docs"] if (config.get("fewshot_config") or {}).get("process_docs") else []
    own += ["metric_list: hf_evaluate"] if any(one.get("hf_evaluate") for one in metrics) else []
    if own:
        raise ConfigError(f"{path}: {own[0]} would run code, and task files are data here; take it out")
    if found := [key for key in SEVERAL if key in config]:
        raise ConfigError(f"{path}: `{found[0]}` stands for several tasks; give their files, or a folder with them")


def _filters(config: Mapping[str, Any]) -> set[str]:
    """The functions that answers are filtered with, by name."""
    steps = [step for one in config.get("filter_list") or [] for step in one["filter"]]
    return {str(step.get("function")) for step in steps}


def _with_data(task: TaskFile) -> TaskFile:
    """The task with the files it reads. ConfigError for items whose content is not fixed."""
    source, options = task.config.get("dataset_path"), task.config.get("dataset_kwargs") or {}
    if refused := [key for key in REMOTE if key in options]:
        raise ConfigError(f"{task.path}: dataset_kwargs.{refused[0]} is refused; name the files in data_files")
    task.data = [_existing(task.path, name) for name in _names(options.get("data_files"))]
    if source in READERS:
        if not task.data:
            raise ConfigError(
                f"{task.path}: dataset_path: {source} needs dataset_kwargs.data_files, such as {{test: mine.jsonl}}"
            )
    elif isinstance(source, str) and Path(source).is_dir():
        task.data = [Path(source)]
    else:
        task.revision = _commit(task.path, source, options)
    return task


def _names(files: Any) -> Iterator[str]:
    """The names in `data_files`: one, a list, or a mapping of splits."""
    if isinstance(files, Mapping):
        files = list(files.values())
    for name in files if isinstance(files, list) else [files] if files else []:
        if isinstance(name, list):
            yield from map(str, name)
        else:
            yield str(name)


def _existing(path: Path, name: str) -> Path:
    if not Path(name).is_file():
        raise ConfigError(
            f"{path}: data_files: there is no file {name}, seen from {Path.cwd()}, as the harness sees it"
        )
    return Path(name)


def _commit(path: Path, source: Any, options: Mapping[str, Any]) -> str:
    """The commit at which a data set of the hub is read."""
    revision = str(options.get("revision", ""))
    if not isinstance(source, str) or not source:
        raise ConfigError(
            f"{path}: dataset_path is missing: {', '.join(READERS)} for local files, a folder, or a data set of the hub"
        )
    if not (COMMIT.fullmatch(revision) and "/" in source):  # a name alone is one of the library's own readers
        near = get_close_matches(source, READERS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"{path}: dataset_path: {source} is no folder here{hint}. A data set of the hub needs its 40-digit commit "
            "as dataset_kwargs.revision; local files are read with dataset_path: json and dataset_kwargs.data_files"
        )
    return revision
