"""Loading tasks: the harness's own by name, a user's from files. Slow imports are inside the functions."""

import contextlib
import io
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from pipeline.errors import ConfigError, DataError
from stages.evaluation.harness.files import COMMIT, TaskFile, installed, is_path, read

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

SEED = 1234  # of the examples that are shown: the harness's own


@dataclass
class Tasks:
    """Tasks by name, where the items of each come from, and the group that it belongs to."""

    tasks: "dict[str, Task]"
    sources: dict[str, str]
    groups: dict[str, str] = field(default_factory=dict)

    def origins(self) -> list[str]:
        """A line for each task; the tasks of a group that have version and source in common share one."""
        told = {}
        for name, task in self.tasks.items():
            version = (task.get_config("metadata") or {}).get("version", "none")
            told[f"{self.groups.get(name, name)}: version {version}, items of {self.sources[name]}"] = None
        return [f"{one}, by lm_eval {installed()}" for one in told]


@lru_cache
def load(tasks: str, num_fewshot: int = -1) -> Tasks:
    """The tasks that a name or a path stands for, ready to be asked. `num_fewshot`: -1 = as each task says.

    ConfigError for names and settings that cannot work, DataError where the items cannot be read.
    """
    installed()
    random.seed(0)  # as the harness does: some of its tasks shuffle choices
    numpy.random.seed(SEED)
    with quiet():
        _sandbox()
        found = _owned(read(tasks)) if is_path(tasks) else _known(tasks)
    for name, task in found.tasks.items():
        _check(name, task)
        _set_shots(name, task, num_fewshot)
        if is_path(tasks) and task.get_config("num_fewshot") and not _has_examples(task):
            raise ConfigError(
                f"task {name} shows examples, and has none but the items that are measured; its file needs a "
                "training_split or another fewshot_split"
            )
    return found


def _sandbox() -> None:
    """Templates of task files can read the values of an item and no more: Jinja alone would let them run code."""
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment
    from lm_eval import utils

    if not isinstance(utils.env, SandboxedEnvironment):
        sandboxed = SandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
        sandboxed.filters.update(utils.env.filters)
        utils.env = sandboxed


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars of the harness and of `datasets`: a stage's log is a file."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _owned(files: list[TaskFile]) -> Tasks:
    names = {file.config["task"]: file for file in files}
    sources = {
        name: ", ".join(map(str, file.data)) or f"{file.config['dataset_path']}@{file.revision}"
        for name, file in names.items()
    }
    return Tasks({name: _own(file) for name, file in names.items()}, sources)


def _own(file: TaskFile) -> "Task":
    """The task of a user's file."""
    import lm_eval.api.metrics  # noqa: F401 (fills the registry)
    from lm_eval.api.registry import metric_registry
    from lm_eval.tasks import TaskManager

    for metric in file.config.get("metric_list") or []:
        name = metric.get("metric")
        if name not in metric_registry:
            known = sorted(metric_registry)
            near = get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{file.path}: metric_list: the harness has no metric {name!r}; {hint}")
    try:
        loaded = TaskManager(include_defaults=False).load([dict(file.config)])
    except Exception as error:  # whatever a setting can do to code that is not ours
        raise ConfigError(f"{file.path}: the harness cannot make a task of it: {reason(error)}") from error
    return loaded["tasks"][file.config["task"]]


@lru_cache
def _manager() -> "TaskManager":
    """The index of the harness's own tasks: it reads 15,000 files, so once for a process."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _known(name: str) -> Tasks:
    """A task, group or tag of the harness. DataError where its items cannot be read."""
    manager = _manager()
    if name not in manager.all_tasks:
        near = get_close_matches(name, manager.all_tasks, 3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(
            f"the harness has no task {name!r}; {hint}A file or folder of your own is written as a path: ./{name}"
        )
    try:
        loaded = manager.load([name])
    except Exception as error:  # network, server, cache, missing packages: whatever a task needs
        raise DataError(
            f"task {name}: its items cannot be read: {reason(error)}. They come from the Hugging Face hub: go online "
            "once (later runs find them in the cache), or write a task file with local data (docs/harness.md)"
        ) from error
    groups = {task: group for group, members in loaded["group_map"].items() for task in members}
    return Tasks(loaded["tasks"], {name: _source(task) for name, task in loaded["tasks"].items()}, groups)


def reason(error: Exception) -> str:
    """What went wrong in code that is not ours, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}".removesuffix(".")


def _check(name: str, task: "Task") -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise ConfigError(f"task {name} runs code that the model has written; that is not done here")
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(f"task {name} shows pictures or plays sounds; models here read text")


def _set_shots(name: str, task: "Task", num_fewshot: int) -> None:
    if num_fewshot < 0:
        return
    if task.get_config("num_fewshot") == 0 and num_fewshot:
        raise ConfigError(f"num_fewshot={num_fewshot}: task {name} is one that shows no examples; leave it out")
    task.set_config(key="num_fewshot", value=num_fewshot)


def _has_examples(task: "Task") -> bool:
    """Whether examples come from elsewhere than from the items that are measured."""
    shown, splits = task.fewshot_cfg, [task.config.test_split, task.config.validation_split]
    if shown.split is not None:
        return shown.split != next(split for split in splits if split is not None)
    return shown.samples is not None or task.has_training_docs() or None not in splits


def _source(task: "Task") -> str:
    """The data set of the hub that the items are from, at the commit that was read where that is known."""
    name = str(task.get_config("dataset_path"))
    files = [Path(file["filename"]) for split in task.dataset.values() for file in split.cache_files]
    commit = next((part for file in files for part in file.parts if COMMIT.fullmatch(part)), "")
    return f"{name}@{commit}" if commit else name
