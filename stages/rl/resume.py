"""Checkpoints of PPO: everything that the next update depends on, as safetensors and JSON.

Sampling and shuffling depend on the seed and the number of the update alone, so no generator has a state to keep.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.checkpoints import seal
from stages.rl.ppo import Ppo, trained_parameters

if TYPE_CHECKING:
    from torch import Tensor

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
KEPT = 2


def save(learner: Ppo, folder: Path, update: int) -> None:
    """`folder/checkpoint-<update>`, whole or not at all; older ones but the last are removed."""
    from safetensors.torch import save_file

    part, final = folder / "part", folder / f"checkpoint-{update}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file(_tensors(learner), part / "state.safetensors")
    state = {
        "global_step": update, "kl_coef": learner.kl_coef, "reward": learner.reward.state(),
        "scheduler": {k: v for k, v in learner.scheduler.state_dict().items() if k in ("last_epoch", "_step_count")},
        "sampled_tokens": learner.sampled_tokens, "seconds": learner.seconds, "history": learner.history,
    }  # fmt: skip
    (part / "trainer_state.json").write_text(json.dumps(state))
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    seal(folder, final)
    for old in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[:-KEPT]:
        shutil.rmtree(old)


def load(learner: Ppo, checkpoint: Path) -> int:
    """Put the learner where it was when `checkpoint` was written; returns the number of updates it has done."""
    from safetensors.torch import load_file

    found = load_file(checkpoint / "state.safetensors", device=learner.actor.roles.policy.device)
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    for name, parameter in trained_parameters(learner.actor):
        parameter.data.copy_(found[name])
        moments = {key: found[f"{key}/{name}"] for key in MOMENTS if f"{key}/{name}" in found}
        if moments:
            learner.optimizer.state[parameter] = {**moments, "step": moments["step"].cpu()}
    learner.kl_coef, learner.history = state["kl_coef"], state["history"]
    learner.sampled_tokens, learner.seconds = state["sampled_tokens"], state["seconds"]
    learner.reward.load(state["reward"])
    learner.scheduler.load_state_dict({**learner.scheduler.state_dict(), **state["scheduler"]})
    for group, rate in zip(learner.optimizer.param_groups, _rates(learner), strict=True):
        group["lr"] = rate
    return int(state["global_step"])


def _tensors(learner: Ppo) -> dict[str, "Tensor"]:
    """Trained parameters by name, and their moments by kind and name."""
    found = {}
    for name, parameter in trained_parameters(learner.actor):
        found[name] = parameter.data.contiguous()
        for key, value in learner.optimizer.state[parameter].items():
            found[f"{key}/{name}"] = torch.as_tensor(value).contiguous()
    return found


def _rates(learner: Ppo) -> list[float]:
    """Learning rates at the scheduler's place."""
    scheduler = learner.scheduler
    return [base * f(scheduler.last_epoch) for base, f in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
