"""The child process of one stage: spec.json -> Stage.run(Context) -> result.json. Also validates configs in a child."""

import errno
import faulthandler
import importlib
import math
import os
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.context import Artifact, Context
from pipeline.disk import FULL
from pipeline.errors import ConfigError, JourneymanError, StageFailed
from pipeline.locks import Lock
from pipeline.manifest import read_json, sync_tree, write_json
from pipeline.processes import Outcome, check_runtime, together
from pipeline.redaction import redact
from pipeline.registry import Kind, kind
from pipeline.schema import Tracker

SEEDS = 2**32  # of them numpy knows


@dataclass(frozen=True)
class Request:
    """One config to validate."""

    where: str
    module: str
    kind: str
    config: Mapping[str, Any]


def build(spec_file: str, lock: Lock, results: Connection, debug: bool) -> None:
    """Entry of the child. Holds `lock` until it ends, so that an orphan is not overtaken; output goes to log.txt."""
    begin = time.time()
    try:
        spec = read_json(Path(spec_file))
        write_to(Path(spec_file).with_name("log.txt"))
        if spec["config"]["runtime"]["num_processes"] > 1:
            outcome = together(Path(spec_file), spec, debug)
        else:
            metrics, sections = run_stage(spec)
            outcome = Outcome(begin, time.time(), metrics, sections)
        sync_tree(Path(spec["out"]))  # a power cut must not keep result.json and lose what it speaks of
        write_json(Path(spec_file).with_name("result.json"), vars(outcome))
    except BaseException as error:
        outcome = failure(error, begin, Path(spec_file).with_name("log.txt"), debug)
    with suppress(OSError):  # an orphan's parent is gone; result.json tells the next run
        results.send(outcome)
    sys.exit(outcome.exit_code)


def run_stage(spec: Mapping[str, Any], rank: int = 0) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and manifest sections of the stage that `spec` describes, in this process alone or as one of several."""
    os.chdir(spec["cwd"])
    if spec["gpu"] is not None:  # CUDA reads it once, and has not begun yet
        os.environ["CUDA_VISIBLE_DEVICES"] = spec["gpu"]
    found = load_kind(spec["module"], spec["kind"])
    ctx = Context(
        run_id=spec["run_id"],
        experiment=spec["experiment"],
        stage=spec["stage"],
        id=spec["id"],
        config=instance(found, spec["config"]),
        inputs={role: _artifact(item) for role, item in spec["inputs"].items()},
        data={role: _artifact(item) for role, item in spec["data"].items()},
        lineage={item["id"]: _artifact(item) for item in spec["lineage"]},
        out=Path(spec["out"]),
        ckpt=Path(spec["ckpt"]),
        cache=Path(spec["cache"]),
        tracker=Tracker(**spec["tracker"]),
        tracker_dir=Path(spec["tracker_dir"]),
        rank=rank,
        processes=spec["config"]["runtime"]["num_processes"],
        forced=spec["basis"]["forced"],
    )
    metrics = dict(found.stage().run(ctx) or {})
    ctx.record("peak_bytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    _check_finite(metrics, "metrics")
    _check_finite(ctx.sections, "sections")
    return metrics, ctx.sections


def validate(requests: list[Request], results: Connection) -> None:
    """Entry of the validating child: sends [(where, message, exit code)] of all configs that cannot work."""
    errors = []
    for request in requests:
        try:
            found = load_kind(request.module, request.kind)
            config = instance(found, request.config)
            _check_seed(config.seed)
            check_runtime(config.runtime, found)
            found.stage().validate(config)
        except JourneymanError as error:
            errors.append((request.where, str(error), error.exit_code))
        except Exception as error:
            trace = traceback.format_exc()
            errors.append((request.where, f"validation broke: {type(error).__name__}: {error}\n{trace}", 5))
    results.send(errors)


def _check_seed(seed: int) -> None:
    """ConfigError for a number that no generator of random numbers begins with."""
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"seed={seed}: from 0 to {SEEDS - 1}")


def load_kind(module: str, name: str) -> Kind:
    """The kind, by importing the module that registers it: works for plug-ins without entry points too."""
    importlib.import_module(module)
    return kind(name)


def instance(found: Kind, config: Mapping[str, Any]) -> Any:
    """The config dataclass from its plain values, all of which are given: no default comes back."""
    empty = OmegaConf.structured(found.config)
    _empty_mappings(empty)
    return OmegaConf.to_object(OmegaConf.merge(empty, dict(config)))


def _empty_mappings(node: DictConfig) -> None:
    """Take the defaults out of free-form mappings: merging would mix them with what a person removed."""
    for key in node:
        value = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(value, DictConfig) and OmegaConf.get_type(value) is dict:
            node[key] = {}
        elif isinstance(value, DictConfig):
            _empty_mappings(value)


def _artifact(item: Mapping[str, str]) -> Artifact:
    return Artifact(item["id"], item["kind"], item["stage"], Path(item["path"]), item["digest"])


def write_to(log: Path) -> None:
    """Send stdout and stderr, also those of C libraries, to the log; the parent shows it on the terminal."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        os.dup2(handle, number)
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        _redact(stream)
    os.close(handle)
    faulthandler.enable()


def _redact(stream: Any) -> None:
    """Whatever is printed through the stream goes through `redact`, also by those who hold it already."""
    write = stream.write
    stream.write = lambda text: write(redact(text))


def failure(error: BaseException, begin: float, log: Path, debug: bool) -> Outcome:
    """A known error keeps its message and exit code; another becomes one line, its traceback is in the log."""
    end = time.time()
    if isinstance(error, KeyboardInterrupt):
        return Outcome(begin, end, error="interrupted", exit_code=130)
    with suppress(OSError):  # the disk may be full
        if debug or not (isinstance(error, JourneymanError) or is_full(error)):
            traceback.print_exception(error)
    if is_full(error):
        return Outcome(begin, end, error="the disk is full", exit_code=5)
    if isinstance(error, JourneymanError):
        return Outcome(begin, end, error=str(error), exit_code=error.exit_code)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Outcome(
            begin, end, error=f"out of memory ({_line(error)}); a smaller runtime.micro_batch needs less", exit_code=5
        )
    return Outcome(begin, end, error=f"{type(error).__name__}: {_line(error)} (the whole story: {log})", exit_code=5)


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is a full disk; libraries wrap the OSError in their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if os.strerror(errno.ENOSPC).lower() in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def _line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def _check_finite(value: Any, where: str) -> None:
    """StageFailed for NaN and infinity: a number that no one can read must not be published."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_finite(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_finite(item, f"{where}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise StageFailed(f"{where} is {value}: the stage diverged or measured nothing")
