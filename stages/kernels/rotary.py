"""Rotary positions of queries and keys by `passes.rotate`, in attentions that call Transformers' function for it."""

from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

NAME = "apply_rotary_pos_emb"  # in the module of every architecture that is known here


class Rotation(torch.autograd.Function):
    """q (1, H, T, D) and k (1, G, T, D), turned by angles with cosines and sines (1, T, D)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        from stages.kernels import passes

        ctx.save_for_backward(cos, sin)
        return passes.rotate(q, cos, sin), passes.rotate(k, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from stages.kernels import passes

        return *(passes.rotate(grad, *ctx.saved_tensors, backward=True) for grad in grads), None, None


def fuse(module: torch.nn.Module) -> bool:
    """Let an attention turn its queries and keys in one pass each; says whether it does.

    Its own forward runs, with the function that it calls by NAME bound to ours: so no other model is touched.
    """
    plain = type(module).forward
    if not isinstance(plain, FunctionType) or NAME not in plain.__code__.co_names or NAME not in plain.__globals__:
        return False
    names = {**plain.__globals__, NAME: _turned_by(plain.__globals__[NAME])}
    own = FunctionType(plain.__code__, names, plain.__name__, plain.__defaults__, plain.__closure__)
    own.__kwdefaults__ = plain.__kwdefaults__
    module.forward = MethodType(own, module)
    return True


def _turned_by(original: Any) -> Any:
    def turned(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if args or kwargs or len(q) > 1 or cos.shape != (1, *q.shape[2:]):  # rows of a batch, or a part of each head
            return original(q, k, cos, sin, *args, **kwargs)
        return Rotation.apply(q, k, cos, sin)

    return turned
