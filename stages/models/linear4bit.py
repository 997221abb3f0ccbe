"""A frozen linear layer of 4-bit weights: bitsandbytes stores and dequantizes them, the product is torch's own.

The library's own forward computes otherwise in eval mode than in training on some CPUs (it repacks the weights there
and rounds the scales to bfloat16), and on a GPU chooses its kernel by the number of rows. Here training, probes and
evaluation multiply by the same dense matrix, made anew in every pass or kept: that changes the speed, never a bit.
"""

from typing import Any

import bitsandbytes
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


class Linear4bit(bitsandbytes.nn.Linear4bit):
    """Input and output (..., in) -> (..., out) keep the input's dtype; the product is computed in `compute_dtype`."""

    kept: Tensor | None = None  # the dense weight, where the memory budget allows

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x.to(self.compute_dtype), self).to(x.dtype)

    def dense_weight(self) -> Tensor:
        """The weight as (out, in) in `compute_dtype`."""
        if self.kept is not None:
            return self.kept
        return bitsandbytes.functional.dequantize_4bit(self.weight.data, self.weight.quant_state)

    def keep(self) -> None:
        """Hold the dense weight from now on."""
        self.kept = self.dense_weight()


class _Product(torch.autograd.Function):
    """x W^T + b with a gradient for x only. The dense weight is not kept between the two passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Linear4bit) -> Tensor:
        ctx.layer = layer
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return linear(x, layer.dense_weight(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dense_weight(), None


def adopt(layer: bitsandbytes.nn.Linear4bit, compute_dtype: torch.dtype) -> None:
    """Make a quantized layer of the library one of these, in place."""
    layer.__class__ = Linear4bit
    layer.compute_dtype = compute_dtype
    layer.weight.quant_state.dtype = compute_dtype  # what it is dequantized to
