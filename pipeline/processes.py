"""A stage in several processes: its child starts them with `accelerate launch` and puts their outcomes together.

The child keeps the lock, the log and the result; the ranks (`pipeline/rank.py`) do the work. Each dies with who started
it, and before an artifact is built again those of an earlier child have ended.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.manifest import read_json, write_json
from pipeline.registry import Kind
from pipeline.schema import Runtime

FLAGS = {  # of accelerate launch
    "ddp": ["--multi_gpu"],  # also what starts several processes on CPUs
    "fsdp2": [
        "--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP",
        "--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_cpu_ram_efficient_loading", "false",
    ],
    "deepspeed": ["--use_deepspeed", "--zero_stage", "2"],  # divides gradients and moments; each rank has the weights
}  # fmt: skip
DEVICES = ("auto", "cpu", "cuda")
KERNELS = ("plain", "triton")
ALIVE = "ranks.lock"  # in the work folder; every rank holds it for as long as it lives
MEETING = "meeting.json"  # in the work folder, while other machines are to join
LAST_WORD = 60.0  # seconds in which ranks of other machines tell their outcome after the first machine's have
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass
class Outcome:
    """What a child, or a rank, says at its end. `begin` and `end` (time.time()) bracket the stage's own work."""

    begin: float
    end: float
    metrics: Mapping[str, float] | None = None
    sections: Mapping[str, Any] | None = None
    error: str | None = None
    exit_code: int = 0
    lost: bool = False  # the error is that another rank has gone


def check_runtime(runtime: Runtime, found: Kind) -> None:
    """ConfigError for a place that cannot be, or a number of processes that the kind has no use for."""
    if runtime.device not in DEVICES:
        raise ConfigError(f"runtime.device={runtime.device}: use one of {', '.join(DEVICES)}")
    if runtime.kernels not in KERNELS:
        raise ConfigError(f"runtime.kernels={runtime.kernels}: use one of {', '.join(KERNELS)}")
    for name in ("threads", "dequant_cache_gib"):
        if getattr(runtime, name) < 0:
            raise ConfigError(f"runtime.{name}={getattr(runtime, name)}: at least 0")
    processes, machines = runtime.num_processes, runtime.num_machines
    if processes < 1 or machines < 1:
        raise ConfigError(f"runtime.num_processes={processes}, num_machines={machines}: at least 1 each")
    if runtime.strategy not in FLAGS:
        raise ConfigError(f"runtime.strategy={runtime.strategy}: use one of {', '.join(FLAGS)}")
    if processes % machines:
        raise ConfigError(
            f"runtime.num_processes={processes} counts those of all machines, so it must be a multiple of "
            f"runtime.num_machines={machines}"
        )
    if processes > 1 and not found.stage.parallel:
        raise ConfigError(f"runtime.num_processes={processes}: the kind {found.name} runs in one process; take it out")
    if runtime.strategy != "ddp" and processes == 1:
        raise ConfigError(f"runtime.strategy={runtime.strategy} needs runtime.num_processes of 2 or more")


@dataclass(frozen=True)
class Meeting:
    """Where the processes of all machines find each other; `number` is another one each time that they are started."""

    address: str
    port: int
    number: str
    debug: bool = False


def together(spec_file: Path, spec: Mapping[str, Any], debug: bool) -> Outcome:
    """Run the stage in its processes and wait for them; the outcome is that of rank 0, or the first error of any."""
    runtime, ranks = spec["config"]["runtime"], spec_file.with_name("ranks")
    shutil.rmtree(ranks, ignore_errors=True)
    ranks.mkdir()
    meeting = meet(runtime, debug)
    if runtime["num_machines"] > 1:
        write_json(spec_file.with_name(MEETING), vars(meeting))  # `python -m pipeline.join` waits for it
        print(f"waiting for {runtime['num_machines'] - 1} other machines at {meeting.address}:{meeting.port}")
    process = start(spec_file, spec, meeting)
    try:
        code = process.wait()
    finally:
        process.kill()  # of no use to one that has ended
        spec_file.with_name(MEETING).unlink(missing_ok=True)
    return joined(ranks, runtime, code)


def meet(runtime: Mapping[str, Any], debug: bool = False) -> Meeting:
    """This machine, at the address and port that the environment names, or at its own name and a port that is free."""
    if runtime["num_machines"] == 1:
        return Meeting("127.0.0.1", 0, "", debug)
    with socket.socket() as free:
        free.bind(("", 0))
        port = int(os.environ.get("MASTER_PORT") or free.getsockname()[1])
    return Meeting(os.environ.get("MASTER_ADDR") or socket.gethostname(), port, uuid.uuid4().hex, debug)


def start(spec_file: Path, spec: Mapping[str, Any], meeting: Meeting, machine: int = 0) -> subprocess.Popen:
    """Start the ranks of one machine; they end with this process."""
    line = command(spec["config"]["runtime"], meeting, machine, settings(spec_file.with_name("ranks"), machine))
    return subprocess.Popen(
        [*line, str(spec_file), *(["debug"] if meeting.debug else [])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, cwd=spec["cwd"],
        stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent,
    )  # fmt: skip


def command(
    runtime: Mapping[str, Any], meeting: Meeting, machine: int, settings: Path, module: str = "pipeline.rank"
) -> list[str]:
    """The line that starts the ranks of a machine, but for the name of spec.json."""
    processes, machines = runtime["num_processes"], runtime["num_machines"]
    threads = max(1, (runtime["threads"] or os.cpu_count() or 1) * machines // processes)
    return [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(settings), *FLAGS[runtime["strategy"]],
        "--num_processes", str(processes), "--num_machines", str(machines), "--machine_rank", str(machine),
        "--main_process_ip", meeting.address, "--main_process_port", str(meeting.port),
        "--num_cpu_threads_per_process", str(threads), "--mixed_precision", "no", "--dynamo_backend", "no",
        "--module", module,
    ]  # fmt: skip


def settings(ranks: Path, machine: int = 0) -> Path:
    """A file for accelerate that says nothing, lest it takes what a person has configured for other programs."""
    file = ranks / f"accelerate-{machine}.yaml"
    file.write_text("{compute_environment: LOCAL_MACHINE, distributed_type: 'NO', mixed_precision: 'no'}\n")
    return file


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however that happens."""
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)


def stay_alive(work: Path) -> int:
    """Hold what says that a rank of this work folder lives; the descriptor is closed by the end of the process."""
    handle = os.open(work / ALIVE, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def wait_for_ranks(work: Path) -> None:
    """Wait until no rank of an earlier child is left: the kernel takes a moment to end them after the child."""
    if not (work / ALIVE).exists():
        return
    handle = os.open(work / ALIVE, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def joined(ranks: Path, runtime: Mapping[str, Any], code: int) -> Outcome:
    """What all ranks together have come to. Memory is that of the largest."""
    count = runtime["num_processes"]
    last = time.monotonic() + (LAST_WORD if runtime["num_machines"] > 1 and code == 0 else 0.0)
    while time.monotonic() < last and len(list(ranks.glob("*.json"))) < count:
        time.sleep(0.1)
    said = {i: Outcome(**read_json(ranks / f"{i}.json")) for i in range(count) if (ranks / f"{i}.json").exists()}
    failed = {rank: outcome for rank, outcome in said.items() if outcome.error and not outcome.lost}
    if failed:
        rank = min(failed, key=lambda i: failed[i].end)
        failed[rank].error = f"rank {rank} of {count}: {failed[rank].error}"
        return failed[rank]
    if gone := [rank for rank in range(count) if rank not in said]:
        return Outcome(
            0.0, 0.0, exit_code=5,
            error=f"rank {', '.join(map(str, gone))} of {count} ended without a word (accelerate launch: code {code}); "
            "perhaps the machine ran out of memory. The same command resumes it. The log has what was printed",
        )  # fmt: skip
    if lost := [outcome for outcome in said.values() if outcome.lost]:
        return lost[0]
    peaks = [(said[i].sections or {})["peak_bytes"] for i in range(count)]
    first = said[0]
    first.sections = {
        **(first.sections or {}), "peak_bytes": max(peaks),
        "processes": {key: runtime[key] for key in ("num_processes", "num_machines", "strategy")} | {"peaks": peaks},
    }  # fmt: skip
    return first
