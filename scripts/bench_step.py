"""Time one training step of every contender on the same tokens; results go to benchmarks/step_<device>.json.

    python scripts/bench_step.py                                    # all workloads on this machine
    python scripts/bench_step.py --workload dpo --contender fast trl-best --steps 20
    python scripts/bench_step.py --device cuda --shape gpu --model llama-1b --workload dpo --prompt 1024
    python scripts/bench_step.py --report                           # what was measured, as Markdown
    python scripts/bench_step.py --plot                             # the same as docs/images/step_speed.svg

Each contender is a process of its own (`bench_contenders.py`) that runs its trainer's real loop and waits at every
step for its turn. On a CPU steps of contenders interleave, so that a noisy neighbour meets all of them alike; on a GPU,
whose memory they cannot share, one runs after another, and the next one imports its libraries meanwhile. A step is
everything between two batches: forward, backward, clipping, optimizer. Speeds are those of the median step. All
contenders take the same rows in the same order, step by step. Tokens are those of the data, never padding; a pair
counts its prompt once. A contender that dies is recorded with its reason, and the others go on.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from bench_contenders import CONTENDERS, FAST
from bench_machine import ROOT, SCRATCH, environment
from bench_report import drawing, report
from bench_shapes import PAIRS, PROMPTS, RANDOM, TFLOPS, WARM_UP, WORKLOADS, Job, batch_of, floor, model_folder

IDENTITY = ("workload", "device", "model", "contender", "dtype", "four_bit", "prompt", "shape")
LIMIT = 3600  # seconds for a contender


class Died(Exception):
    """A contender's process ended before its work did; the message is the last line it wrote."""


@dataclass
class Contender:
    """A running contender and its steps so far."""

    job: Job
    process: subprocess.Popen[str]
    log: Path
    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False

    def answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            code = self.process.wait()
            raise Died("it took longer than --limit" if self.stopped else last_line(self.log) or f"exit code {code}")
        return json.loads(line)

    def go(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: its next answer says so
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def begin(self) -> None:
        """Let it build its model, once its libraries are imported."""
        self.answer()
        self.go()

    def step(self) -> bool:
        """One turn; False when the contender has come to its end."""
        said = self.answer()
        if "peak_bytes" in said:
            self.told = said
            return False
        self.go()
        done = self.answer()
        self.seconds.append(done["seconds"])
        self.tokens.append(done["tokens"])
        return True

    def stop(self) -> None:
        self.stopped = True
        self.process.kill()


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def start(job: Job) -> Contender:
    command = [sys.executable, str(ROOT / "scripts" / "bench_contenders.py"), json.dumps(asdict(job))]
    path = os.pathsep.join(filter(None, [job.site, str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
    SCRATCH.mkdir(exist_ok=True)
    log = SCRATCH / f"{'-'.join(str(value) for value in job.identity().values())}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        )
    return Contender(job, process, log)


# -- turns --------------------------------------------------------------------------------------------------------
def measured(groups: list[list[Job]], limit: float, tflops: float) -> Iterator[dict[str, Any]]:
    """Of each job its row, or what it is and why it did not run. Contenders of a group take turns.

    On a GPU the next group's processes import their libraries while one is measured.
    """
    waiting: list[list[Contender]] = []
    for group in groups:
        waiting.append([start(job) for job in group])
        if group[0].device == "cpu" or len(waiting) > 1:
            yield from in_turns(waiting.pop(0), limit, tflops)
    for contenders in waiting:
        yield from in_turns(contenders, limit, tflops)


def in_turns(contenders: list[Contender], limit: float, tflops: float) -> Iterator[dict[str, Any]]:
    """Step by step until all are at their end."""
    timers = [threading.Timer(limit, contender.stop) for contender in contenders]
    for timer in timers:
        timer.start()
    reasons: dict[str, str] = {}
    going = [each for each in contenders if lives(each, each.begin, reasons)]
    while going:
        going = [each for each in going if lives(each, each.step, reasons)]
    for timer in timers:
        timer.cancel()
    for each in contenders:
        reason = reasons.get(each.job.contender)
        yield row_of(each, tflops) if reason is None else {**each.job.identity(), "reason": reason}


def lives(contender: Contender, turn: Callable[[], Any], reasons: dict[str, str]) -> bool:
    """Take the turn; whether there is another one. Why there is none after a death is put into `reasons`."""
    try:
        return turn() is not False
    except Died as death:
        reasons[contender.job.contender] = str(death)
        return False


def row_of(contender: Contender, tflops: float) -> dict[str, Any]:
    job, seconds, tokens = contender.job, contender.seconds[WARM_UP:], contender.tokens[WARM_UP:]
    quartiles, median = statistics.quantiles(seconds, n=4), statistics.median(seconds)
    pairs = {"pairs_per_s": job.batch / median} if job.workload in PAIRS else {}
    per_step = sum(tokens) / len(tokens)
    row = {
        **job.identity(), "batch": job.batch, "tokens_per_s": per_step / median, **pairs,
        "tokens_per_step": per_step, "step_s_median": median, "step_s_spread": quartiles[2] - quartiles[0],
        "steps": len(seconds), "warm_up_s": sum(contender.seconds[:WARM_UP]), **contender.told,
    }  # fmt: skip
    if job.device == "cuda":
        row |= floor(job, tflops)
        row["share_of_floor"] = row["tokens_per_s"] / row["floor_tokens_per_s"]
    return row


# -- results ------------------------------------------------------------------------------------------------------
def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row is a measurement of. Rows that say nothing of it are 16-bit ones in the shape for a CPU."""
    return tuple({"four_bit": False, "prompt": 0, "shape": "cpu", **row}[key] for key in IDENTITY)


def with_others(result: dict[str, Any], out: Path) -> dict[str, Any]:
    """The result, with what `out` holds of other rows from the same hardware and packages."""
    before = json.loads(out.read_text()) if out.is_file() else {}
    if any(before.get(key) != result[key] for key in ("hardware", "packages")):
        return result
    new = {identity(row) for row in (*result["rows"], *result["did_not_run"])}
    merged = {
        key: [*(row for row in before.get(key, []) if identity(row) not in new), *result[key]]
        for key in ("rows", "did_not_run")
    }
    return {**result, **merged}


def write(said: dict[str, Any], made: list[dict[str, Any]], out: Path) -> None:
    result = {
        **said,
        "rows": [row for row in made if "reason" not in row],
        "did_not_run": [row for row in made if "reason" in row],
    }
    part = out.with_suffix(".part")
    part.write_text(json.dumps(with_others(result, out), indent=1) + "\n")
    part.replace(out)  # a kill leaves the old rows or the new ones


# -- the command --------------------------------------------------------------------------------------------------
def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--contender", nargs="+", choices=CONTENDERS, default=("fast", "trl-default", "trl-best"))
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"), help="both on a CPU, else bfloat16")
    parser.add_argument("--model", default="smollm2", help=f"a folder, smollm2 (packaged), toy, {', '.join(RANDOM)}")
    parser.add_argument("--shape", choices=("cpu", "gpu"), default="cpu", help="lengths and number of rows")
    parser.add_argument("--prompt", nargs="+", type=int, default=PROMPTS, help="tokens of prompts, in shape gpu")
    parser.add_argument("--four-bit", action="store_true", help="NF4 weights with quantized scales")
    parser.add_argument("--unsloth-site", default="", help="site-packages with Unsloth and what it needs")
    parser.add_argument("--compile-mode", default="default", help="of torch.compile, for fast-compiled")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=0, help="sequences, packs or pairs in a step")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds after which a contender is given up")
    parser.add_argument("--tflops", type=float, default=TFLOPS, help="of products: what the floor is reckoned with")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--report", action="store_true", help="print benchmarks/step_*.json as Markdown, run nothing")
    parser.add_argument("--plot", action="store_true", help="draw them as docs/images/step_speed.svg, run nothing")
    return parser.parse_args()


def jobs_of(given: argparse.Namespace) -> list[list[Job]]:
    """Groups of jobs whose steps interleave: the contenders of one workload on a CPU, one alone on a GPU."""
    groups = []
    dtypes = given.dtype or (("bfloat16", "float32") if given.device == "cpu" else ("bfloat16",))
    for workload, dtype in product(given.workload, dtypes):
        for prompt in given.prompt if workload in PAIRS and given.shape == "gpu" else (0,):
            jobs = [job_of(given, workload, dtype, prompt, name) for name in given.contender]
            groups += [jobs] if given.device == "cpu" else [[job] for job in jobs]
    return groups


def job_of(given: argparse.Namespace, workload: str, dtype: str, prompt: int, contender: str) -> Job:
    peer = contender not in FAST
    weights = contender == "unsloth" or (peer and given.four_bit)  # it quantizes, or loads, from a folder only
    return Job(
        workload, contender, str(model_folder(given.model, weights, given.device)), given.device, dtype, given.steps,
        given.batch or batch_of(workload, given.model, given.shape, prompt), shape=given.shape, prompt=prompt,
        four_bit=given.four_bit, compile_mode=given.compile_mode,
        site=given.unsloth_site if contender == "unsloth" else "",
    )  # fmt: skip


def main() -> None:
    given = options()
    files = sorted((ROOT / "benchmarks").glob("step_*.json"))
    if given.report:
        return print(report(files))
    if given.plot:
        return drawing(files, ROOT / "docs" / "images" / "step_speed.svg")
    out = given.out or ROOT / "benchmarks" / f"step_{given.device}.json"
    said, made = environment(), []
    for row in measured(jobs_of(given), given.limit, given.tflops):
        if row.get("packages") == said["packages"]:
            del row["packages"]
        made.append(row)
        print(json.dumps(row), flush=True)
        write(said, made, out)


if __name__ == "__main__":
    main()
