"""A reward model as the stage `reward` publishes it: read, checked, and asked for scores.

`model/model.json` is the chain of the input policy with one more entry, `heads["reward"]`:

    {"members": [{"adapter": "model/adapter_0", "digest": ..., "method": "lora", "r": 16,
                  "score": "model/adapter_0/score.safetensors", "score_digest": ..., "mean": ..., "scale": ...}, ...],
     "normalisation": {...}}

A member is a LoRA adapter in PEFT's own format on top of that chain, and a score head: one float32 row of H values.
The raw score of a sequence is the head times the last layer's output (after the final norm) at the last token, and

    reward = (raw - mean) / scale

so that the answers named in `normalisation` earn 0 on average with a standard deviation of 1. The differences of raw
scores are log-odds (Bradley & Terry 1952); those of rewards are not.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Artifact
from pipeline.errors import StoreError
from pipeline.names import inside
from stages.models.chain import AdapterRef, Chain, adapter_weights, file_digest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.models.chain import Policy

HEAD = "reward"  # its name among a chain's heads
WEIGHT = "score.weight"  # the one tensor of a score file


@dataclass(frozen=True)
class Member:
    """One reward model of an ensemble: an adapter with its score head, and how its raw scores become rewards."""

    layers: dict[str, tuple["Tensor", "Tensor"]]  # module of the causal model -> A (r, in), B (out, r) with the scaling
    weight: "Tensor"  # (H,), float32
    mean: float
    scale: float
    method: str
    r: int

    def reward(self, raw: "Tensor") -> "Tensor":
        """Raw scores of any shape as rewards."""
        return (raw - self.mean) / self.scale


def read_members(artifact: Artifact) -> list[Member]:
    """Every member of a reward model; StoreError when a file is missing or not the recorded one."""
    chain = Chain.read(artifact)
    if HEAD not in chain.heads:
        raise StoreError(
            f"{artifact.path / 'model' / 'model.json'}: there is no reward model in it; give a stage of kind reward"
        )
    return [_member(artifact, chain, entry) for entry in chain.heads[HEAD]["members"]]


def _member(artifact: Artifact, chain: Chain, entry: dict[str, Any]) -> Member:
    ref = AdapterRef(artifact.stage, artifact.id, entry["digest"], entry["method"], entry["r"], entry["adapter"])
    for name in (f"{ref.path}/adapter_model.safetensors", entry["score"]):
        if not inside(artifact.path, name, f"{artifact.path}/model/model.json").is_file():
            raise StoreError(f"{artifact.path / name} is missing; rebuild with --force {artifact.stage}")
    adapter = adapter_weights(artifact, ref, chain.base["artifact"])
    weight = _score(
        inside(artifact.path, entry["score"], f"{artifact.path}/model/model.json"),
        entry["score_digest"],
        artifact.stage,
    )
    return Member(adapter.layers, weight, entry["mean"], entry["scale"], entry["method"], entry["r"])


def _score(path: Path, digest: str, stage: str) -> "Tensor":
    from safetensors.torch import load_file

    if file_digest(path) != digest:
        raise StoreError(f"{path} is not the score head that was trained; rebuild with --force {stage}")
    return load_file(path)[WEIGHT][0]


def score(
    policy: "Policy", members: Sequence[Member], sequences: Sequence[Sequence[int]], micro_batch: int = 0
) -> "Tensor":
    """Raw scores (members, sequences), float32 on the CPU, of token ids that hold prompt and answer, EOS included.

    `policy`: the reward model's own chain, as `load_policy` loads its artifact; it leaves as it came.
    `micro_batch`: sequences in one pass, 0 = what fits a token budget.
    """
    import torch

    found = []
    for member in members:
        with switched_on(policy.model, member):
            found.append(raw_scores(policy.model.base_model, member.weight, sequences, micro_batch))
    return torch.stack(found)


def raw_scores(
    trunk: "torch.nn.Module", weight: "Tensor", sequences: Sequence[Sequence[int]], micro_batch: int = 0
) -> "Tensor":
    """Raw scores (N,) by the model without its head, as it is switched now. Padding is on the right: nobody sees it."""
    import torch

    from stages.kernels.prefill import batches

    device = next(trunk.parameters()).device
    found, weight = torch.zeros(len(sequences)), weight.to(device)
    was_training = trunk.training
    trunk.eval()
    for batch in batches([len(sequence) for sequence in sequences], micro_batch, str(device)):
        rows = [torch.tensor(sequences[i]) for i in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        last = torch.tensor([len(row) - 1 for row in rows], device=device)
        with torch.inference_mode():
            hidden = trunk(input_ids=ids, use_cache=False).last_hidden_state
            found[batch] = (hidden[torch.arange(len(batch), device=device), last].float() @ weight).cpu()
    trunk.train(was_training)
    return found


@contextmanager
def switched_on(model: "torch.nn.Module", member: Member) -> Iterator[None]:
    """The member's adapter on top of the loaded chain, for as long as the context lasts."""
    modules = dict(model.named_modules())
    if missing := [name for name in member.layers if name not in modules]:
        raise StoreError(f"the reward model adapts layers that the base does not have: {', '.join(missing[:3])}")
    hooks = []
    try:
        for name, factors in member.layers.items():
            module = modules[name]
            device = next(module.parameters()).device
            hooks.append(module.register_forward_hook(partial(_add, *(factor.to(device) for factor in factors))))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _add(a: "Tensor", b: "Tensor", module: Any, args: tuple, output: "Tensor") -> "Tensor":
    """x (..., in), A (r, in), B (out, r): output + x A^T B^T, in the adapter's own precision."""
    return output + (args[0].to(a.dtype) @ a.t() @ b.t()).to(output.dtype)
