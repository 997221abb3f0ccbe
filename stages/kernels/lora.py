"""A linear layer with a low-rank adapter as one operation: no clones, no intermediate sums, float32 masters.

y = x W^T + b + s (x A^T) B^T. Frozen adapters below the trained one (a chain on 16-bit or quantized weights) are more
columns of the same product; only A and B of the trained one receive a gradient. A 4-bit W is made dense in each pass
and kept in neither.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from pipeline.errors import StageFailed
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

    def add_by_weight(self, into: Tensor, grad: Tensor) -> Tensor:
        """into + grad W, in place where the dtypes allow it."""
        weight = dense_weight(self.base)
        return into.addmm_(grad, weight) if weight.dtype == grad.dtype else into.add_(self.by_weight(grad))

    def trained(self, low: Tensor) -> Tensor:
        """Of columns (n, q + r), those of the trained adapter."""
        return low[:, low.shape[1] - len(self.a) :]


def products(layers: Sequence[Parts], rows: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """What layers that read the same rows (n, in) give, (n, out) each; and what `gradients` needs."""
    downs, ups = zip(*(parts.factors(rows.dtype) for parts in layers), strict=True)
    inner = downs[0] if len(downs) == 1 else torch.cat(downs)
    low = rows @ inner.t()
    each = zip(layers, low.split([len(down) for down in downs], dim=1), ups, strict=True)
    return [parts.product(rows, part, up) for parts, part, up in each], (rows, low, inner, *ups)


def gradients(
    layers: Sequence[Parts], grads: Sequence[Tensor], saved: Sequence[Tensor], of_rows: bool
) -> tuple[Tensor | None, list[Tensor]]:
    """Of the rows, if `of_rows`, and of A and B of each layer in turn, from the gradients of what `products` gave."""
    rows, low, inner, *ups = saved
    by_lows = [grad @ up for grad, up in zip(grads, ups, strict=True)]
    masters = of_masters(layers, grads, by_lows, rows, low)
    return gradient_of_rows(layers, grads, by_lows, inner) if of_rows else None, masters


def of_masters(
    layers: Sequence[Parts], grads: Sequence[Tensor], by_lows: Sequence[Tensor], rows: Tensor, low: Tensor
) -> list[Tensor]:
    """Gradients of A and B of each layer in turn; `by_lows`: those of what its rows are after the way down."""
    lows = low.split([by_low.shape[1] for by_low in by_lows], dim=1)
    own = torch.cat([parts.trained(by_low) for parts, by_low in zip(layers, by_lows, strict=True)], dim=1)
    of_a = _in_float32(own.t(), rows).split([len(parts.a) for parts in layers])
    masters = []
    for parts, grad, part, found in zip(layers, grads, lows, of_a, strict=True):
        of_b = _in_float32(parts.trained(part).t(), grad).t()
        masters += [found.to(parts.a.dtype), of_b.to(parts.b.dtype) * parts.scale]
    return masters


def gradient_of_rows(
    layers: Sequence[Parts], grads: Sequence[Tensor], by_lows: Sequence[Tensor], inner: Tensor
) -> Tensor:
    """That of the rows (n, in) which all the layers have read."""
    total = layers[0].by_weight(grads[0])
    for parts, grad in zip(layers[1:], grads[1:], strict=True):
        total = parts.add_by_weight(total, grad)
    return total.addmm_(by_lows[0] if len(by_lows) == 1 else torch.cat(by_lows, dim=1), inner)


class LowRankLinears(torch.autograd.Function):
    """x (..., in), parts of layers that all read it, their a and b for autograd to see -> (..., out) each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: tuple[Parts, ...], *masters: Tensor) -> tuple[Tensor, ...]:
        made, saved = products(layers, x.reshape(-1, x.shape[-1]))
        ctx.save_for_backward(*saved)
        ctx.layers, ctx.shape = layers, x.shape
        return tuple(out.view(*x.shape[:-1], -1) for out in made)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        of_x, masters = gradients(ctx.layers, flat, ctx.saved_tensors, ctx.needs_input_grad[0])
        return None if of_x is None else of_x.view(ctx.shape), None, *masters


def through(x: Tensor, *layers: Parts) -> tuple[Tensor, ...]:
    """What each layer gives for x (..., in)."""
    return LowRankLinears.apply(x, layers, *(master for parts in layers for master in (parts.a, parts.b)))


def _in_float32(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, summed in float32 as every device does it.

    A GPU gives the sum as it is. A CPU rounds it once to the 16 bits of a and b, a thousandth of what rounding has
    done to them before; widening a and b first would take three times as long.
    """
    if a.is_cuda and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    return (a @ b).float()


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
    if type_of(layer) not in PLAIN or layer.fan_in_fan_out:
        return f"{type(layer).__name__} is no plain linear layer"
    if len(trained := _trained(layer, layer.active_adapters)) != 1:
        return f"{len(trained)} adapters of this layer are trained"
    if layer.lora_variant or any(map(layer.lora_bias.get, layer.active_adapters)):
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
    """Let `layer` compute through LowRankLinears whenever `parts_of` says that it can; else as before."""
    (adapter,) = _trained(layer, layer.active_adapters)
    if getattr(layer, "fused_adapter", None) == adapter:
        return
    original, layer.fused_adapter = layer.forward, adapter

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        parts = None if args or kwargs else parts_of(layer, x.dtype)
        return original(x, *args, **kwargs) if parts is None else through(x, parts)[0]

    layer.forward = forward


def parts_of(layer: "LoraLayer", dtype: torch.dtype) -> Parts | None:
    """The parts of a fused layer as it is switched now; None where PEFT's own layer has to compute.

    Of the adapters that are on, one at most is trained; the frozen ones join the chain below it.
    """
    on = _on(layer)
    trained = _trained(layer, on)
    base = layer.get_base_layer()
    frozen = _stacked(layer, base, [name for name in on if name not in trained], dtype)
    if layer.merged or len(trained) > 1 or (not trained and frozen is None):
        return None
    adapter = trained[0] if trained else layer.fused_adapter
    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    if not trained:  # products of the same shape as with one, so that an adapter of zeros changes not a single bit
        a, b = a.detach(), torch.zeros_like(b)
    return Parts(base, a, b, layer.scaling[adapter], frozen)


def switched_on(model: torch.nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Linear layer of the base -> A (r, in) and B (out, r) in float32 on the CPU, of the chain and of all adapters that
    are on now, with the scales in B: what the model computes beyond its base.

    StageFailed for a layer in which that is more than these two.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = {}
    for path, module in model.named_modules():
        if getattr(module, "chain_folded", False):
            raise StageFailed(f"{path}: its adapters have become part of its weights, and cannot be told apart again")
        wrapped = isinstance(module, BaseTunerLayer)
        if not wrapped and (path.endswith(".base_layer") or not hasattr(module, "chain_a")):
            continue
        base, on = (module.get_base_layer(), _on(module)) if wrapped else (module, [])
        if wrapped and (module.merged or type_of(module) not in PLAIN or module.lora_variant
                        or any(map(module.lora_bias.get, on))):  # fmt: skip
            raise StageFailed(f"{path}: {type(module).__name__} is merged, no plain linear layer, or a variant of LoRA")
        factors = _stacked(module, base, on, torch.float32)
        if factors is not None:
            found[path] = factors[0].detach().cpu(), factors[1].detach().cpu()
    return found


@contextmanager
def bare(model: torch.nn.Module) -> Iterator[None]:
    """Inside, the model computes as its base alone; adapters that are part of its weights stay."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [(module, module._disable_adapters) for module in model.modules() if isinstance(module, BaseTunerLayer)]
    chained = [(module, module.chain_b) for module in model.modules() if hasattr(module, "chain_b")]
    try:
        for layer, _ in layers:
            layer._disable_adapters = True
        for module, up in chained:
            module.chain_b = torch.zeros_like(up)
        yield
    finally:
        for layer, before in layers:
            layer._disable_adapters = before
        for module, up in chained:
            module.chain_b = up


def type_of(module: torch.nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _on(layer: "LoraLayer") -> list[str]:
    """The adapters of the layer that are on now."""
    return [] if layer.disable_adapters else [name for name in layer.active_adapters if name in layer.lora_A]


def _trained(layer: "LoraLayer", names: Sequence[str]) -> list[str]:
    """Of the adapters, those of the layer that receive a gradient."""
    return [name for name in names if name in layer.lora_A and layer.lora_A[name].weight.requires_grad]


def _stacked(
    layer: "LoraLayer", base: torch.nn.Module, names: Sequence[str], dtype: torch.dtype
) -> tuple[Tensor, Tensor] | None:
    """Factors of the chain that the layer could not take into its weights, see `stages.models.chain.attach`, and of
    these adapters of it, side by side with the scales in the second; None where there are none."""
    found = [(base.chain_a, base.chain_b)] if hasattr(base, "chain_a") else []
    found += [(layer.lora_A[name].weight, layer.lora_B[name].weight * layer.scaling[name]) for name in names]
    if not found:
        return None
    downs, ups = zip(*((down.to(dtype), up.to(dtype)) for down, up in found), strict=True)
    return (downs[0], ups[0]) if len(found) == 1 else (torch.cat(downs), torch.cat(ups, dim=1))
