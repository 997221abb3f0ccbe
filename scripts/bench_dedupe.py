"""Time, memory, precision and recall of removing duplicates from rows with a known share of them.

python scripts/bench_dedupe.py --rows 1000000 --out benchmarks/dedupe.json

The rows are conversations of made-up words with the frequencies of natural text. Of all rows, SHARES are copies of an
earlier one: to the byte, in other case and spacing, or with about one word in eighty exchanged. Others look alike and
are no copies: rows of one long instruction, and the answer of one row under the prompt of another.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import datasketch
import numpy as np

from stages.data.outcome import Lines, Outcome
from stages.prepare import PrepareConfig, gather

SHARES = {"exact": 0.05, "folded": 0.03, "near": 0.10, "template": 0.10, "same_answer": 0.05}
COPIES = ("exact", "folded", "near")
WORDS = 50_000
EDITED = 80  # words of a row for each that is exchanged
SEVERAL = 0.3  # of the copies are of a row that has another copy


class Words:
    """Random words; the n-th most frequent comes 1 / n as often as the first (Zipf)."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        letters = self.random.integers(97, 123, (WORDS, 9), dtype=np.uint8)
        lengths = self.random.integers(2, 10, WORDS)
        self.known = [bytes(word[:length]).decode() for word, length in zip(letters, lengths, strict=True)]
        odds = 1 / np.arange(1, WORDS + 1)
        self.bounds = np.cumsum(odds / odds.sum())

    def __call__(self, least: int, most: int) -> list[str]:
        places = np.searchsorted(self.bounds, self.random.random(int(self.random.integers(least, most))))
        return [self.known[min(place, WORDS - 1)] for place in places]

    def pick(self, count: int) -> int:
        return int(self.random.integers(count))


def rows(count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """(kind, prompt, answer)."""
    words = Words(seed)
    tasks = [" ".join(words(60, 100)) for _ in range(20)]
    kinds = words.random.choice([*SHARES, "new"], count, p=[*SHARES.values(), 1 - sum(SHARES.values())])
    originals: list[tuple[str, str]] = []
    copied: list[int] = []
    for kind in kinds.tolist():
        if kind == "new" or len(originals) < 100:
            kind, prompt, answer = "new", " ".join(words(10, 60)), " ".join(words(30, 200))
        elif kind == "template":
            prompt, answer = f"{tasks[words.pick(len(tasks))]} {' '.join(words(8, 20))}", " ".join(words(1, 3))
        elif kind == "same_answer":
            prompt, answer = " ".join(words(10, 60)), originals[words.pick(len(originals))][1]
        else:
            again = copied and words.random.random() < SEVERAL
            place = copied[words.pick(len(copied))] if again else words.pick(len(originals))
            copied.append(place)
            prompt, answer = COPY[kind](words, *originals[place])
        if kind == "new" and len(originals) < 200_000:
            originals.append((prompt, answer))
        yield kind, prompt, answer


def exact(words: Words, prompt: str, answer: str) -> tuple[str, str]:
    return prompt, answer


def folded(words: Words, prompt: str, answer: str) -> tuple[str, str]:
    return prompt.capitalize() + "?", answer.upper().replace(" ", "  ", 1 + words.pick(3))


def near(words: Words, prompt: str, answer: str) -> tuple[str, str]:
    said = answer.split()
    for place in words.random.choice(len(said), max(1, len(said) // EDITED), replace=False):
        said[place] = words(1, 2)[0] + "x"
    return prompt, " ".join(said)


COPY = {"exact": exact, "folded": folded, "near": near}


def written(path: Path, count: int, seed: int) -> list[str]:
    """The kind of each row of the file."""
    kinds = []
    with path.open("w") as file:
        for kind, prompt, answer in rows(count, seed):
            kinds.append(kind)
            file.write(json.dumps({"prompt": prompt, "response": answer}) + "\n")
    return kinds


def removed(path: Path, threshold: float, folder: Path) -> list[int]:
    """Numbers of the rows that the data set is rid of."""
    outcome = Outcome(Lines(folder / "kept.jsonl"), Lines(folder / "rejected.jsonl"))
    gather(PrepareConfig(files=[str(path)], near_duplicates=threshold), outcome, folder=folder)
    outcome.kept.close()
    outcome.rejected.close()
    with (folder / "rejected.jsonl").open() as lines:
        return [json.loads(line)["line"] - 1 for line in lines]


def measure(count: int, seed: int, threshold: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        kinds = written(path, count, seed)
        size, load = path.stat().st_size, round(os.getloadavg()[0], 1)
        watch, begin, before = Watch(), time.perf_counter(), computed(os.getpid())
        watch.start()
        gone = set(removed(path, threshold, Path(folder) / "out"))
        seconds = time.perf_counter() - begin
        watch.over.set()
    return {
        "rows": count,
        "megabytes": round(size / 1e6),
        "threshold": threshold,
        "seed": seed,
        "seconds": round(seconds, 1),
        "rows_per_second": round(count / seconds),
        "cpu_seconds": round(sum(watch.computed.values()) - before),
        "peak_mib": watch.peak,
        "load_before": load,
        **judged(kinds, gone),
    }


def judged(kinds: list[str], gone: set[int]) -> dict[str, Any]:
    planted = Counter(kinds)
    taken = Counter(kinds[number] for number in gone)
    copies = sum(taken[kind] for kind in COPIES)
    return {
        "precision": round(copies / max(1, len(gone)), 5),
        "recall": round(copies / max(1, sum(planted[kind] for kind in COPIES)), 5),
        "planted": dict(planted),
        "removed": {kind: taken[kind] for kind in planted},
    }


class Watch(threading.Thread):
    """The most MiB that this process and all below it held together, and the seconds that they computed."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.computed: dict[int, float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            below = family(os.getpid())
            self.peak = max(self.peak, sum(map(resident, below)) // 2**20)
            self.computed |= {process: seconds for process in below if (seconds := computed(process))}


def family(process: int) -> set[int]:
    """The process and all that it started, directly or not."""
    parents = {int(path.parent.name): parent(path) for path in Path("/proc").glob("[0-9]*/stat")}
    found = {process}
    while more := {child for child, above in parents.items() if above in found} - found:
        found |= more
    return found


def parent(stat: Path) -> int:
    """The process that started it; 0 where it has ended."""
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def computed(process: int) -> float:
    """Seconds; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def resident(process: int) -> int:
    """Bytes; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = measure(options.rows, options.seed, options.threshold)
    found["date"] = datetime.now(UTC).date().isoformat()
    found["hardware"] = {"cores": len(os.sched_getaffinity(0)), "cpu": platform.processor() or platform.machine()}
    found["packages"] = {
        "python": platform.python_version(), "numpy": np.__version__, "datasketch": datasketch.__version__,
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
