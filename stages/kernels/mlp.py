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
        (gated, raised), below = lora.products((gate, up), x.reshape(-1, x.shape[-1]))
        (out,), (_, *above) = lora.products((down,), activation(gated) * raised)
        ctx.save_for_backward(gated, raised, *above, *below)
        ctx.parts, ctx.activation, ctx.shape = (gate, up, down), activation, x.shape
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gated, raised, down_low, down_in, down_out, *below = ctx.saved_tensors
        gate, up, down = ctx.parts
        with torch.enable_grad():
            gated, raised = gated.detach().requires_grad_(), raised.detach().requires_grad_()
            product = ctx.activation(gated) * raised
        above = (product.detach(), down_low, down_in, down_out)
        of_product, of_down = lora.gradients((down,), [grad.reshape(-1, grad.shape[-1])], above, True)
        by_output = torch.autograd.grad(product, (gated, raised), of_product)
        of_x, of_both = lora.gradients((gate, up), by_output, below, ctx.needs_input_grad[0])
        return None if of_x is None else of_x.view(ctx.shape), None, None, None, None, *of_both, *of_down


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
