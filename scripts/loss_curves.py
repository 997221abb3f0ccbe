"""Train with TRL's step and with the fast one on the same data under the same seed, and draw both losses.

    python scripts/loss_curves.py                        # 200 steps of sft and of dpo on the packaged model
    python scripts/loss_curves.py --model toy --steps 10

Writes benchmarks/loss_curves.json and docs/images/loss_curves.svg. The texts are the pages of this repository: a row of
sft is a passage, a pair is a passage's own continuation against another passage's.
"""

import argparse
import json
import random
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench_contenders import SHARED, lora
from bench_machine import hardware
from bench_shapes import model_folder

from pipeline.report.plots import moving_average, ticks

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS, STEPS = ("sft", "dpo"), ("trl", "fast")
BATCH = {"sft": 2, "dpo": 1}
PROMPT, ANSWER = 48, 32  # tokens; a row of sft has as many as both


# -- training -----------------------------------------------------------------------------------------------------
def passages(tokenizer: Any) -> list[list[int]]:
    """Pieces of the repository's own pages, all of one length, in an order drawn once."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = []
    for page in pages:
        ids = tokenizer(page.read_text(), add_special_tokens=False)["input_ids"]
        found += [ids[at : at + PROMPT + ANSWER] for at in range(0, len(ids) - PROMPT - ANSWER, PROMPT + ANSWER)]
    random.Random(0).shuffle(found)
    return found


def rows(tokenizer: Any, workload: str, count: int) -> list[dict[str, list[int]]]:
    """`count` rows; pages that are too few come again."""
    texts = passages(tokenizer)
    picked = [(texts[i % len(texts)], texts[(i + 1) % len(texts)]) for i in range(count)]
    if workload == "sft":
        return [{"input_ids": text, "labels": [-100] * PROMPT + text[PROMPT:]} for text, _ in picked]
    return [
        {"prompt_ids": text[:PROMPT], "chosen_ids": text[PROMPT:], "rejected_ids": other[PROMPT:]}
        for text, other in picked
    ]


def read(given: argparse.Namespace) -> dict[str, list[dict[str, list[int]]]]:
    """The rows of each workload, read once: pages may be edited while hundreds of steps run."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder(given.model))
    return {workload: rows(tokenizer, workload, BATCH[workload] * given.steps) for workload in WORKLOADS}


def trainer(workload: str, model: Any, tokenizer: Any, data: Any, flags: dict[str, Any]) -> Any:
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    class Pairs(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset

    if workload == "dpo":
        kind, args = Pairs, DPOConfig(**flags)
    else:
        kind, args = SFTTrainer, SFTConfig(**flags, dataset_kwargs={"skip_prepare_dataset": True})
    return kind(model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=lora())


def losses(workload: str, step: str, data: list[dict[str, list[int]]], given: argparse.Namespace) -> list[float]:
    """The loss of each step of one training; everything but the step is the same in both."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    from stages.kernels import step as steps

    folder = model_folder(given.model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, given.dtype)).requires_grad_(False)
    set_seed(0)
    flags = SHARED | {
        "output_dir": tempfile.mkdtemp(), "logging_steps": 1, "max_steps": given.steps, "seed": 0, "bf16": False,
        "activation_checkpointing": False, "per_device_train_batch_size": BATCH[workload], "max_length": 512,
        "use_cpu": given.device == "cpu", "train_sampling_strategy": "sequential",  # both steps see the same rows
    }  # fmt: skip
    made = trainer(workload, model.to(given.device), tokenizer, Dataset.from_list(data), flags)
    print(f"{workload}: {steps.install(model, step)}", flush=True)
    made.train()
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


# -- drawing ------------------------------------------------------------------------------------------------------
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 400, 240, 52, 34, 30
INK = {"trl": ("#8a8a8a", 4), "fast": ("#c2410c", 1.5)}  # the thin line lies on the wide one


def panel(name: str, curves: dict[str, list[float]], at: int) -> list[str]:
    """One plot at `at` pixels from the left: smoothed losses of both steps, axes, title."""
    smooth = {step: moving_average(values) for step, values in curves.items()}
    every = [value for values in smooth.values() for value in values]
    marks = ticks(min(every), max(every), 4)
    low, high, count = min(marks[0], min(every)), max(marks[-1], max(every)), len(every) // len(smooth)

    def x(step: float) -> float:
        return round(at + LEFT + (WIDTH - LEFT - 12) * step / max(1, count - 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    gap = max(abs(a - b) for a, b in zip(curves["trl"], curves["fast"], strict=True))
    parts = [f'<text x="{at + LEFT}" y="18">{name}: loss by step, largest difference {gap:.2g}</text>']
    for mark in marks:
        parts.append(f'<path d="M{x(0)} {y(mark)}H{x(count - 1)}" stroke="#ddd"/>')
        parts.append(f'<text x="{at + LEFT - 6}" y="{y(mark) + 4}" text-anchor="end">{mark:g}</text>')
    for step, values in smooth.items():
        points = " ".join(f"{x(i)},{y(value)}" for i, value in enumerate(values))
        colour, width = INK[step]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
    for step, anchor in ((0, "start"), (count - 1, "end")):
        parts.append(f'<text x="{x(step)}" y="{HEIGHT - 10}" text-anchor="{anchor}">{step + 1}</text>')
    return parts


def drawn(curves: dict[str, dict[str, list[float]]]) -> str:
    parts = [part for i, (name, pair) in enumerate(curves.items()) for part in panel(name, pair, i * WIDTH)]
    for i, (step, (colour, width)) in enumerate(INK.items()):
        at = WIDTH + 130 + 90 * i
        parts.append(f'<path d="M{at} {HEIGHT - 14}h24" stroke="{colour}" stroke-width="{width}"/>')
        parts.append(f'<text x="{at + 30}" y="{HEIGHT - 10}">{step}</text>')
    size = f'viewBox="0 0 {WIDTH * len(curves)} {HEIGHT}" width="{WIDTH * len(curves)}" height="{HEIGHT}"'
    style = 'font-family="sans-serif" font-size="12" fill="#333"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    return "\n".join([*lines, *parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2", help="a folder with safetensors, smollm2 (the packaged) or toy")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "loss_curves.json")
    parser.add_argument("--svg", type=Path, default=ROOT / "docs" / "images" / "loss_curves.svg")
    given = parser.parse_args()
    data = read(given)
    curves = {name: {step: losses(name, step, data[name], given) for step in STEPS} for name in WORKLOADS}
    packages = {name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")}
    gaps = {
        name: max(abs(a - b) for a, b in zip(pair["trl"], pair["fast"], strict=True)) for name, pair in curves.items()
    }
    result = {
        "date": time.strftime("%Y-%m-%d"), "hardware": hardware(), "packages": packages, "device": given.device,
        "model": Path(given.model).name, "dtype": given.dtype, "largest_difference": gaps, "curves": curves,
    }  # fmt: skip
    given.json.write_text(json.dumps(result) + "\n")
    given.svg.write_text(drawn(curves))
    print(json.dumps(gaps))


if __name__ == "__main__":
    main()
