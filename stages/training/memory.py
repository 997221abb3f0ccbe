"""What fits: rows in one pass, and whether activations are kept, from the model's shape and the device's memory.

Only float noise depends on the answer: the global batch and the mathematics stay as configured. The estimate is of
what a LoRA step holds at its largest; docs/performance.md compares it with what was measured.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import StageFailed

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

SHARE = 0.8  # of the device's memory that a stage plans with; the rest is the allocator's and other programs'
FOUR_BITS = 0.52  # bytes of a value in 4 bits, with its share of the scales
ADAM = 16  # bytes for each trained value: itself, its gradient and two moments, in float32
GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """What decides the memory of a step. Sizes in values, `size` in bytes of one activation."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int
    trained: int
    weights: int  # bytes, with the chain's adapters and what is kept dense of 4-bit weights
    size: int
    linear: int = 0  # bytes of the weights that a 4-bit base would have in 4 bits; 0 where it has
    dtype: str = "float32"


@dataclass(frozen=True)
class Plan:
    """The decision and its arithmetic, in bytes; and how the model is computed on this device."""

    micro_batch: int
    checkpointing: bool
    per_row: int
    fixed: int
    room: int
    dtype: str = "as stored"
    attention: str = "sdpa"

    def __str__(self) -> str:
        kept = "recomputed" if self.checkpointing else "kept"
        return (
            f"{self.micro_batch} rows in one pass, activations {kept}: {self.fixed / GIB:.2f} GiB + "
            f"{self.micro_batch} x {self.per_row / GIB:.2f} GiB of {self.room / GIB:.1f} GiB; "
            f"weights {self.dtype}, attention of the fast step: {self.attention}"
        )


def shape_of(model: "PreTrainedModel", rank: int) -> Shape:
    """The shape of a model that will get adapters of `rank` on every linear layer but its head."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    linear = [m for m in model.modules() if hasattr(m, "in_features") and m is not head]
    kept = [layer.kept for layer in linear if getattr(layer, "kept", None) is not None]
    return Shape(
        layers=config.num_hidden_layers, hidden=config.hidden_size, intermediate=config.intermediate_size,
        heads=config.num_attention_heads, vocabulary=config.vocab_size,
        trained=rank * sum(layer.in_features + layer.out_features for layer in linear),
        weights=_bytes([*model.parameters(), *model.buffers(), *kept]), size=model.dtype.itemsize,
        linear=_bytes(layer.weight for layer in linear if not hasattr(layer, "dense_weight")),
        dtype=str(model.dtype).removeprefix("torch."),
    )  # fmt: skip


def _bytes(tensors: "Iterable[Tensor]") -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def activations(shape: Shape, tokens: int, checkpointing: bool, device: str) -> int:
    """Bytes that a row of `tokens` keeps for its backward pass.

    A layer keeps the inputs of its projections, rotated queries and keys, the attention's operands and output, the
    outputs of gate and up, and two norms in float32: 8 hidden and 2 intermediate values, 8 bytes a hidden value more.
    A CPU in 16 bits also keeps the attention's weights (`stages.kernels.tree`). Recomputing keeps each layer's input
    and one layer's activations.
    """
    layer = tokens * (shape.size * (8 * shape.hidden + 2 * shape.intermediate) + 8 * shape.hidden)
    if device == "cpu" and shape.size < 4:
        layer += tokens * tokens * shape.heads * (2 * shape.size + 4)
    kept = tokens * shape.hidden * shape.size
    return shape.layers * kept + layer if checkpointing else shape.layers * layer


def plan(
    shape: Shape, *, tokens: int, batch: int, memory: int, device: str,
    asked_rows: int = 0, asked_checkpointing: bool | None = None,
) -> Plan:  # fmt: skip
    """The most rows of `tokens` tokens that fit, activations kept if at all possible. What was asked for stays.

    Raises StageFailed when not even one row fits with recomputed activations.
    """
    from stages.kernels import tree
    from stages.kernels.head import rows_at_once

    scored = min(batch * tokens, rows_at_once(device, shape.vocabulary))
    fixed = shape.weights + shape.trained * ADAM + 3 * 4 * scored * shape.vocabulary
    room = int(SHARE * memory)
    for checkpointing in [False, True] if asked_checkpointing is None else [asked_checkpointing]:
        per_row = activations(shape, tokens, checkpointing, device)
        sizes = [asked_rows] if asked_rows else [n for n in range(batch, 0, -1) if batch % n == 0]
        fitting = [n for n in sizes if fixed + n * per_row <= room]
        if fitting or asked_rows:
            rows = fitting[0] if fitting else asked_rows
            attention = tree.kernel(device, shape.size)
            return Plan(rows, checkpointing, per_row, fixed, room, shape.dtype, attention)
    raise StageFailed(
        f"one row of {tokens} tokens needs about {(fixed + per_row) / GIB:.1f} GiB, and {room / GIB:.1f} GiB "
        f"({SHARE:.0%} of the device) are planned with; lower max_length, "
        f"{_smaller_base(shape, fixed + per_row - room)}or set runtime.micro_batch=1 to try it"
    )


def _smaller_base(shape: Shape, lacking: int) -> str:
    """4-bit weights as a way out, where they make up for what is lacking; only who asks for them gets them."""
    saved = shape.linear * (1 - FOUR_BITS / shape.size)
    return "set peft.method=qlora, whose base of 4-bit weights would fit, " if saved >= lacking else ""


def remembered(file: Path, made: Plan) -> Plan:
    """The plan with which this training began, so that a resumed one goes on with the same passes."""
    if file.exists():
        return Plan(**json.loads(file.read_text()))
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(asdict(made)))
    part.replace(file)  # a kill leaves the whole plan or none
    return made


def of_device(device: str) -> int:
    """Bytes of memory of the device: all of it, not what happens to be free, so that a plan can be repeated."""
    if device != "cpu":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal:")]
    limits += [int(line) for line in _lines("/sys/fs/cgroup/memory.max") if line.strip().isdigit()]
    return min(limits, default=16 * GIB)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
