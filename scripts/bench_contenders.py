"""One contender in a process of its own: its trainer's real loop, which waits at every step for its turn.

Talks in lines: it writes one of JSON when its libraries are imported, before each step and after it, and at its end;
it waits for one on stdin after the first and before each step.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_machine import SCRATCH, packages, peak_bytes
from bench_shapes import RANK, WARM_UP, Job, drawn, rows_of, tokens_of

# Of this project: as it comes, with Triton's kernels, with dense 4-bit weights kept, compiled, as a CUDA graph.
FAST = ("fast", "fast-triton", "fast-cached", "fast-compiled", "fast-graph")
CONTENDERS = (*FAST, "trl-default", "trl-best", "unsloth")
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HEADS = ("lm_head", "score")  # are not quantized


def work(job: Job) -> None:
    """Run the contender's trainer, turn by turn."""
    out, sys.stdout = sys.stdout, sys.stderr
    if reason := cannot(job):
        sys.exit(reason)
    imported(job)
    _tell(out, ready="imported")
    _wait()
    trainer, tokens, told = build(job)
    trainer.add_callback(turns(out, tokens, job.device))
    trainer.train()
    _tell(out, peak_bytes=peak_bytes(job.device), packages=packages(), **told, **compiled(job))


def cannot(job: Job) -> str | None:
    """Why this contender has no such job, if it has none."""
    if job.contender == "fast-cached" and not job.four_bit:
        return "only 4-bit weights are made dense: there is nothing to keep"
    if job.contender == "fast-triton" and job.device != "cuda":
        return "Triton's kernels need a CUDA device"
    if job.contender == "unsloth" and job.workload == "reward":
        return "Unsloth has no step of its own for a reward model"
    if job.contender == "unsloth" and job.device != "cuda":
        return "Unsloth needs a CUDA device"
    if job.contender == "fast-graph" and (job.device != "cuda" or job.workload != "domain"):
        return "a CUDA graph needs a CUDA device, and packs of one layout: the workload domain in shape gpu"
    return None


def imported(job: Job) -> None:
    """Libraries, before the device is touched: this takes seconds, which may pass while another is measured."""
    SCRATCH.mkdir(exist_ok=True)
    if job.contender == "unsloth":  # it changes TRL and Transformers, so it has to come before them
        os.chdir(tempfile.mkdtemp(dir=SCRATCH))  # it writes the code that it makes into the working directory
        import unsloth  # noqa: F401
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401
    import trl

    _ = trl.SFTTrainer, trl.DPOTrainer  # loaded when asked for


def _tell(out: Any, **said: Any) -> None:
    print(json.dumps(said), file=out, flush=True)


def _wait() -> None:
    if not sys.stdin.readline():
        sys.exit("nobody keeps the turns any more")


def turns(out: Any, tokens: list[int], device: str) -> Any:
    import torch
    from transformers import TrainerCallback

    class Turns(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()  # what it took to load the model is no part of a step

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            _tell(out, ready=state.global_step)
            _wait()
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            _tell(out, seconds=time.perf_counter() - self.began, tokens=tokens[state.global_step - 1])

    return Turns()


def compiled(job: Job) -> dict[str, int]:
    """What the compiler met, where one was used."""
    if job.contender != "fast-compiled":
        return {}
    from torch._dynamo.utils import counters

    return {"graph_breaks": sum(counters["graph_break"].values()), "graphs": counters["stats"]["unique_graphs"]}


# -- models -------------------------------------------------------------------------------------------------------
def build(job: Job) -> tuple[Any, list[int], dict[str, Any]]:
    """The contender's trainer, the tokens of each of its steps, and what is to be told of it."""
    from transformers import AutoConfig, AutoTokenizer

    rows = rows_of(job, min(40_000, AutoConfig.from_pretrained(job.model).vocab_size))
    totals = [sum(map(tokens_of, rows[at : at + job.batch])) for at in range(0, len(rows), job.batch)]
    if job.contender == "unsloth":
        return trainer_of(job, *unsloth_model(job), rows, None), totals, {}
    model = load(job)
    told = {"planned_bytes": planned(job, model, max(totals))} if job.contender in FAST else {}
    adapter = lora("SEQ_CLS" if job.workload == "reward" else "CAUSAL_LM")
    trainer = trainer_of(job, model, AutoTokenizer.from_pretrained(job.model), rows, adapter)
    if job.contender in FAST:
        hasten(job, model)
    return trainer, totals, told


def load(job: Job) -> Any:
    """The frozen base; for the reward model with a score of the last token in place of the vocabulary."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

    reward, dtype = job.workload == "reward", getattr(torch, job.dtype)
    if not any(Path(job.model).glob("*.safetensors")):
        model = drawn(AutoConfig.from_pretrained(job.model), job.dtype, job.device, reward)
    else:
        settings: dict[str, Any] = {"num_labels": 1} if reward else {}
        if job.four_bit and job.contender not in FAST:
            settings["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )  # fmt: skip
        kind = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
        model = kind.from_pretrained(job.model, dtype=dtype, device_map={"": job.device}, **settings)
    model.requires_grad_(False)
    if job.four_bit and job.contender in FAST:
        quantize(model)
    return model


def quantize(model: Any) -> None:
    """Linear layers but the head in 4 bits, as `stages.models.quantization` loads them, made where the model is."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    from stages.models.linear4bit import adopt
    from stages.models.quantization import QLORA, compute_dtype

    for name, layer in list(model.named_modules()):
        if type(layer) is not torch.nn.Linear or name in HEADS:
            continue
        weight, settings = layer.weight, {"quant_type": QLORA.quant_type, "compress_statistics": QLORA.double}
        packed = Linear4bit(layer.in_features, layer.out_features, bias=False, device="meta", **settings)
        packed.weight = Params4bit(weight.data, requires_grad=False, **settings).to(weight.device)
        packed.bias = layer.bias
        adopt(packed, compute_dtype(weight.dtype, weight.device.type))
        model.set_submodule(name, packed)


def planned(job: Job, model: Any, tokens: int) -> int:
    """What `stages.training.memory` reckons with for a step of this batch, which has at most so many tokens."""
    from stages.training import memory

    made = memory.plan(
        memory.shape_of(model, RANK), tokens=-(-tokens // job.batch), batch=job.batch, device=job.device,
        memory=memory.of_device(job.device), asked_rows=job.batch, asked_checkpointing=False,
    )  # fmt: skip
    return made.fixed + made.micro_batch * made.per_row


def hasten(job: Job, model: Any) -> None:
    """Let the model take this project's step, in the contender's variant of it."""
    import bench_compiled
    import older_libraries

    from stages.kernels import step
    from stages.models.quantization import keep_dense

    older_libraries.varlen_without_switch()
    said = step.install(model, "fast", "triton" if job.contender == "fast-triton" else "plain")
    if not said.startswith("fast"):
        sys.exit(f"the fast step falls back: {said}")
    if job.contender == "fast-cached":
        keep_dense(model, 1000.0)
    if job.contender == "fast-compiled":
        bench_compiled.compile_layers(model, job.compile_mode)
    if job.contender == "fast-graph":
        bench_compiled.capture(model)


def unsloth_model(job: Job) -> tuple[Any, Any]:
    """Unsloth's own model with its adapter, and its tokenizer. Nothing is recomputed, as in the other contenders."""
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        job.model, max_seq_length=4096, dtype=None, load_in_4bit=job.four_bit, use_gradient_checkpointing=False
    )
    model = FastLanguageModel.get_peft_model(
        model, r=RANK, lora_alpha=2 * RANK, lora_dropout=0, bias="none", target_modules=list(LINEAR),
        use_gradient_checkpointing=False,
    )  # fmt: skip
    return model, tokenizer


def lora(task: str = "CAUSAL_LM") -> Any:
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type=task)


# -- trainers -----------------------------------------------------------------------------------------------------
SHARED = {
    "report_to": [], "logging_steps": 10_000, "save_strategy": "no", "disable_tqdm": True, "learning_rate": 1e-4,
    "train_sampling_strategy": "sequential", "num_train_epochs": 1, "gradient_accumulation_steps": 1,
}  # fmt: skip


def best() -> dict[str, Any]:
    """The best that TRL's own flags give for every workload: nothing recomputed, no autocast casts."""
    from transformers import TrainingArguments

    names = ("activation_checkpointing", "gradient_checkpointing")  # the second until Transformers 5.18
    return {next(name for name in names if name in TrainingArguments.__dataclass_fields__): False, "bf16": False}


def flags_of(job: Job, beyond: dict[str, Any]) -> dict[str, Any]:
    """What a contender sets; `beyond` is what the workload offers on top of `best`.

    TRL's default is to cast to bfloat16. A processor without such instructions emulates them, a hundred times slower;
    the defaults are then measured without the cast, which favours them. Unsloth chooses its own layout of a batch.
    """
    if job.contender == "unsloth":
        precomputed = {name: value for name, value in beyond.items() if name == "precompute_ref_log_probs"}
        return best() | {"bf16": True} | precomputed
    if job.contender != "trl-default":
        return best() | beyond
    return {} if job.device == "cuda" or _has_bfloat16() else {"bf16": False}


def _has_bfloat16() -> bool:
    from pipeline.config.search import has_bfloat16

    return has_bfloat16()


def trainer_of(job: Job, model: Any, tokenizer: Any, rows: list[dict], adapter: Any) -> Any:
    kind = {"dpo": dpo, "reward": reward}.get(job.workload, sft)
    given = SHARED | {
        "output_dir": tempfile.mkdtemp(), "use_cpu": job.device == "cpu", "seed": job.seed,
        "per_device_train_batch_size": job.batch, "max_steps": job.steps + WARM_UP,
    }  # fmt: skip
    return kind(job, given, {"model": model, "processing_class": tokenizer, "peft_config": adapter}, rows)


def sft(job: Job, given: dict[str, Any], parts: dict[str, Any], rows: list[dict]) -> Any:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    flags = flags_of(job, {"padding_free": True})
    args = SFTConfig(**given | flags, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    return SFTTrainer(args=args, train_dataset=Dataset.from_list(rows), **parts)


def dpo(job: Job, given: dict[str, Any], parts: dict[str, Any], rows: list[dict]) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            """Costs no step: numbers near log-probabilities do as well as the reference's own."""
            size = [-50.0] * len(dataset)
            return dataset.add_column("ref_chosen_logps", size).add_column("ref_rejected_logps", size)

    args = DPOConfig(**given | flags_of(job, {"precompute_ref_log_probs": True}), max_length=4096)
    return Trainer(args=args, train_dataset=Dataset.from_list(rows), **parts)


def reward(job: Job, given: dict[str, Any], parts: dict[str, Any], rows: list[dict]) -> Any:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    args = RewardConfig(**given | flags_of(job, {}), max_length=4096)
    sides = ("chosen_ids", "rejected_ids")
    data = Dataset.from_list([{side: row["prompt_ids"] + row[side] for side in sides} for row in rows])
    return RewardTrainer(args=args, train_dataset=data, **parts)


if __name__ == "__main__":
    work(Job(**json.loads(sys.argv[1])))
