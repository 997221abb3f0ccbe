"""RMSNorm with a frozen weight (Zhang & Sennrich 2019, arXiv 1910.07467), forward and backward in few passes.

y = w x / sqrt(mean(x^2) + eps), x in float32 until the weight is multiplied, as Transformers' Llama family does it.
Autograd would go over x some eleven times on the way back; knowing that w has no gradient, eight are enough.
"""

from typing import Any

import torch
from torch import Tensor

# Classes with exactly this formula; Gemma's multiplies by 1 + w.
KNOWN = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")


class FrozenRMSNorm(torch.autograd.Function):
    """x (..., D), weight (D,) -> (..., D) in the dtype of weight and x together; `triton`: by `passes`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, triton: bool = False) -> Tensor:
        ctx.triton = triton and x.dtype == weight.dtype
        if ctx.triton:
            from stages.kernels import passes

            y, scale = passes.norm_forward(x, weight, eps)
            ctx.save_for_backward(x, scale, weight)
            return y
        wide = x.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, scale, weight)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, scale, weight = ctx.saved_tensors
        if ctx.triton:
            from stages.kernels import passes

            return passes.norm_backward(x, weight, scale, grad), None, None, None
        wide, grad = x.float(), (grad * weight).float()
        along = torch.linalg.vecdot(grad, wide)[..., None] * scale.square() / -x.shape[-1]
        return torch.addcmul(grad, wide, along).mul_(scale).to(x.dtype), None, None, None


def fuse(module: torch.nn.Module, triton: bool = False) -> bool:
    """Let a known RMSNorm whose weight is frozen compute in few passes, or in one; says whether it does."""
    if type(module).__name__ not in KNOWN or module.weight.requires_grad:
        return False

    def forward(x: Tensor) -> Tensor:
        return FrozenRMSNorm.apply(x, module.weight, module.variance_epsilon, triton)

    module.forward = forward
    return True
