"""A linear layer with a low-rank adapter as one operation: no clones, no intermediate sums, float32 masters.

y = x W^T + b + s (x A^T) B^T. Frozen adapters below the trained one (a chain on 16-bit or quantized weights) are more
columns of the same product; only A and B of the trained one receive a gradient.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer


class LowRankLinear(torch.autograd.Function):
    """x (..., in), weight (out, in), a (r, in), b (out, r), frozen a (q, in) and b (out, q) -> (..., out)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, scale: float, weight: Tensor, bias: Tensor | None,
        frozen: tuple[Tensor, Tensor] | None,
    ) -> Tensor:  # fmt: skip
        rows = x.reshape(-1, x.shape[-1])
        down, up = a.to(x.dtype), (b * scale).to(x.dtype)
        if frozen is not None:
            down, up = torch.cat([frozen[0], down]), torch.cat([frozen[1], up], dim=1)
        low = rows @ down.t()
        y = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
        y.addmm_(low, up.t())
        ctx.save_for_backward(rows, low, down, up, weight)
        ctx.scale, ctx.rank, ctx.shape, ctx.dtypes = scale, len(a), x.shape, (a.dtype, b.dtype)
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, down, up, weight = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        by_low = grad @ up
        grad_a = (by_low[:, -ctx.rank :].t() @ rows).to(ctx.dtypes[0])
        grad_b = (grad.t() @ low[:, -ctx.rank :]).to(ctx.dtypes[1]).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(by_low, down).view(ctx.shape)
        return grad_x, grad_a, grad_b, None, None, None, None


def why_not(layer: "LoraLayer", adapter: str) -> str | None:
    """The reason why PEFT's own layer has to be used, or None."""
    from peft.tuners.lora import Linear

    if type(layer) is not Linear or layer.fan_in_fan_out:
        return f"{type(layer).__name__} is no plain linear layer"
    if layer.lora_variant:
        return f"a variant of LoRA ({type(layer.lora_variant[adapter]).__name__})"
    if layer.lora_bias.get(adapter):
        return "a LoRA bias"
    if getattr(layer.lora_dropout[adapter], "p", 0.0):
        return "dropout of the adapter"
    return None


def fuse(layer: "LoraLayer", adapter: str) -> None:
    """Let `layer` compute through LowRankLinear whenever `adapter`, and it alone, is on; else as before."""
    original = layer.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        alone = not layer.disable_adapters and not layer.merged and layer.active_adapters == [adapter]
        if args or kwargs or not alone:
            return original(x, *args, **kwargs)
        base = layer.get_base_layer()
        a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
        return LowRankLinear.apply(x, a, b, layer.scaling[adapter], base.weight, base.bias, _frozen(base, x.dtype))

    layer.forward = forward


def _frozen(base: torch.nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """The frozen chain of a layer that could not take it into its weights, see `stages.models.chain.attach`."""
    if not hasattr(base, "chain_a"):
        return None
    return base.chain_a.to(dtype), base.chain_b.to(dtype)
