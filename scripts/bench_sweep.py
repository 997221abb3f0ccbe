"""What a sweep shares: eight cells of `smoke` in one store beside eight independent runs, and locks under load.

    python scripts/bench_sweep.py                       # everything; writes benchmarks/sweep_cpu.json
    python scripts/bench_sweep.py --only smoke          # or locks

`smoke`: four values of `beta` times two losses of `dpo`, so of 24 trainings of three stages 1 + 1 + 8 are different.
The independent runs have a store each and go one after the other, as the cells of `launcher=serial` do; with
`launcher=local` `--workers` go at a time. `cpu_seconds` are those of all processes, waited for as their last ancestor;
`seconds` are on the clock and depend on what else runs.

`locks`: rounds of the toy chain of the tests with 4 workers on one store, cells drawn at random so that they share
stages in ever new ways; counted is how often a stage was built again. And how long a process that queues at a lock
waits after its holder has let go.
"""

import argparse
import ctypes
import io
import itertools
import json
import multiprocessing
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.locks import Lock

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "sweep_cpu.json"
BETAS, LOSSES = ("0.05", "0.1", "0.2", "0.5"), ("[sigmoid]", "[ipo]")
BETA, LOSS = "stages.dpo.train.beta", "stages.dpo.train.loss_type"
CHAIN = ["experiment=smoke", "tracker=none"]
TRAINED = ("sft", "domain", "dpo")
PR_SET_CHILD_SUBREAPER = 36
FORK = multiprocessing.get_context("fork")
ROUNDS, WORKERS = 50, 4


def command(folder: Path, *words: str) -> dict[str, Any]:
    """Run `journeyman run WORDS --json` with a store in `folder`; its document, with seconds and CPU seconds."""
    env = {**os.environ, "JOURNEYMAN_STORE": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "pipeline", "run", *words, "--json"]
    begin, before = time.perf_counter(), _used()
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    with suppress(ChildProcessError):
        while True:  # the fork server, whose parent is gone
            os.wait()
    return {"document": json.loads(done.stdout), "seconds": seconds, "cpu_seconds": _used() - before}


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# -- a sweep beside independent runs ------------------------------------------------------------------------------
def side_by_side(folder: Path, workers: int) -> dict[str, Any]:
    cells = [[f"{BETA}={beta}", f"{LOSS}={loss}"] for beta in BETAS for loss in LOSSES]
    swept = ["-m", *CHAIN, f"{BETA}={','.join(BETAS)}", f"{LOSS}={','.join(LOSSES)}"]
    alone = [command(folder / f"alone{n}", *CHAIN, *cell) for n, cell in enumerate(cells)]
    serial = command(folder / "serial", *swept)
    local = command(folder / "local", *swept, "launcher=local", f"launcher.workers={workers}")
    made = [_made(one["document"]) for one in alone]
    sweeps = {"serial": serial, f"local, {workers} workers": local}
    same = [[_made(run) for run in sweep["document"]["runs"]] == made for sweep in sweeps.values()]
    total = {"seconds": sum(one["seconds"] for one in alone), "cpu_seconds": sum(one["cpu_seconds"] for one in alone)}
    return {
        "cells": len(cells),
        "independent": {**_rounded(total), "trained": _trained([one["document"] for one in alone])},
        **{
            name: {
                **_rounded(sweep),
                "trained": _trained(sweep["document"]["runs"]),
                "of_seconds": round(sweep["seconds"] / total["seconds"], 3),
                "of_cpu_seconds": round(sweep["cpu_seconds"] / total["cpu_seconds"], 3),
            }
            for name, sweep in sweeps.items()
        },
        "identical_ids_and_digests": all(same),
    }


def _made(run: dict[str, Any]) -> dict[str, list[str]]:
    return {name: [stage["id"], stage["digest"]] for name, stage in run["stages"].items()}


def _trained(runs: list[dict[str, Any]]) -> dict[str, int]:
    """How often each training stage was built."""
    built = Counter(name for run in runs for name, s in run["stages"].items() if s["status"] in ("BUILT", "RESUMED"))
    return {name: built[name] for name in TRAINED}


def _rounded(measured: dict[str, Any]) -> dict[str, float]:
    return {key: round(measured[key], 1) for key in ("seconds", "cpu_seconds")}


# -- locks --------------------------------------------------------------------------------------------------------
def rounds(folder: Path) -> dict[str, Any]:
    """Sweeps of the toy chain over random values, so that cells share the first stage, both or none."""
    toys(folder)
    draw, counts, built = random.Random(7), Counter[str](), Counter[str]()
    for number in range(ROUNDS):
        words = []
        for name in ("first", "second"):
            values = sorted({draw.randint(1, 3) for _ in range(draw.randint(1, 3))})
            words.append(f"stages.{name}.add={','.join(map(str, values))}")
        runs = sweep_of_toys(folder / f"store{number}", *words)
        attempts = Counter(path.parent for path in folder.glob(f"store{number}/artifacts/*/*/2*"))
        starts = [len(file.read_text().splitlines()) for file in folder.glob(f"store{number}/work/*/runs.txt")]
        built["again"] += sum(count - 1 for count in [*attempts.values(), *starts])
        counts.update(cells=len(runs), stages_of_all_cells=sum(len(run["stages"]) for run in runs))
        built["once"] += len(attempts)
    return {"rounds": ROUNDS, "workers": WORKERS, **counts, "built": built["once"], "duplicate_builds": built["again"]}


def toys(folder: Path) -> None:
    """The tests' toy kinds in this process, and their experiment in the current folder."""
    sys.path.insert(0, str(ROOT / "tests"))
    import toy_stages  # noqa: F401  registers the kinds
    from conftest import EXPERIMENT

    import pipeline.registry

    pipeline.registry.entry_points = lambda group: []  # type: ignore[assignment]
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "chain.yaml").write_text(EXPERIMENT)
    for name in ("facts", "quiz"):
        (folder / f"{name}.jsonl").write_text('{"id": "a"}\n')
    os.chdir(folder)


def sweep_of_toys(store: Path, *words: str) -> list[dict[str, Any]]:
    """The runs of a sweep with `WORKERS` at a time."""
    from pipeline.cli import main as journeyman

    answer = io.StringIO()
    local = ["launcher=local", f"launcher.workers={WORKERS}", f"store.root={store}"]
    with redirect_stdout(answer):
        code = journeyman(["run", "-m", "experiment=chain", *words, *local, "--json"])
    document = json.loads(answer.getvalue())
    if code:
        raise SystemExit(f"a sweep of toys ended with {code}: {document}")
    return document["runs"]


def lock_waits(folder: Path) -> dict[str, Any]:
    """Seconds from a holder's letting go to the next of those that queue having the lock, over many rounds."""
    waits = []
    for number in range(ROUNDS):
        held, said = FORK.Event(), FORK.Queue()
        work = [FORK.Process(target=_hold, args=(folder / f"{number}.lock", held, said, number))]
        work += [FORK.Process(target=_queue, args=(folder / f"{number}.lock", held, said)) for _ in range(WORKERS - 1)]
        for process in work:
            process.start()
        had = sorted(said.get() for _ in work)  # [(taken, let go)], one after the other
        waits += [taken - gone for (_, gone), (taken, _) in itertools.pairwise(had)]
        for process in work:
            process.join()
    waits.sort()
    return {"waits": len(waits), "median": round(waits[len(waits) // 2], 5), "largest": round(waits[-1], 5)}


def _hold(file: Path, held: Any, said: Any, number: int) -> None:
    """Hold the lock for a random time, in which the others begin to queue."""
    lock, taken = Lock.acquire(file), time.monotonic()
    assert lock is not None
    held.set()
    time.sleep(random.Random(number).uniform(0.1, 0.3))
    _let_go(lock, said, taken)


def _queue(file: Path, held: Any, said: Any) -> None:
    held.wait()
    lock, taken = Lock.acquire(file, lambda: None), time.monotonic()
    assert lock is not None
    time.sleep(0.01)
    _let_go(lock, said, taken)


def _let_go(lock: Lock, said: Any, taken: float) -> None:
    gone = time.monotonic()
    lock.__exit__()
    said.put((taken, gone))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("smoke", "locks"))
    parser.add_argument("--workers", type=int, default=2, help="of launcher=local in the sweeps")
    parser.add_argument("--folder", type=Path, help="for the stores, thrown away afterwards; on a disk of its own kind")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # CPU seconds of fork servers come to this process
    parts = {
        "smoke": lambda folder: side_by_side(folder, options.workers),
        "locks": lambda folder: {**rounds(folder), "seconds_after_release": lock_waits(folder)},
    }
    found = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in [options.only] if options.only else list(parts):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            load = os.getloadavg()[0]
            found[name] = {**parts[name](Path(folder)), "load_before": round(load, 1)}
        machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
        found = {
            "measured": datetime.now(UTC).date().isoformat(),
            **machine,
            **{k: found[k] for k in parts if k in found},
        }
        OUT.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps({name: found[name]}, indent=1))


if __name__ == "__main__":
    main()
