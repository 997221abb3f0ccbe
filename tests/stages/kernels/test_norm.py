"""RMSNorm in few passes: Transformers' own answer and gradient, and only where the formula is known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from stages.kernels import norm

KNOWN = (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm)


def made(kind, width, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    module = kind(width, eps=1e-5)
    module.weight.data = torch.randn(width).to(dtype)
    return module.requires_grad_(False)


def answers(module, x, grad):
    """Output and gradient of x."""
    x = x.clone().requires_grad_()
    out = module(x)
    out.backward(grad)
    return out.detach(), x.grad


@given(
    st.sampled_from(KNOWN), st.lists(st.integers(1, 5), min_size=0, max_size=3), st.integers(1, 48),
    st.integers(0, 2**31), st.floats(1e-3, 1e3),
)  # fmt: skip
def test_output_and_gradient_are_those_of_transformers(kind, shape, width, seed, size):
    plain, fused = made(kind, width, seed=seed), made(kind, width, seed=seed)
    assert norm.fuse(fused)
    x, grad = torch.randn(*shape, width) * size, torch.randn(*shape, width)
    (out, of_x), (wanted, expected) = answers(fused, x, grad), answers(plain, x, grad)
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-6)
    # The gradient is a difference of two such terms, which may nearly cancel.
    term = (grad * plain.weight).abs().max() * torch.rsqrt(x.square().mean(-1) + 1e-5).max()
    torch.testing.assert_close(of_x, expected, rtol=1e-5, atol=1e-5 * float(term))


def test_in_16_bits_no_further_from_the_truth():
    gaps = {"fused": 0.0, "plain": 0.0}
    for seed in range(8):
        plain, fused = (made(LlamaRMSNorm, 64, torch.bfloat16, seed) for _ in range(2))
        norm.fuse(fused)
        x, grad = torch.randn(2, 20, 64).bfloat16(), torch.randn(2, 20, 64).bfloat16()
        truth = answers(made(LlamaRMSNorm, 64, torch.bfloat16, seed).double(), x.double(), grad.double())
        for name, module in (("plain", plain), ("fused", fused)):
            found = answers(module, x, grad)
            assert {part.dtype for part in found} == {torch.bfloat16}
            gaps[name] += sum(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True))
    assert gaps["fused"] <= 1.01 * gaps["plain"]


@pytest.mark.parametrize("make", [lambda: Gemma3RMSNorm(8), lambda: LlamaRMSNorm(8), lambda: torch.nn.RMSNorm(8)])
def test_another_formula_and_a_trained_weight_are_left_alone(make):
    module = make()
    assert not norm.fuse(module) and "forward" not in vars(module)
