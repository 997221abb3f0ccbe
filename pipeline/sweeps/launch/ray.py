"""Each cell a Ray task, `workers` at a time; Ray starts on this machine where no cluster is named."""

import os
from collections.abc import Sequence
from typing import Any

from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.guard import Answer, failed
from pipeline.schema import Launcher
from pipeline.sweeps.launch import Cell, Elsewhere, Work

POLL = 1.0  # seconds after which an interrupt is noticed
KEPT = ("JOURNEYMAN_", "HF_", "OMP_")  # variables that tasks get, by how they begin


def launch(cells: Sequence[Cell], launcher: Launcher, work: Work, screen: Screen) -> list[Answer]:
    ray = _ray()
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
    here = None if launcher.address else launcher.cpus * launcher.workers
    ray.init(launcher.address, num_cpus=here, runtime_env={"env_vars": kept}, include_dashboard=None)
    asked = {"num_cpus": launcher.cpus, "num_gpus": launcher.gpus, "memory": int(launcher.memory_gib * 2**30)}
    away = Elsewhere(work)
    task = ray.remote(max_retries=0, **asked)(lambda cell: away(cell))  # Ray takes functions only
    waiting, running, answers = list(cells), dict[Any, Cell](), dict[int, Answer]()
    try:
        while waiting or running:
            while waiting and len(running) < launcher.workers:
                cell = waiting.pop(0)
                running[task.remote(cell)] = cell
            for ended in ray.wait(list(running), timeout=POLL)[0]:
                cell = running.pop(ended)
                answers[cell.number] = _answer(ray, ended, cell, screen)
                if answers[cell.number][0] == 130:
                    raise KeyboardInterrupt
    finally:
        for one in running:
            ray.cancel(one)
        ray.shutdown()
    return [answers[cell.number] for cell in cells]


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("launcher=ray needs the package ray: pip install 'journeyman[ray]'") from error
    return ray


def _answer(ray: Any, ended: Any, cell: Cell, screen: Screen) -> Answer:
    try:
        answer: Answer = ray.get(ended)
    except ray.exceptions.RayError as error:
        told = str(error).strip().splitlines() or [type(error).__name__]
        return failed(screen, f"{cell.prefix}its task died ({told[-1]}); the same command continues it", 5)
    return answer
