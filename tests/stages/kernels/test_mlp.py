"""A gated MLP as one operation against the same layers one by one: output, every gradient, and what is kept."""

import copy

import pytest
import torch
from kernel_toys import lora as adapter
from kernel_toys import net, relative
from torch import nn

from stages.kernels import lora, mlp


def gated(architecture="llama", chain=False):
    """(plain, fused): two copies of one MLP with adapters, whose layers are fused in both."""
    from peft import get_peft_model

    torch.manual_seed(3)
    found = get_peft_model(net(architecture), adapter()).base_model.model.model.layers[0].mlp
    if chain:
        add_chain(found)
    pair = [copy.deepcopy(found) for _ in range(2)]
    for module in pair:
        for name in mlp.LAYERS:
            lora.fuse(getattr(module, name))
    assert mlp.fuse(pair[1])
    return pair


def add_chain(module):
    from stages.models.chain import _add_low_rank

    for name in mlp.LAYERS:
        base = getattr(module, name).get_base_layer()
        base.register_buffer("chain_a", torch.randn(3, base.in_features))
        base.register_buffer("chain_b", torch.randn(base.out_features, 3))
        base.register_forward_hook(_add_low_rank)


def run(module, dtype=torch.float32, shape=(2, 5, 32)):
    torch.manual_seed(2)
    x = torch.randn(shape).to(dtype).requires_grad_()
    y = module(x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in module.parameters() if p.requires_grad)]


@pytest.mark.parametrize("chain", [False, True], ids=["alone", "above a chain"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])  # SiLU, SiLU, GELU
def test_equals_its_layers_one_by_one(architecture, chain):
    plain, fused = (run(module) for module in gated(architecture, chain))
    assert len(fused) == 8
    for ours, theirs in zip(fused, plain, strict=True):
        assert relative(ours, theirs) <= 1e-5


def test_keeps_half_of_what_its_layers_keep():
    """The outputs of gate and up stay; the activation and the product are made again."""

    def kept(module):
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.update({t.data_ptr(): t.numel()}) or t, lambda t: t
        ):
            module(torch.randn(1, 400, 32, requires_grad=True))
        return [size for size in sizes.values() if size == 400 * 48]

    plain, fused = map(kept, gated())
    assert len(plain) == 4 and len(fused) == 2


def test_with_the_adapter_off_its_layers_compute_and_above_a_chain_it_does():
    for chain in (False, True):
        plain, fused = gated(chain=chain)
        x = torch.randn(3, 32)
        with torch.no_grad():
            on = fused(x)
            for module in (plain, fused):
                for name in mlp.LAYERS:
                    getattr(module, name).enable_adapters(False)
            assert relative(fused(x), plain(x)) <= 1e-6
            assert relative(fused(x), on) > 1e-3


def test_an_mlp_with_a_layer_that_peft_computes_is_left_alone():
    plain, _ = gated()
    del plain.up_proj.fused_adapter
    assert not mlp.fuse(plain) and not mlp.fuse(nn.Linear(2, 2))
