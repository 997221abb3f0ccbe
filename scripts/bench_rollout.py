"""Sampling speed: our rollouts against the library's `generate`, on the same prompts, in turns. `--help` says how.

Answers end at `--new` tokens, as random weights or a high temperature would have it anyway: every contender writes the
same number of tokens. Results go to benchmarks/rollout_cpu.json (or _cuda) with the hardware and the versions.
"""

import argparse
import json
import random
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_machine import environment, peak_bytes
from bench_shapes import model_folder

ROOT = Path(__file__).resolve().parent.parent


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2", help="as in bench_step.py")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=2, help="answers to each prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens of every answer")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter that the policy has; 0 = none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    import torch

    asked = options()
    contenders = {"fast": ours, "generate": generate, "continuous batching": continuous, "vllm": by_vllm}
    policies = {"fast": opened(asked, fused=True), "generate": opened(asked, fused=False)}
    policies["vllm"] = policies["fast"]  # which checks what vLLM tells
    prompts = made(asked, policies["fast"].model.config.vocab_size)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    refused: dict[str, str] = {}
    for number in range(asked.rounds + 1):  # the first is a warm-up
        for name, run in contenders.items():
            if name in refused:
                continue
            began = time.perf_counter()
            try:
                written = run(policies.get(name, policies["generate"]), prompts, asked)
                if not written:
                    raise RuntimeError("it wrote nothing")
            except Exception as error:  # a contender that does not run here is part of the result
                refused[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            if asked.device == "cuda":
                torch.cuda.synchronize()
            if number:
                seconds[name].append((time.perf_counter() - began) / written)
    report(asked, seconds, refused)


def opened(asked: argparse.Namespace, fused: bool) -> Any:
    """The policy as PPO has it, with an adapter that is being trained; `fused`: as its training step computes it."""
    import older_libraries
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from stages.kernels.step import install
    from stages.models.chain import Chain, Policy

    older_libraries.varlen_without_switch()
    folder = model_folder(asked.model, device=asked.device)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, asked.dtype)).to(asked.device).eval()
    model.generation_config.eos_token_id = None
    if asked.rank:
        get_peft_model(model.requires_grad_(False), LoraConfig(r=asked.rank, target_modules="all-linear"))
        model.eval()
        if fused:
            install(model, "fast")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    return Policy(model, tokenizer, Chain(base={}), asked.device)


def made(asked: argparse.Namespace, vocabulary: int) -> list[list[int]]:
    """Prompts of 40 to 200 tokens that begin with the same 24, as chats with one system turn do."""
    draw, words = random.Random(0), min(10_000, vocabulary)
    start = [draw.randrange(100, words) for _ in range(24)]
    return [start + [draw.randrange(100, words) for _ in range(draw.randint(16, 176))] for _ in range(asked.prompts)]


def ours(policy: Any, prompts: list[list[int]], asked: argparse.Namespace) -> int:
    from stages.kernels.rollout import Sampling, rollout

    answers = rollout(policy, prompts, Sampling(asked.new, samples=asked.samples))
    return sum(len(answer.ids) for answer in answers)


def by_vllm(policy: Any, prompts: list[list[int]], asked: argparse.Namespace) -> int:
    """With what it costs to check its log-probabilities against the policy's own, as training has it."""
    from pipeline.schema import Runtime
    from stages.kernels.vllm import answered_by, check_engine

    check_engine("vllm", Runtime(device=asked.device))
    return ours(answered_by(replace(policy), "vllm"), prompts, asked)


def generate(policy: Any, prompts: list[list[int]], asked: argparse.Namespace) -> int:
    """Everything in one padded batch, with the scores from which log-probabilities are read."""
    from stages.kernels.prefill import padded

    ids, mask = padded(prompts, policy, left=True)
    made = policy.model.generate(
        ids, attention_mask=mask, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=asked.new, pad_token_id=0,
        num_return_sequences=asked.samples, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    policy.model.compute_transition_scores(made.sequences, made.scores, normalize_logits=True)
    return made.sequences[:, ids.shape[1] :].numel()


def continuous(policy: Any, prompts: list[list[int]], asked: argparse.Namespace) -> int:
    from transformers import GenerationConfig

    config = GenerationConfig(
        do_sample=True, top_k=0, top_p=1.0, max_new_tokens=asked.new, eos_token_id=-1, pad_token_id=0
    )
    found = policy.model.generate_batch([p for p in prompts for _ in range(asked.samples)], generation_config=config)
    return sum(len(answer.generated_tokens) for answer in found.values())


def report(asked: argparse.Namespace, seconds: dict[str, list[float]], refused: dict[str, str]) -> None:
    rows = [
        {"workload": "rollout", "device": asked.device, "model": asked.model, "contender": name, "dtype": asked.dtype,
         "prompts": asked.prompts, "samples": asked.samples, "new_tokens": asked.new, "rank": asked.rank,
         "rounds": len(found),
         "tokens_per_s": 1 / statistics.median(found), "slowest_tokens_per_s": 1 / max(found),
         "fastest_tokens_per_s": 1 / min(found)}
        for name, found in seconds.items() if found
    ]  # fmt: skip
    told = {**environment(), "peak_bytes_of_all": peak_bytes(asked.device), "did_not_run": refused, "rows": rows}
    out = asked.out or ROOT / "benchmarks" / f"rollout_{asked.device}.json"
    out.write_text(json.dumps(told, indent=2) + "\n")
    for row in rows:
        print(f"{row['contender']:>20}  {row['tokens_per_s']:8.1f} tokens/s")
    for name, why in refused.items():
        print(f"{name:>20}  did not run: {why}")


if __name__ == "__main__":
    main()
