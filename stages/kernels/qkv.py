"""Queries, keys and values as one operation: three layers that read the same x share its way down and its gradient."""

from typing import Any

import torch
from torch import Tensor

from stages.kernels import lora

LAYERS = ("q_proj", "k_proj", "v_proj")


def fuse(module: torch.nn.Module) -> bool:
    """Let an attention whose three layers are fused compute them together; says whether it does.

    The attention still asks one layer after another. The first answers for all; the others hand out what is kept for
    them, if they are asked about the same x.
    """
    layers = [getattr(module, name, None) for name in LAYERS]
    if any(getattr(layer, "fused_adapter", None) is None for layer in layers):
        return False
    if hasattr(module, "kept_for"):
        return True
    module.kept_for = {}  # layer's number -> (x, what the layer gives for it)
    for number, layer in enumerate(layers):
        layer.forward = _first(module.kept_for, layers) if number == 0 else _later(module.kept_for, number, layer)
    return True


def _first(kept: dict[int, tuple[Tensor, Tensor]], layers: list[Any]) -> Any:
    alone = layers[0].forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        parts = [None if args or kwargs else lora.parts_of(layer, x.dtype) for layer in layers]
        if any(part is None for part in parts):
            return alone(x, *args, **kwargs)
        first, *others = lora.through(x, *parts)
        kept.update({number: (x, out) for number, out in enumerate(others, 1)})
        return first

    return forward


def _later(kept: dict[int, tuple[Tensor, Tensor]], number: int, layer: Any) -> Any:
    alone = layer.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        asked, out = kept.pop(number, (None, None))
        return out if asked is x else alone(x, *args, **kwargs)

    return forward
