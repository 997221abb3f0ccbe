"""One training stage from its input policy to its published adapter: the part that all trainers share."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.checkpoints import seal
from pipeline.context import Artifact, Context
from pipeline.errors import DataError, StageFailed
from stages.data import artifact
from stages.kernels import step
from stages.models.adapters import peft_config
from stages.models.chain import Policy, extend, load_policy, resolve_device
from stages.models.chat import Example
from stages.training import arguments, memory, probes, several
from stages.training.tracking import Tracking, tracked

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer


def open_policy(ctx: Context) -> Policy:
    """The stage's input policy on this machine, its template compared with the recorded one."""
    started = time.monotonic()
    several.begin(ctx)
    policy = load_policy(
        ctx.inputs["policy"], ctx.lineage, device=resolve_device(ctx.config.runtime.device),
        method=ctx.config.peft.method, cache=ctx.cache, dequant_cache_gib=ctx.config.runtime.dequant_cache_gib,
    )  # fmt: skip
    probes.require(ctx, [probes.template_equals_upstream(policy)])
    ctx.record("timing", {"load_seconds": time.monotonic() - started})
    return policy


def training_sets(ctx: Context) -> dict[str, Artifact]:
    """role -> data set, without the rows that the stage's check drops from it."""
    return {role: training_set(ctx, source) for role, source in ctx.data.items()}


def training_set(ctx: Context, source: Artifact) -> Artifact:
    """The data set without the rows that the stage's check drops from it, which are counted in the manifest."""
    check = ctx.inputs.get("checked")
    dropped = artifact.dropped(check).get(source.stage, []) if check else []
    if dropped:
        ctx.record("dropped", {**ctx.sections.get("dropped", {}), source.stage: len(dropped)})
    return artifact.without(source, dropped)


def prompts(ctx: Context) -> list[dict[str, Any]]:
    """The rows of `data.train` that a policy is to answer; DataError when there are none."""
    source = training_set(ctx, ctx.data["train"])
    rows = artifact.rows(source)
    if not rows:
        raise DataError(
            f"data.train: {source.stage} has no rows to train on. A set of the format generate is held out unless its "
            "`holdout` is 0; with `leaks: drop` rows that are measured are left out"
        )
    return rows


def check_examples(ctx: Context, policy: Policy, examples: Sequence[Example], source: str) -> None:
    """Probes of what is trained on; DataError that says why nothing of it is left."""
    because = {why: count for why, count in ctx.sections.get("data", {}).get("rejected_because", {}).items() if count}
    if because and not examples:
        said = "; ".join(f"{count} left out: {why}" for why, count in because.items())
        raise DataError(f"0 rows of {source} are left to train on ({said})")
    probes.require(ctx, [probes.trained_tokens(examples, source), probes.one_bos(policy.tokenizer, examples)])


def packed(ctx: Context, examples: Sequence[Example]) -> "Dataset":
    """Sequences of at most `max_length` tokens, best-fit packed, with `seq_lengths` for position resets."""
    from datasets import Dataset
    from trl import pack_dataset

    plain = Dataset.from_dict({"input_ids": [e.ids for e in examples], "labels": [e.labels for e in examples]})
    return pack_dataset(plain, ctx.config.max_length, "bfd")


def one_each(examples: Sequence[Example]) -> "Dataset":
    """One sequence for each example; the collator pads them."""
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": [e.ids for e in examples], "labels": [e.labels for e in examples]})


def new_adapter(ctx: Context) -> Any:
    """The stage's own adapter; its weights are drawn under the stage's seed."""
    from transformers import set_seed

    set_seed(ctx.config.seed)
    return peft_config(ctx.config.peft)


def fit_memory(ctx: Context, policy: Policy, tokens: int) -> memory.Plan:
    """How many rows of up to `tokens` tokens go through in one pass, said and recorded; the same one when resumed."""
    config = ctx.config
    asked = [value for name, value in config.train.items() if name in arguments.CHECKPOINTING]
    made = memory.plan(
        memory.shape_of(policy.model, config.peft.r), tokens=tokens, batch=config.batch_size // ctx.processes,
        device=policy.device, memory=several.memory(ctx, policy.device), asked_rows=config.runtime.micro_batch,
        asked_checkpointing=asked[-1] if asked else None,
    )  # fmt: skip
    return settle(ctx, made)


def settle(ctx: Context, made: memory.Plan) -> memory.Plan:
    """The plan to go by, which is rank 0's on every rank and a resumed training's first one."""
    if not ctx.config.runtime.micro_batch:
        file = ctx.ckpt / (f"plan_{ctx.processes}.json" if ctx.processes > 1 else "plan.json")
        made = several.of_first(memory.remembered(file, made) if ctx.rank == 0 else made)
    ctx.record("memory", asdict(made))
    ctx.log(f"memory: {made}")
    return made


def take_step(ctx: Context, policy: Policy) -> str:
    """Make the policy, whose trainer exists by now, take the configured training step; says which, and why if not."""
    taken = step.install(policy.model, ctx.config.step, ctx.config.runtime.kernels)
    if "training" not in ctx.sections:
        ctx.log(f"training step: {taken}")
        ctx.record("training", {"step": taken})
    return taken


def train(ctx: Context, policy: Policy, trainer: "Trainer", tokens: int) -> dict[str, float]:
    """Train to the end, see `fit`; save adapter, chain and history under `ctx.out`."""
    metrics = fit(ctx, policy, trainer, tokens)
    _publish(ctx, policy, trainer)
    return metrics


def fit(ctx: Context, policy: Policy, trainer: "Trainer", tokens: int) -> dict[str, float]:
    """Train to the end, from the newest checkpoint of the trainer's folder if there is one.

    `tokens`: tokens of one epoch, for the throughput. Returns the metrics for the manifest, where the steps and the
    time of several trainers of one stage add up.
    """
    from transformers import PrinterCallback

    take_step(ctx, policy)
    newest = newest_checkpoint(Path(trainer.args.output_dir))
    start = int(newest.name.split("-")[1]) if newest else 0
    if newest:
        ctx.log(f"resuming from step {start}")
    started = time.monotonic()
    with tracked(ctx) as tracking:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_progress(ctx, tracking, tokens * float(trainer.args.num_train_epochs)))
        several.part_ways(ctx)
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    seconds = time.monotonic() - started
    state = trainer.state
    reached = {"start_step": start, "end_step": state.global_step, "max_steps": state.max_steps}
    _add(ctx, "training", reached)
    _add(ctx, "timing", {"train_seconds": seconds})
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    done = state.global_step - start
    rate = tokens * float(trainer.args.num_train_epochs) * done / max(1, state.max_steps) / seconds
    return {
        "steps": float(state.global_step),
        "first_loss": losses[0] if losses else 0.0,
        "final_loss": losses[-1] if losses else 0.0,
        "tokens_per_second": rate,
    }


def _add(ctx: Context, section: str, numbers: dict[str, float]) -> None:
    """Add to the numbers of a section."""
    before = ctx.sections[section]
    ctx.record(section, {**before, **{name: before.get(name, 0) + value for name, value in numbers.items()}})


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step among those whose trainer state, written last, is there and whole."""
    complete = [path for path in folder.glob("checkpoint-*") if _whole(path / "trainer_state.json")]
    return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)


def _whole(state: Path) -> bool:
    try:
        json.loads(state.read_text())
    except (OSError, ValueError):
        return False
    return True


def _progress(ctx: Context, tracking: Tracking, tokens: float) -> Any:
    """Logs the loss and tells how far the training is. `tokens`: of the whole training."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ctx.began = (state.global_step, time.time())
            ctx.progress(state.global_step, state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_log |= state.global_step == state.max_steps  # a short run has a loss too

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if ctx.rank == 0:
                seal(ctx.ckpt, Path(args.output_dir) / f"checkpoint-{state.global_step}")

        def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
            if logs:
                numbers = {key: value for key, value in logs.items() if isinstance(value, int | float)}
                tracking.log(numbers, state.global_step)
            if logs and "loss" in logs:
                if not math.isfinite(float(logs["loss"])):
                    raise StageFailed(
                        f"the loss became NaN or infinite by step {state.global_step}; "
                        "lower train.learning_rate or look at the data"
                    )
                numbers = {"loss": float(logs["loss"]), **_speed(ctx, state, tokens), **_gpu_bytes()}
                ctx.log(ctx.progress(state.global_step, state.max_steps, **numbers))

    return Progress()


def _speed(ctx: Context, state: Any, tokens: float) -> dict[str, float]:
    """Nothing where the stage writes its answers itself: nobody knows their tokens before."""
    assert ctx.began is not None
    start, begin = ctx.began
    done, seconds = state.global_step - start, time.time() - begin
    if not (tokens and done and seconds):
        return {}
    return {"tokens_per_second": tokens * done / max(1, state.max_steps) / seconds}


def _gpu_bytes() -> dict[str, float]:
    import torch

    return {"gpu_bytes": float(torch.cuda.memory_allocated())} if torch.cuda.is_initialized() else {}


def _publish(ctx: Context, policy: Policy, trainer: "Trainer") -> None:
    """Write the adapter, its chain and `history.jsonl`, the same bytes for the same training."""
    publish_adapter(ctx, policy, trainer.model)
    write_history(ctx.out / "history.jsonl", trainer)


def publish_adapter(ctx: Context, policy: Policy, model: Any) -> None:
    """Write the adapter that was trained, and the chain that it is the newest link of, below `ctx.out / "model"`."""
    folder = ctx.out / "model" / "adapter"
    model.save_pretrained(
        folder, save_embedding_layers=False, selected_adapters=["default"], state_dict=several.whole(model)
    )
    (folder / "README.md").unlink(missing_ok=True)
    normalise(folder / "adapter_config.json", policy.chain.base["artifact"])
    chain = extend(policy.chain, ctx.stage, ctx.id, folder, ctx.config.peft.method, ctx.config.peft.r)
    chain.write(ctx.out / "model")


def write_history(path: Path, trainer: "Trainer") -> None:
    """The logged steps of the whole training, also of what came before a resume."""
    with path.open("w") as stream:
        for entry in trainer.state.log_history:
            if "loss" in entry:  # the last entry sums up this process, which may have resumed in the middle
                kept = {key: value for key, value in entry.items() if key != "num_tokens"}  # counted by process, too
                stream.write(json.dumps(kept, sort_keys=True) + "\n")


def normalise(path: Path, base: str) -> None:
    """PEFT writes sets in hash order and a local path as the base: sort the one, name the artifact for the other."""
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base
    config = {key: sorted(value) if isinstance(value, list) else value for key, value in config.items()}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
