"""A linear layer with a low-rank adapter as one operation: no clones, no intermediate sums, float32 masters.

y = x W^T + b + s (x A^T) B^T. Frozen adapters below the trained one (a chain on 16-bit or quantized weights) are more
columns of the same product; only A and B of the trained one receive a gradient. A 4-bit W is made dense in each pass
and kept in neither.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from stages.models.quantization import dense_weight

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

PLAIN = ("peft.tuners.lora.layer.Linear", "peft.tuners.lora.bnb.Linear4bit")  # by name: the second needs a library


@dataclass(frozen=True)
class Parts:
    """What a layer with its adapter multiplies by: W of `base` (in -> out), and low-rank factors of it."""

    base: torch.nn.Module
    a: Tensor  # (r, in), trained
    b: Tensor  # (out, r), trained
    scale: float
    frozen: tuple[Tensor, Tensor] | None  # (q, in) and (out, q), of adapters below

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Down (q + r, in) and up (out, q + r), the scale in the second; the trained adapter comes last."""
        down, up = self.a.to(dtype), (self.b * self.scale).to(dtype)
        if self.frozen is None:
            return down, up
        return torch.cat([self.frozen[0], down]), torch.cat([self.frozen[1], up], dim=1)

    def product(self, rows: Tensor, low: Tensor, up: Tensor) -> Tensor:
        """rows W^T + b + low up^T."""
        weight = dense_weight(self.base)
        bias = None if self.base.bias is None else self.base.bias.to(weight.dtype)
        return linear(rows.to(weight.dtype), weight, bias).to(rows.dtype).addmm_(low, up.t())

    def by_weight(self, grad: Tensor) -> Tensor:
        """grad W."""
        weight = dense_weight(self.base)
        return (grad.to(weight.dtype) @ weight).to(grad.dtype)

    def gradients_of_masters(self, grad: Tensor, by_low: Tensor, rows: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """Of A and of B."""
        rank = len(self.a)
        grad_a = _in_float32(by_low[:, by_low.shape[1] - rank :].t(), rows).to(self.a.dtype)
        grad_b = _in_float32(low[:, low.shape[1] - rank :].t(), grad).t().to(self.b.dtype) * self.scale
        return grad_a, grad_b


class LowRankLinear(torch.autograd.Function):
    """x (..., in), the layer's parts, its trained a and b once more, for autograd to see -> (..., out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: Parts, a: Tensor, b: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        down, up = parts.factors(x.dtype)
        low = rows @ down.t()
        ctx.save_for_backward(rows, low, down, up)
        ctx.parts, ctx.shape = parts, x.shape
        return parts.product(rows, low, up).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, down, up = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        by_low = grad @ up
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = ctx.parts.by_weight(grad).addmm_(by_low, down).view(ctx.shape)
        return grad_x, None, *ctx.parts.gradients_of_masters(grad, by_low, rows, low)


def _in_float32(a: Tensor, b: Tensor) -> Tensor:
    """a @ b with a sum that is never rounded to 16 bits: the masters' gradients are in float32."""
    if a.is_cuda and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def forbids_sharing(layer: "LoraLayer") -> str | None:
    """The reason why a token computed once is not the same as one computed twice, or None."""
    for adapter in layer.active_adapters:
        if adapter not in layer.lora_dropout:
            continue
        trained = any(p.requires_grad for name, p in layer.named_parameters() if f".{adapter}." in name)
        if trained and getattr(layer.lora_dropout[adapter], "p", 0.0):
            return "dropout of the adapter: every token draws its own"
        if adapter in layer.lora_variant:
            return f"a variant of LoRA ({type(layer.lora_variant[adapter]).__name__})"
    return None


def why_not(layer: "LoraLayer") -> str | None:
    """The reason why PEFT's own layer has to be used, or None."""
    if f"{type(layer).__module__}.{type(layer).__qualname__}" not in PLAIN or layer.fan_in_fan_out:
        return f"{type(layer).__name__} is no plain linear layer"
    if len(layer.active_adapters) != 1 or layer.active_adapters[0] not in layer.lora_A:
        return f"{len(layer.active_adapters)} adapters are on, or not this layer's"
    if layer.lora_variant or layer.lora_bias.get(layer.active_adapters[0]):
        return "a variant of LoRA, or one with a bias"
    base = layer.get_base_layer()
    if any(parameter.requires_grad for parameter in base.parameters()):
        return "the layer below the adapter is trained too"
    try:
        dense_weight(base)
    except TypeError as error:
        return str(error)
    return None


def fuse(layer: "LoraLayer") -> None:
    """Let `layer` compute through LowRankLinear whenever its adapter of now, and it alone, is on; else as before."""
    (adapter,) = layer.active_adapters
    if getattr(layer, "fused_adapter", None) == adapter:
        return
    original, layer.fused_adapter = layer.forward, adapter

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        parts = None if args or kwargs else parts_of(layer, x.dtype)
        return original(x, *args, **kwargs) if parts is None else LowRankLinear.apply(x, parts, parts.a, parts.b)

    layer.forward = forward


def parts_of(layer: "LoraLayer", dtype: torch.dtype) -> Parts | None:
    """The parts of a fused layer as it is switched now; None where PEFT's own layer has to compute."""
    adapter = layer.fused_adapter
    base = layer.get_base_layer()
    frozen = _frozen(base, dtype)
    if layer.merged or layer.active_adapters != [adapter] or (layer.disable_adapters and frozen is None):
        return None
    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    if layer.disable_adapters:  # the chain in the same precision as with it: policy and reference differ by no more
        a, b = a.detach()[:0], b.detach()[:, :0]
    return Parts(base, a, b, layer.scaling[adapter], frozen)


def _frozen(base: torch.nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """The frozen chain of a layer that could not take it into its weights, see `stages.models.chain.attach`."""
    if not hasattr(base, "chain_a"):
        return None
    return base.chain_a.to(dtype), base.chain_b.to(dtype)
