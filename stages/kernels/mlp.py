"""A gated MLP with its three adapters as one operation: y = down(act(gate(x)) * up(x)).

Autograd would keep act(gate), the product and what the product is made of. Here only the outputs of gate and up are
kept, and the product is made again in the backward pass, which costs no matrix product; the adapters of gate and up
read x in one product.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.kernels import lora
from stages.kernels.lora import Parts

if TYPE_CHECKING:
    from collections.abc import Callable

LAYERS = ("gate_proj", "up_proj", "down_proj")


class LowRankMLP(torch.autograd.Function):
    """x (..., in), the activation, the parts of gate, up and down, and their trained a and b in the same order."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activation: "Callable", gate: Parts, up: Parts, down: Parts, *masters: Tensor
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        (gate_in, gate_out), (up_in, up_out), (down_in, down_out) = (p.factors(x.dtype) for p in (gate, up, down))
        inner = torch.cat([gate_in, up_in])
        low = rows @ inner.t()
        gate_low, up_low = low[:, : len(gate_in)], low[:, len(gate_in) :]
        gated, raised = gate.product(rows, gate_low, gate_out), up.product(rows, up_low, up_out)
        product = activation(gated) * raised
        down_low = product @ down_in.t()
        ctx.save_for_backward(rows, low, gated, raised, down_low, inner, gate_out, up_out, down_in, down_out)
        ctx.parts, ctx.activation, ctx.shape = (gate, up, down), activation, x.shape
        return down.product(product, down_low, down_out).view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, gated, raised, down_low, inner, gate_out, up_out, down_in, down_out = ctx.saved_tensors
        gate, up, down = ctx.parts
        grad = grad.reshape(-1, grad.shape[-1])
        with torch.enable_grad():
            gated, raised = gated.detach().requires_grad_(), raised.detach().requires_grad_()
            product = ctx.activation(gated) * raised
        by_down = grad @ down_out
        of_down = down.gradients_of_masters(grad, by_down, product.detach(), down_low)
        of_product = down.by_weight(grad).addmm_(by_down, down_in)
        of_gated, of_raised = torch.autograd.grad(product, (gated, raised), of_product)
        cut = len(inner) - up_out.shape[1]
        by_low = torch.cat([of_gated @ gate_out, of_raised @ up_out], dim=1)
        of_gate = gate.gradients_of_masters(of_gated, by_low[:, :cut], rows, low[:, :cut])
        of_up = up.gradients_of_masters(of_raised, by_low[:, cut:], rows, low[:, cut:])
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = gate.by_weight(of_gated).add_(up.by_weight(of_raised)).addmm_(by_low, inner).view(ctx.shape)
        return grad_x, None, None, None, None, *of_gate, *of_up, *of_down


def fuse(module: torch.nn.Module) -> bool:
    """Let a gated MLP whose three layers are fused compute as one operation; says whether it does."""
    layers = [getattr(module, name, None) for name in LAYERS]
    if not hasattr(module, "act_fn") or any(getattr(layer, "fused_adapter", None) is None for layer in layers):
        return False
    if hasattr(module, "plain_forward"):
        return True
    module.plain_forward = module.forward

    def forward(x: Tensor) -> Tensor:
        parts = [lora.parts_of(layer, x.dtype) for layer in layers]
        if any(part is None for part in parts):
            return module.plain_forward(x)
        return LowRankMLP.apply(x, module.act_fn, *parts, *(master for p in parts for master in (p.a, p.b)))

    module.forward = forward
    return True
