"""Triton's kernels, interpreted where there is no GPU: the definitions, TRL's losses and gradients, the compiler.

The interpreter computes as a GPU would, program by program. That the compiler takes the kernels, which it cannot
show, the last test does: it compiles them for an H100 without having one.
"""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_toys import PAIRS, ROWS, check_equal, dpo_trainer, net, outcome, sft_trainer
from torch.nn.functional import silu

from pipeline.errors import ConfigError
from pipeline.schema import Runtime
from stages.kernels import head, mlp, norm, rotary, step
from stages.kernels.head import Logits

pytest.importorskip("triton")
from stages.kernels import passes

pytestmark = pytest.mark.gpu  # they say more on a GPU, where nothing is interpreted, and run without one too
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPES = st.sampled_from([torch.float32, torch.bfloat16])
FEW = settings(max_examples=25)
# Of the largest entry. Where a GPU rounds to 16 bits, the interpreter cuts a number off: by 2^-7, and here twice.
BOUND = {torch.float32: 2e-6, torch.bfloat16: 2**-8 if DEVICE == "cuda" else 2**-6}


def drawn(seed, dtype, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(DEVICE)


def check_close(found, expected, dtype):
    """Within rounding of `expected`, which was computed in float64."""
    assert found.shape == expected.shape
    assert float((found.double() - expected).abs().max()) <= BOUND[dtype] * float(expected.abs().max() + 1e-6)


# -- each kernel against what it stands for -----------------------------------------------------------------------
@FEW
@given(TYPES, st.lists(st.integers(1, 4), max_size=2), st.integers(1, 70), st.integers(0, 2**31))
def test_rms_norm(dtype, shape, width, seed):
    x, grad = (drawn(seed + i, dtype, *shape, width) for i in range(2))
    weight = drawn(seed + 2, dtype, width)
    ours, truth = x.clone().requires_grad_(), x.double().requires_grad_()
    found = norm.FrozenRMSNorm.apply(ours, weight, 1e-5, True)
    expected = weight.double() * truth * torch.rsqrt(truth.square().mean(-1, keepdim=True) + 1e-5)
    found.backward(grad)
    expected.backward(grad.double())
    assert found.dtype == ours.grad.dtype == dtype
    check_close(found.detach(), expected.detach(), dtype)
    # A difference of two such terms, which may nearly cancel.
    term = (grad.double() * weight.double()).abs().max() * torch.rsqrt(truth.square().mean(-1) + 1e-5).max()
    assert float((ours.grad.double() - truth.grad).abs().max()) <= 2 * BOUND[dtype] * float(term.detach() + 1e-6)


@FEW
@given(TYPES, st.integers(1, 9), st.integers(1, 700), st.integers(0, 2**31))
def test_swiglu(dtype, rows, width, seed):
    gate, up, grad = (drawn(seed + i, dtype, rows, width) for i in range(3))
    a, b = gate.double().requires_grad_(), up.double().requires_grad_()
    expected = silu(a) * b
    expected.backward(grad.double())
    by = mlp.TritonGate(silu)
    check_close(by.forward(gate, up), expected.detach(), dtype)
    for found, truth in zip(by.backward(gate, up, grad), (expected.detach(), a.grad, b.grad), strict=True):
        assert found.dtype == dtype
        check_close(found, truth, dtype)


@FEW
@given(TYPES, st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**31))
def test_rotary_positions(dtype, groups, key_heads, tokens, half, seed):
    """Queries and keys as an attention has them: transposed views of rows of tokens; unequal halves of the angles."""
    q, k = (drawn(seed + i, dtype, 1, tokens, n, 2 * half) for i, n in enumerate((groups * key_heads, key_heads)))
    cos, sin, by_q = (drawn(seed + 2 + i, dtype, 1, tokens, 2 * half) for i in range(3))
    q, k = (x.transpose(1, 2).requires_grad_() for x in (q, k))
    truth = [x.detach().double().requires_grad_() for x in (q, k)]
    expected = [_turned(x, cos.double()[:, None], sin.double()[:, None]) for x in truth]
    found = rotary.Rotation.apply(q, k, cos, sin)
    for ours, wanted in zip(found, expected, strict=True):
        check_close(ours.detach(), wanted.detach(), dtype)
        (ours * by_q[:, None]).sum().backward(retain_graph=True)
        (wanted * by_q.double()[:, None]).sum().backward(retain_graph=True)
    for ours, wanted in zip((q, k), truth, strict=True):
        check_close(ours.grad, wanted.grad, dtype)


def _turned(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


LOGITS = st.sampled_from([Logits(), Logits(scale=0.5), Logits(cap=3.0), Logits(scale=2.0, cap=1.5)])


@FEW
@given(LOGITS, st.booleans(), st.integers(1, 6), st.integers(2, 60), st.integers(0, 2**31))
def test_scores_of_the_head_and_their_gradients(logits, with_bias, rows, words, seed):
    """In blocks far shorter than the vocabulary; test_head.py holds the plain head to the definitions.

    Which of two words comes first is compared only where they are further apart than rounding: a cap presses many
    logits together.
    """
    hidden, weight = drawn(seed, torch.float32, rows, 5), drawn(seed + 1, torch.float32, words, 5)
    bias = drawn(seed + 2, torch.float32, words) if with_bias else None
    targets = torch.randint(words, (rows, 2), generator=torch.Generator().manual_seed(seed)).to(DEVICE)[:, 1]  # a view
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "VOCABULARY", 16)
        for triton in (True, False):
            x = hidden.clone().requires_grad_()
            scores = head.score(x, weight, bias, targets, logits, entropy_gradient=True, triton=triton)
            (scores.log_probs * torch.arange(1, rows + 1, device=DEVICE) + 2 * scores.entropy).sum().backward()
            results.append((scores, x.grad))
    (found, of_x), (expected, wanted) = results
    for name, value in vars(expected).items():
        if name != "is_top1":
            torch.testing.assert_close(getattr(found, name), value, rtol=1e-5, atol=2e-5)
    settled = _lead(hidden, weight, bias, targets, logits).abs() > 1e-5
    assert torch.equal(found.is_top1[settled], expected.is_top1[settled])
    torch.testing.assert_close(of_x, wanted, rtol=1e-5, atol=2e-5 * float(weight.abs().max()) * rows)


def _lead(hidden, weight, bias, targets, logits):
    """How far the target's logit is above the largest of the others, (rows,)."""
    z = (hidden @ weight.T if bias is None else hidden @ weight.T + bias) * logits.scale
    z = z if logits.cap is None else logits.cap * torch.tanh(z / logits.cap)
    own = torch.nn.functional.one_hot(targets, z.shape[-1]).bool()
    return z[own] - z.masked_fill(own, -torch.inf).amax(-1)


def test_of_equal_logits_the_first_is_top_1(monkeypatch):
    """Also where they lie in different blocks."""
    monkeypatch.setattr(passes, "VOCABULARY", 2)
    hidden, weight = torch.ones(3, 1, device=DEVICE), torch.tensor([[0.5], [2.0], [2.0]], device=DEVICE)
    found = head.score(hidden, weight, None, torch.tensor([0, 1, 2], device=DEVICE), triton=True)
    assert found.is_top1.tolist() == [False, True, False]


@pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter does not round to 16 bits as a GPU does")
def test_in_16_bits_scores_are_no_further_from_the_truth_than_the_plain_head_s():
    hidden, weight = drawn(0, torch.bfloat16, 12, 32), drawn(1, torch.bfloat16, 300, 32)
    targets, gaps = torch.arange(12, device=DEVICE) * 7, {}
    for name, kind, flag in (("truth", torch.float64, False), ("plain", None, False), ("triton", None, True)):
        x = (hidden if kind is None else hidden.to(kind)).clone().requires_grad_()
        scores = head.score(x, weight.to(x.dtype), None, targets, triton=flag)
        scores.log_probs.sum().backward()
        gaps[name] = x.grad.double()
    plain, triton = (float((gaps[name] - gaps["truth"]).norm()) for name in ("plain", "triton"))
    assert triton <= 1.03 * plain


# -- the whole step -----------------------------------------------------------------------------------------------
WORK = {"sft": (sft_trainer, ROWS[:2]), "dpo": (dpo_trainer, PAIRS[1:2])}


@pytest.mark.skipif(DEVICE == "cuda", reason="the toys are trained on the CPU")
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3, capped logits"])
@pytest.mark.parametrize("work", WORK)
def test_losses_and_gradients_are_those_of_trl(work, architecture):
    make, rows = WORK[work]
    ours, theirs = (make(net(architecture), kind, rows, kernels="triton") for kind in ("fast", "trl"))
    rotations = ours.said.partition("rotations")[0].rpartition(", ")[2]
    assert ours.said.startswith("fast (fused, by Triton kernels: 14 low-rank layers") and rotations == "2 "
    check_equal(outcome(ours), outcome(theirs))


@pytest.mark.skipif(DEVICE == "cuda", reason="the toys are trained on the CPU")
def test_a_kernel_that_computed_something_else_would_be_seen(monkeypatch):
    """So the test above says something: each kernel takes part in the loss or in a gradient."""
    right = outcome(dpo_trainer(net(num_hidden_layers=1), "fast", PAIRS[1:2], kernels="triton"))
    for name in ("norm_forward", "norm_backward", "swiglu_forward", "swiglu_backward", "rotate", "score"):
        with monkeypatch.context() as patch:
            true = getattr(passes, name)
            patch.setattr(passes, name, lambda *args, true=true, **kwargs: _larger(true(*args, **kwargs)))
            _, wrong, _ = outcome(dpo_trainer(net(num_hidden_layers=1), "fast", PAIRS[1:2], kernels="triton"))
        assert not all(torch.allclose(wrong[key], grad, rtol=1e-3) for key, grad in right[1].items()), name


def _larger(found):
    """Each tensor of what a kernel gave, by a tenth."""
    if isinstance(found, tuple):
        return tuple(_larger(part) for part in found)
    return found.mul_(1.1) if found is not None and found.is_floating_point() else found


def test_rotation_touches_no_other_model():
    """One attention calls ours, its sisters the library's own function."""
    ours, other = net(), net()
    attention = ours.model.layers[0].self_attn
    assert rotary.fuse(attention)
    assert "forward" not in vars(other.model.layers[0].self_attn)
    assert attention.forward.__globals__ is not type(attention).forward.__globals__
    assert type(attention).forward.__globals__[rotary.NAME].__module__.startswith("transformers.")


def test_a_batch_of_several_rows_is_turned_by_the_library_s_function():
    """As in generation, with padding: one kernel knows one row of tokens."""
    model, fused = net(), net()
    rotary.fuse(fused.model.layers[0].self_attn)
    ids = torch.arange(3, 27).view(2, 12)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, fused(ids).logits)


# -- where they can run -------------------------------------------------------------------------------------------
def test_kernels_are_refused_where_they_cannot_run(monkeypatch):
    """Before the first stage begins: stages ask this when their configs are checked."""
    here = Runtime(device="cuda", kernels="triton")
    step.check("fast", step.STEPS, here)
    with pytest.raises(ConfigError, match=r"runtime.kernels=triton needs a GPU, and the device here is cpu"):
        step.check("fast", step.STEPS, Runtime(device="cpu", kernels="triton"))
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ConfigError, match=r"the package triton is not installed.*CUDA build of torch"):
        step.check("fast", step.STEPS, here)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from stages.kernels import passes

H100 = GPUTarget("cuda", 90, 32)


def kernels(data, int32="i32", int64="i64", scalar="fp32", wide="*fp32"):
    return {
        "_norm_forward": ([data] * 3 + [wide, int32, int32, scalar], {"ROWS": 1, "WIDTH": 2048}),
        "_norm_backward": ([data, data, wide, data, data, int32, int32], {"ROWS": 16, "WIDTH": 128}),
        "_swiglu_forward": ([data] * 3 + [int64], {"BLOCK": 2048}),
        "_swiglu_backward": ([data] * 6 + [int64], {"BLOCK": 2048}),
        "_rotate": ([data] * 4 + [int32] * 5, {"HEADS": 32, "HALF": 64}),
        "_score": (
            [data, "*i64", *[wide] * 4, "*i1", wide, data, data, int32, scalar, scalar],
            {"CAPPED": True, "OF_FOUND": True, "OF_ENTROPY": True, "BLOCK": 4096},
        ),
    }


for data in ("*bf16", "*fp32"):
    for name, (types, constants) in kernels(data).items():
        kernel = getattr(passes, name)
        signature = dict(zip(kernel.arg_names, [*types, *["constexpr"] * len(constants)], strict=True))
        places = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
        made = triton.compile(ASTSource(kernel, signature, places), target=H100, options={"num_warps": 8})
        print(name, data, len(made.asm["cubin"]))
"""


@pytest.mark.slow
def test_every_kernel_compiles_for_a_gpu(tmp_path):
    """To machine code, by the compiler of a GPU machine; nothing is run. Takes long: twelve compilations."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = [int(line.split()[2]) for line in done.stdout.splitlines()]
    assert len(sizes) == 12 and min(sizes) > 1000
