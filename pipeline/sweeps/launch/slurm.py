"""Each cell a Slurm job, through submitit; `launcher.cluster=local` starts the same jobs as processes of this machine.

Cells are composed and planned on the node, by the same code that any other launcher calls. That is why this is a few
lines over submitit's executor and not Hydra's launcher, which would compose each cell a second time and hand over a
config that `journeyman` does not read. A job that meets its time limit, or gives way to another, queues again.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config.search import named
from pipeline.display import Screen
from pipeline.errors import ConfigError
from pipeline.guard import Answer, failed
from pipeline.schema import Launcher
from pipeline.sweeps.launch import Cell, Elsewhere, Work

POLL = 2.0  # seconds between two looks at the jobs


def launch(cells: Sequence[Cell], launcher: Launcher, work: Work, screen: Screen) -> list[Answer]:
    submitit = _submitit()
    executor = submitit.AutoExecutor(folder=_logs(cells[0].overrides), cluster=launcher.cluster)
    executor.update_parameters(**parameters(launcher))
    with executor.batch():
        jobs = [executor.submit(Requeued(submitit, work), cell) for cell in cells]
    places = {id(job): place for place, job in enumerate(jobs)}
    answers: dict[int, Answer] = {}
    try:
        for job, cell in zip(jobs, cells, strict=True):
            screen.say(f"{cell.prefix}job {job.job_id}: {' '.join(cell.overrides)}; log: {job.paths.stdout}")
        for job in submitit.helpers.as_completed(jobs, poll_frequency=POLL):
            place = places[id(job)]
            answers[place] = _answer(job, cells[place], screen)
            if answers[place][0] == 130:
                raise KeyboardInterrupt
    finally:
        for place, job in enumerate(jobs):
            if place not in answers:
                job.cancel(check=False)
    return [answers[place] for place in range(len(cells))]


def parameters(launcher: Launcher) -> dict[str, Any]:
    """What submitit is asked for; those of `params` come last."""
    asked = {
        "name": "journeyman",
        "timeout_min": launcher.minutes,
        "cpus_per_task": launcher.cpus,
        "mem_gb": launcher.memory_gib,
        "gpus_per_node": launcher.gpus,
        "stderr_to_stdout": True,
        "slurm_array_parallelism": launcher.workers,
    }
    return {**asked, **launcher.params}


class Requeued:
    """One cell as a job. submitit calls `checkpoint` before Slurm ends it: the same cell queues again."""

    def __init__(self, submitit: Any, work: Work) -> None:
        self.delayed, self.work = submitit.helpers.DelayedSubmission, Elsewhere(work)

    def __call__(self, cell: Cell) -> Answer:
        return self.work(cell)

    def checkpoint(self, cell: Cell) -> Any:
        return self.delayed(self, cell)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ConfigError("launcher=slurm needs the package submitit: pip install 'journeyman[slurm]'") from error
    return submitit


def _logs(overrides: Sequence[str]) -> Path:
    """Where jobs write: in the store, which the nodes see, too."""
    root = named("store.root", overrides) or os.environ.get("JOURNEYMAN_STORE") or "store"
    return Path(root).absolute() / "cache" / "jobs"


def _answer(job: Any, cell: Cell, screen: Screen) -> Answer:
    """What the job answered, after its output; a job that died is a cell that failed."""
    for line in (job.stdout() or "").splitlines():
        screen.say(f"{cell.prefix}{line}")
    error = job.exception()
    if error is None:
        answer: Answer = job.result()
        return answer
    told = str(error).strip().splitlines() or [type(error).__name__]
    return failed(screen, f"{cell.prefix}job {job.job_id} died ({told[-1]}); the same command continues it", 5)
