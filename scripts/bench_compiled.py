"""The fast step for models so small that launching kernels takes longer than computing: compiled, or as CUDA graphs."""

from typing import Any

import torch
from torch import Tensor

from stages.kernels.tree import ATTENTION, Tree, attention


def compile_layers(model: Any, mode: str) -> None:
    """Compile each decoder layer around its attention, which depends on the layout of every batch.

    The gated MLP differentiates its activation inside its own backward pass; the compiler has to be told to follow.
    Every layer is a version of the same code, so as many versions have to be allowed.
    """
    from transformers import AttentionInterface

    config = torch._dynamo.config
    if hasattr(config, "trace_autograd_ops"):
        config.trace_autograd_ops = True
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, limit, 1024)
    AttentionInterface.register(ATTENTION, torch.compiler.disable(attention))
    for layer in model.base_model.layers:
        layer.forward = torch.compile(layer.forward, mode=mode)


def capture(model: Any) -> None:
    """Let the layers be one CUDA graph on the way there and one on the way back, made when the first batch comes.

    A graph repeats addresses and sizes, so every batch must have the layout of the first.
    """
    body, made = model.base_model, []
    plain = body.forward

    def forward(input_ids: Tensor, position_ids: Tensor, tree: Tree, **others: Any) -> Any:
        if not made:
            layers = Layers(body, plain, tree, others)
            captured = torch.cuda.make_graphed_callables(layers, (input_ids, position_ids)) if _on_gpu(body) else layers
            made.extend([captured, tree.families])
        run, families = made
        if tree.families != families:
            raise ValueError("a batch has another layout than the first; a CUDA graph needs packs of one layout")
        return _Output(run(input_ids, position_ids))

    body.forward = forward


def _on_gpu(body: torch.nn.Module) -> bool:
    return next(body.parameters()).is_cuda


class Layers(torch.nn.Module):
    """A model's layers as a function of tensors alone; its parameters are the model's."""

    def __init__(self, body: torch.nn.Module, plain: Any, layout: Tree, others: dict[str, Any]) -> None:
        super().__init__()
        self.body, self.plain, self.layout, self.others = body, plain, layout, others
        self.train(body.training)

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        made = self.plain(input_ids=input_ids, position_ids=position_ids, tree=self.layout, **self.others)
        return made.last_hidden_state


class _Output:
    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden
