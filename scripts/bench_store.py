"""How fast the command is on a large store: a run with nothing to do, `status`, `gc` and `store fsck`.

    python scripts/bench_store.py                       # 10,000 artifacts and 1,000 runs beside a built `smoke`
    python scripts/bench_store.py --artifacts 100 --runs 10 --repeat 1 --out /dev/null

The experiment `smoke` is built once. Then the store is filled with artifacts of a few bytes, ten in a row made from one
another, and with records of runs of the same experiment that name them, half of them older than gc keeps. Each command
is a process of its own, as a user starts it; the fastest of `--repeat` counts. `seconds` are on the clock, so nothing
else may run; `processor_seconds` depend less on that, and `load` says how busy the machine was. Results go to
benchmarks/store_cpu.json.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.identity import artifact_id, payload_of
from pipeline.manifest import read_json, write_json
from pipeline.pins import set_pin
from pipeline.schema import StageConfig
from pipeline.store import Store, Stored

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "store_cpu.json"
EXPERIMENT = ("experiment=smoke", "tracker=none")
ROW = 10  # artifacts that are made from one another
DAY = 86400
LIMITS = {"run": 3.0, "status": 2.0, "gc": 10.0}  # seconds
COMMANDS = {
    "run": ("run", *EXPERIMENT), "plan": ("plan", *EXPERIMENT), "status": ("status", *EXPERIMENT),
    "status --check": ("status", *EXPERIMENT, "--check"), "explain": ("explain", "dpo", *EXPERIMENT), "gc": ("gc",),
    "store fsck": ("store", "fsck"),
}  # fmt: skip


def command(words: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of one command; SystemExit if it fails."""
    env = {**os.environ, "JOURNEYMAN_STORE": str(folder / "store"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *words], cwd=folder, env=env, capture_output=True, text=True
    )
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fill(store: Store, artifacts: int, runs: int) -> None:
    """Artifacts in rows of ten, and records of runs that name them; every fiftieth row is pinned."""
    record = read_json(store.runs("smoke") / "latest" / "run.json")
    rows = [row_of(store, number) for number in range(artifacts // ROW)]
    for number in range(0, len(rows), 50):
        set_pin(store, f"kept-{number}", rows[number][-1])
    for number in range(runs):
        row = rows[number % len(rows)]
        stages = {
            f"stage{i}": {**record["stages"]["dpo"], "path": store.relative(one.path)} for i, one in enumerate(row)
        }
        folder = store.new_run("smoke")
        write_json(folder / "run.json", {**record, "run_id": folder.name, "stages": stages})
        if number % 2:
            then = time.time() - 30 * DAY
            os.utime(folder / "run.json", (then, then))


def row_of(store: Store, number: int) -> list[Stored]:
    made: list[Stored] = []
    for i in range(ROW):
        payload = payload_of("toy", 1, StageConfig(kind="toy", seed=ROW * number + i), {}, {})
        id, inputs = artifact_id(payload), {"policy": made[-1].reference()} if made else {}
        out = store.work(id) / "out"
        out.mkdir(parents=True)
        (out / "model.txt").write_text(str(i))
        manifest = {"id": id, "kind": "toy", "stage": f"stage{i}", "payload": payload, "inputs": inputs, "metrics": {}}
        made.append(store.publish("toy", id, manifest))
        shutil.rmtree(store.work(id))
    return made


def measure(folder: Path, repeat: int) -> dict[str, dict[str, float]]:
    found = {}
    for name, words in COMMANDS.items():
        timed = sorted(command(words, folder) for _ in range(repeat))
        found[name] = {"seconds": round(timed[0][0], 3), "median_seconds": round(timed[len(timed) // 2][0], 3),
                       "processor_seconds": round(min(cpu for _, cpu in timed), 3)}  # fmt: skip
        print(f"{name}: {found[name]}", flush=True)
    return found


def within(found: dict[str, dict[str, float]], measure: str) -> dict[str, bool]:
    return {name: found[name][measure] <= most for name, most in LIMITS.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command(COMMANDS["run"], folder)
        print("smoke alone", flush=True)
        small = measure(folder, options.repeat)
        os.fsync = lambda handle: None  # of filling the store alone: nothing here has to outlive a power cut
        fill(Store(folder / "store"), options.artifacts, options.runs)
        print(f"beside {options.artifacts} artifacts and {options.runs} runs", flush=True)
        large = measure(folder, options.repeat)
    entry: dict[str, Any] = {
        "artifacts": options.artifacts, "runs": options.runs, "repeat": options.repeat,
        "smoke_alone": small, "full": large,
        "limits_seconds": LIMITS, "within_by_clock": within(large, "seconds"),
        "within_by_processor": within(large, "processor_seconds"),
        "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0], "python": platform.python_version(),
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
    }  # fmt: skip
    if options.out.suffix == ".json":
        options.out.write_text(json.dumps(entry, indent=1) + "\n")
    return 0 if all(entry["within_by_processor"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
