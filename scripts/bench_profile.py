"""Where the time of the fast step goes: the profiler's table of one step of SFT and one of DPO.

python scripts/bench_profile.py FILE --model llama-1b
"""

import argparse
from pathlib import Path
from typing import Any

from bench_contenders import build
from bench_shapes import RANDOM, WARM_UP, Job, batch_of, model_folder

LINES = 40


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--workload", nargs="+", default=("sft", "dpo"))
    parser.add_argument("--model", default="llama-1b", help=f"as in bench_step.py: {', '.join(RANDOM)}, a folder, ...")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--four-bit", action="store_true")
    return parser.parse_args()


def profiled(job: Job) -> str:
    """The table of the step after the warm-up."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import TrainerCallback

    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (job.device == "cuda")
    profiler = profile(activities=kinds)

    class Watch(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM_UP:
                profiler.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM_UP + 1:
                if job.device == "cuda":
                    torch.cuda.synchronize()
                profiler.stop()

    trainer, tokens, _ = build(job)
    trainer.add_callback(Watch())
    trainer.train()
    averages = profiler.key_averages()
    table = averages.table(sort_by=f"self_{job.device}_time_total", row_limit=LINES, max_name_column_width=80)
    launches = sum(event.count for event in averages if event.key == "cudaLaunchKernel")
    return f"{job.workload}, {job.model}, {tokens[WARM_UP]} tokens, {launches} kernels launched\n{table}\n"


def main() -> None:
    given = options()
    folder = str(model_folder(given.model, False, given.device))
    parts = []
    for workload in given.workload:
        batch = given.batch or batch_of(workload, given.model, "gpu", given.prompt)
        job = Job(workload, "fast", folder, given.device, "bfloat16", 1, batch, shape="gpu", prompt=given.prompt,
                  four_bit=given.four_bit)  # fmt: skip
        parts.append(profiled(job))
        given.file.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
