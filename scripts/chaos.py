"""Kills whole runs with SIGKILL, and fills their disk, at every step of the store's protocol and at random times.

    python scripts/chaos.py                      # 200 kills of the toy chain, and a full disk at every step that writes
    python scripts/chaos.py --chain smoke --kills 20 --full 0      # the same on real training, torch and all
    python scripts/chaos.py --kills 12 --full 0 --out /dev/null    # a quick look

An undisturbed run is traced first: every change of the store is a step (tests/fault_command.py names them). Each step
is then the moment of one kill, at a random one of its occurrences; the kills that are left come at random times. After
every kill of the process group: (1) all that is published passes its hashes and every CURRENT names a whole attempt
(`store fsck`, also at the end), (2) every lock can be taken, (3) the same command ends with 0, and (4) each of its
artifacts has the bytes of the undisturbed run. A full disk must also end the command with exit code 5 and one sentence,
no traceback.
Results go to benchmarks/chaos.json, one entry for each chain.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.fsck import fsck
from pipeline.manifest import read_json
from pipeline.store import Store

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ROOT / "tests" / "fault_command.py"
OUT = ROOT / "benchmarks" / "chaos.json"
SETTLE = 20.0  # seconds within which the locks of a killed process group must be free
TRIES = 20  # times to draw a moment anew when a run ended before it
CHECKS = ("consistent", "unlocked", "completed", "identical", "clear")
WRITES = ("open", "mkdir", "link")  # steps that need space on the disk
TOY = """# @package _global_
defaults:
  - override /tracker: none
  - override /contract: null
  - _self_
name: chain
budget: none
model: {source: toy}
data:
  facts: {files: [facts.jsonl]}
  quiz: {files: [quiz.jsonl]}
stages:
  first: {kind: toy, inputs: {policy: base}, data: {train: facts}, train: {lr: 0.5, max_steps: 4}}
  second: {kind: toy, inputs: {policy: first}, train: {lr: 0.5, max_steps: 4}}
eval:
  suites:
    quiz: {measure: choice, data: quiz}
"""
WORDS = {"toy": ("experiment=chain",), "smoke": ("experiment=smoke", "tracker=none")}


@dataclass
class Round:
    """One fault and what came of it."""

    moment: str  # process|step|occurrence, or seconds after the start
    consistent: bool = False
    unlocked: bool = False
    completed: bool = False
    identical: bool = False
    clear: bool = True  # what a full disk made the command say and end with
    resumed: int = 0  # stages that went on from a checkpoint
    said: str = ""  # what was wrong

    @property
    def good(self) -> bool:
        return all(getattr(self, name) for name in CHECKS)


@dataclass
class Reference:
    """The undisturbed run."""

    digests: dict[str, str]
    seconds: float
    moments: dict[str, int]  # process|step -> how often one process comes to it


class Chaos:
    """Runs of one chain below `folder`, every one in a store of its own."""

    def __init__(self, chain: str, folder: Path, seed: int = 0, words: Sequence[str] = ()) -> None:
        """`words`: further ones for the command, such as --until."""
        self.chain, self.folder, self.draw = chain, folder, random.Random(seed)
        self.words = [*WORDS[chain], *words]
        (folder / "conf" / "experiment").mkdir(parents=True, exist_ok=True)
        (folder / "conf" / "experiment" / "chain.yaml").write_text(TOY)
        (folder / "facts.jsonl").write_text('{"id": "a"}\n{"id": "b"}\n')
        (folder / "quiz.jsonl").write_text('{"id": "q"}\n')
        self.reference = self._undisturbed()

    def start(self, store: Path, **faults: str) -> subprocess.Popen[str]:
        """The command in a process group of its own."""
        path = os.pathsep.join([str(ROOT), str(COMMAND.parent), os.environ.get("PYTHONPATH", "")])
        quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path, "JOURNEYMAN_STORE": str(store)}
        toys = {"FAULT_TOYS": "1"} if self.chain == "toy" else {}
        return subprocess.Popen(
            [sys.executable, str(COMMAND), "run", *self.words], cwd=self.folder, start_new_session=True,
            env={**os.environ, **quiet, **toys, **faults}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def _undisturbed(self) -> Reference:
        store, trace = self.folder / "undisturbed", self.folder / "trace"
        begin = time.monotonic()
        process = self.start(store, FAULT_TRACE=str(trace))
        out, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the undisturbed run failed:\n{out}")
        moments: dict[str, int] = {}
        for line in trace.read_text().splitlines():
            where, _, occurrence = line.rpartition("|")
            moments[where] = max(moments.get(where, 0), int(occurrence))
        return Reference(digests(store, self.chain), time.monotonic() - begin, moments)

    def kills(self, number: int) -> list[str]:
        """A moment at every step, then random times; where `number` is too small for that, half of it at steps."""
        steps = [f"{step}|{self.draw.randint(1, most)}" for step, most in self.reference.moments.items()]
        self.draw.shuffle(steps)
        steps = steps if number >= len(steps) else steps[: number // 2]
        return steps + ["random"] * (number - len(steps))

    def fills(self, number: int) -> list[str]:
        """Moments at which the disk can become full."""
        steps = self.kills(len(self.reference.moments))
        return [moment for moment in steps if moment.split("|")[1].startswith(WRITES)][:number]

    def kill(self, moment: str, store: Path) -> Round:
        """One kill, and everything that must hold after it."""
        for _ in range(TRIES):
            shutil.rmtree(store, ignore_errors=True)
            said = self._kill_once(moment, store)
            if said:
                return self._after(Round(said), store)
        raise SystemExit(f"{TRIES} runs ended before the moment {moment}")

    def _kill_once(self, moment: str, store: Path) -> str | None:
        """The moment at which the group was killed; None if the run was faster."""
        if moment != "random":
            process = self.start(store, FAULT_AT=moment, FAULT_KIND="kill")
            process.communicate()
            return moment if process.returncode == -signal.SIGKILL else None
        process, seconds = self.start(store), self.draw.uniform(0.05, self.reference.seconds)
        try:
            process.communicate(timeout=seconds)
            return None
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"{seconds:.3f} s"

    def fill(self, moment: str, store: Path) -> Round:
        """The disk is full from `moment` on: exit code 5 and a sentence, or nothing was lost but a cache."""
        flag = store.with_name("full")
        flag.unlink(missing_ok=True)
        shutil.rmtree(store, ignore_errors=True)
        process = self.start(store, FAULT_AT=moment, FAULT_KIND="full", FAULT_FLAG=str(flag))
        out, _ = process.communicate()
        found = self._after(Round(moment), store)
        told = process.returncode == 5 and "disk is full" in out
        only_saves_time = process.returncode == 0 and ("|open cache/" in moment or "|mkdir cache/" in moment)
        found.clear = (told or only_saves_time or not flag.exists()) and "Traceback" not in out
        if not found.clear:
            found.said += f"exit {process.returncode}: {out[-1500:]}"
        return found

    def _after(self, found: Round, store: Path) -> Round:
        found.unlocked = free(store)
        look = fsck(Store(store))
        found.consistent = not look.damaged
        process = self.start(store)
        out, _ = process.communicate()
        found.completed = process.returncode == 0
        made = digests(store, self.chain) if found.completed else {}
        found.identical = made == self.reference.digests
        found.consistent &= not fsck(Store(store)).damaged
        found.resumed = out.count("RESUMED ")
        if not found.good:
            broken = [finding.what for finding in look.findings if finding.level == "error"]
            other = {name for name in made if made[name] != self.reference.digests[name]}
            found.said = f"fsck: {broken}; other bytes: {sorted(other)}; {out[-1500:]}"
        return found


def digests(store: Path, chain: str) -> dict[str, str]:
    """stage -> digest over all its files, of the newest run."""
    name = {"toy": "chain"}.get(chain, chain)
    stages = read_json(store / "runs" / name / "latest" / "run.json")["stages"]
    return {stage: entry["digest"] for stage, entry in stages.items()}


def free(store: Path) -> bool:
    """Whether every lock can be taken within the time in which killed processes vanish."""
    deadline = time.monotonic() + SETTLE
    while any(Store(store).locked(file.stem) for file in (store / "locks").glob("*.lock")):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def summary(rounds: list[Round]) -> dict[str, Any]:
    """Counts, the steps that were hit, and every round in which something did not hold."""
    steps = Counter(found.moment.rpartition("|")[0] for found in rounds if "|" in found.moment)
    held = {name: sum(getattr(found, name) for found in rounds) for name in CHECKS}
    return {
        "faults": len(rounds), **held, "all_held": sum(found.good for found in rounds),
        "at_steps": sum(steps.values()), "at_random_times": len(rounds) - sum(steps.values()),
        "distinct_steps": len(steps), "rounds_that_resumed": sum(found.resumed > 0 for found in rounds),
        "steps": dict(sorted(steps.items())), "failures": [asdict(found) for found in rounds if not found.good],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", choices=sorted(WORDS), default="toy")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--full", type=int, default=1000, help="moments at which the disk is full, all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chaos, begin = Chaos(options.chain, Path(folder), options.seed), time.monotonic()
        kills = take("kill", chaos.kill, chaos.kills(options.kills), Path(folder) / "store")
        fills = take("full disk", chaos.fill, chaos.fills(options.full), Path(folder) / "store")
    faults = {"kill": kills, "full": fills}
    entry = {
        **{name: summary(rounds) for name, rounds in faults.items() if rounds},
        "steps_of_the_protocol": len(chaos.reference.moments), "seed": options.seed,
        "undisturbed_seconds": round(chaos.reference.seconds, 1), "seconds": round(time.monotonic() - begin),
        "python": platform.python_version(), "made": datetime.now(UTC).isoformat(timespec="minutes"),
    }  # fmt: skip
    if options.out.suffix == ".json":
        before = json.loads(options.out.read_text()) if options.out.exists() else {}
        merged = {**before, options.chain: {**before.get(options.chain, {}), **entry}}
        options.out.write_text(json.dumps(merged, indent=1) + "\n")
    for word, rounds in (("kills", kills), ("full disks", fills)):
        print(f"{word}: {sum(found.good for found in rounds)} of {len(rounds)} held")
    return 0 if all(found.good for found in (*kills, *fills)) else 1


def take(word: str, fault: Callable[[str, Path], Round], moments: list[str], store: Path) -> list[Round]:
    """One round for each moment, told as it ends."""
    rounds = []
    for number, moment in enumerate(moments, 1):
        found = fault(moment, store)
        rounds.append(found)
        held = "held" if found.good else "BROKEN"
        print(f"{word} {number} of {len(moments)}: {held}: {found.moment} {found.said}".rstrip(), flush=True)
    return rounds


if __name__ == "__main__":
    sys.exit(main())
