"""Everything that is measured on a GPU, in one call and in order of importance, within a number of seconds.

    python scripts/bench_gpu.py OUT --unsloth-site FOLDER     # OUT gets step_cuda.json, ceilings.json, log.txt, ...
    python scripts/bench_gpu.py OUT --parts 8b-unsloth small  # what the first call had no time for
    python scripts/bench_gpu.py OUT --dry                     # the same parts with a tiny model on a CPU

Every part has a limit of its own, so that one which hangs does not eat the rest, and what is there is written as it
comes. The project need not be installed: this folder and its parent are put on the path of all parts. Packages that are
beside those of the interpreter belong into a folder called site-packages: `datasets` takes modules from elsewhere for
parts of the data, and fails to copy them. Nothing is downloaded.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 530
LEAST = 10  # seconds in which a part could do anything
GPU_TESTS = ("kernels/test_tree.py", "kernels/test_passes.py", "models/test_quantization.py")
TRL = ("trl-default", "trl-best")


@dataclass(frozen=True)
class Part:
    """A command of so many seconds at most; `words` are given the options of this call when its turn comes."""

    name: str
    limit: float
    words: Callable[[argparse.Namespace], list[str]]


def script(name: str, *words: object) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / name), *map(str, words)]


def ceilings(given: argparse.Namespace) -> list[str]:
    dry = ("--device", "cpu", "--size", 256, "--bytes", 1_000_000) if given.dry else ()
    return script("bench_ceilings.py", given.out, *dry)


def tests(given: argparse.Namespace) -> list[str]:
    plain = ["-m", "gpu", "-p", "older_libraries", "-p", "no:cacheprovider", "-rA", "--tb=short"]
    return [sys.executable, "-m", "pytest", *plain, *(f"tests/stages/{file}" for file in GPU_TESTS)]


def steps(model: str, workloads: str, contenders: tuple[str, ...], *more: object) -> Callable:
    """The part's command; dry, with the tiny model and few steps on the CPU."""

    def words(given: argparse.Namespace) -> list[str]:
        where = ("--model", model, "--device", "cuda", "--limit", 75)
        if given.dry:
            where = ("--model", "llama-tiny", "--device", "cpu", "--dtype", "float32", "--batch", 1, "--steps", 2)
        site = ("--unsloth-site", given.unsloth_site) if given.unsloth_site else ()
        return script(
            "bench_step.py", "--shape", "gpu", *where, "--workload", *workloads.split(), "--contender", *contenders,
            *more, *site, "--tflops", measured_tflops(given), "--out", given.out / "step_cuda.json",
        )  # fmt: skip

    return words


def measured_tflops(given: argparse.Namespace) -> float:
    """What the ceilings of this call found on a GPU; else what is written down."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from bench_shapes import TFLOPS

    file = given.out / "ceilings.json"
    found = json.loads(file.read_text()) if file.is_file() else {"device": None}
    return round(found["product_tflops"], 1) if found["device"] == "cuda" else TFLOPS


def profile(given: argparse.Namespace) -> list[str]:
    where = ("--model", "llama-tiny", "--device", "cpu", "--batch", 1) if given.dry else ("--model", "llama-1b")
    return script("bench_profile.py", given.out / "profile.txt", *where)


def rollout(given: argparse.Namespace) -> list[str]:
    where = ("--model", "llama-1b", "--device", "cuda", "--prompts", 64, "--samples", 4, "--new", 64, "--rounds", 3)
    if given.dry:
        where = ("--model", "llama-tiny", "--device", "cpu", "--dtype", "float32", "--prompts", 2)
        where = (*where, "--new", 2, "--rounds", 1)
    return script("bench_rollout.py", *where, "--out", given.out / "rollout_cuda.json")


PARTS = (
    Part("ceilings", 45, ceilings),
    Part("tests", 90, tests),
    Part("1b", 250, steps("llama-1b", "dpo sft", ("fast", "fast-triton", *TRL, "unsloth"), "--prompt", 1024)),
    Part("8b", 175, steps("llama-8b", "dpo sft", ("fast", *TRL), "--prompt", 1024)),
    Part("8b-4bit", 60, steps("llama-8b", "sft", ("fast", "fast-cached"), "--four-bit")),
    Part("profile", 50, profile),
    Part("small", 90, steps("smollm2-random", "domain", ("fast", "fast-compiled", "fast-graph", "trl-best"))),
    Part("rollout", 50, rollout),
    Part("1b-prompts", 80, steps("llama-1b", "dpo", ("fast", *TRL), "--prompt", 256, 2048)),
    Part("1b-others", 80, steps("llama-1b", "reward domain", ("fast", *TRL), "--prompt", 1024)),
    Part("8b-unsloth", 150, steps("llama-8b", "dpo sft", ("unsloth",), "--prompt", 1024)),
    Part("8b-4bit-peers", 150, steps("llama-8b", "sft", ("trl-best", "unsloth"), "--four-bit")),
    Part("8b-prompts", 120, steps("llama-8b", "dpo", ("fast", "trl-best"), "--prompt", 256, 2048)),
    Part("small-others", 90, steps("smollm2-random", "sft dpo", ("fast", *TRL, "unsloth"), "--prompt", 256)),
)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--unsloth-site", default="", help="site-packages with Unsloth and what it needs")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="these only")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts together")
    parser.add_argument("--dry", action="store_true")
    return parser.parse_args()


def run(part: Part, given: argparse.Namespace, seconds: float) -> dict[str, object]:
    """What became of a part; what it wrote goes to log.txt."""
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "scripts"), os.environ.get("PYTHONPATH", "")]))
    began = time.monotonic()
    with (given.out / "log.txt").open("a") as log:
        print(f"== {part.name}", file=log, flush=True)
        process = subprocess.Popen(
            part.words(given), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}, start_new_session=True,
        )  # fmt: skip
        try:
            ended = f"exit code {process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with its contenders
            process.wait()
            ended = f"stopped after {seconds:.0f} s"
    return {"part": part.name, "ended": ended, "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    given = options()
    given.out = given.out.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + given.seconds
    told = []
    for part in PARTS:
        if given.parts and part.name not in given.parts:
            continue
        left = until - time.monotonic()
        limit = left if given.dry else min(part.limit, left)  # a CPU takes its time
        told.append(run(part, given, limit) if left > LEAST else {"part": part.name, "ended": "no time left"})
        print(json.dumps(told[-1]), flush=True)
        (given.out / "parts.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
