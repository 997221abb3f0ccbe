"""A gated MLP with its three adapters as one operation: y = down(act(gate(x)) * up(x)).

Autograd would keep act(gate), the product and what the product is made of. Here only the outputs of gate and up are
kept, and the product is made again in the backward pass, which costs no matrix product; the adapters of gate and up
read x in one product.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stages.kernels import lora
from stages.kernels.lora import Parts

LAYERS = ("gate_proj", "up_proj", "down_proj")
SILU = ("SiLU", "SiLUActivation")


class Gate:
    """act(gated) * raised and its gradients, for any activation."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        self.activation = activation

    def forward(self, gated: Tensor, raised: Tensor) -> Tensor:
        """The product, (n, D) as both are."""
        return self.activation(gated) * raised

    def backward(self, gated: Tensor, raised: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The product again, and the gradients of gated and raised from `grad`, that of the product."""
        with torch.enable_grad():
            gated, raised = gated.detach().requires_grad_(), raised.detach().requires_grad_()
            product = self.activation(gated) * raised
        return product.detach(), *torch.autograd.grad(product, (gated, raised), grad)


class TritonGate(Gate):
    """The same with SiLU, each in one pass over memory."""

    def forward(self, gated: Tensor, raised: Tensor) -> Tensor:
        from stages.kernels import passes

        return passes.swiglu_forward(gated, raised)

    def backward(self, gated: Tensor, raised: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from stages.kernels import passes

        return passes.swiglu_backward(gated, raised, grad)


class LowRankMLP(torch.autograd.Function):
    """x (..., in), the gate, the parts of gate, up and down, and their trained a and b in the same order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: Gate, gate: Parts, up: Parts, down: Parts, *masters: Tensor) -> Tensor:
        (gated, raised), below = lora.products((gate, up), x.reshape(-1, x.shape[-1]))
        (out,), (_, *above) = lora.products((down,), by.forward(gated, raised))
        ctx.save_for_backward(gated, raised, *above, *below)
        ctx.parts, ctx.by, ctx.shape = (gate, up, down), by, x.shape
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gated, raised, down_low, down_in, down_out, *below = ctx.saved_tensors
        gate, up, down = ctx.parts
        flat = grad.reshape(-1, grad.shape[-1])
        by_low = flat @ down_out
        of_product = lora.gradient_of_rows((down,), [flat], [by_low], down_in)
        product, *by_output = ctx.by.backward(gated, raised, of_product)
        of_down = lora.of_masters((down,), [flat], [by_low], product, down_low)
        of_x, of_both = lora.gradients((gate, up), by_output, below, ctx.needs_input_grad[0])
        return None if of_x is None else of_x.view(ctx.shape), None, None, None, None, *of_both, *of_down


def fuse(module: torch.nn.Module, triton: bool = False) -> bool:
    """Let a gated MLP whose three layers are fused compute as one operation; says whether it does."""
    layers = [getattr(module, name, None) for name in LAYERS]
    if not hasattr(module, "act_fn") or any(getattr(layer, "fused_adapter", None) is None for layer in layers):
        return False
    if hasattr(module, "plain_forward"):
        return True
    module.plain_forward = module.forward
    by = (TritonGate if triton and type(module.act_fn).__name__ in SILU else Gate)(module.act_fn)

    def forward(x: Tensor) -> Tensor:
        parts = [lora.parts_of(layer, x.dtype) for layer in layers]
        if any(part is None for part in parts):
            return module.plain_forward(x)
        return LowRankMLP.apply(x, by, *parts, *(master for p in parts for master in (p.a, p.b)))

    module.forward = forward
    return True
