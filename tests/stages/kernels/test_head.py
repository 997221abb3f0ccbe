"""The frozen head against the definitions: every field and the gradient, by autograd on full logits in float64."""

import pytest
import torch

from stages.kernels import head
from stages.kernels.head import Logits, logits_of, score

N, WIDTH, VOCABULARY = 11, 6, 23


def inputs(dtype=torch.float32):
    torch.manual_seed(0)
    hidden = torch.randn(N, WIDTH, dtype=dtype)
    weight, bias = torch.randn(VOCABULARY, WIDTH, dtype=dtype), torch.randn(VOCABULARY, dtype=dtype)
    return hidden, weight, bias, torch.randint(VOCABULARY, (N,))


def defined(hidden, weight, bias, targets, logits):
    """What the fields mean, written down."""
    z = hidden @ weight.t() + (0 if bias is None else bias)
    z = z * logits.scale
    z = z if logits.cap is None else logits.cap * torch.tanh(z / logits.cap)
    p = torch.softmax(z, dim=1)
    return {
        "log_probs": p.log()[torch.arange(N), targets],
        "entropy": -(p * p.log()).sum(1),
        "log_sum_sq_probs": (p * p).sum(1).log(),
        "mean_logits": z.mean(1),
        "is_top1": p.argmax(1) == targets,
    }


@pytest.mark.parametrize("rows_at_once", [4, 11, 256])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("logits", [Logits(), Logits(scale=0.5), Logits(cap=3.0), Logits(scale=2.0, cap=1.5)], ids=str)
def test_every_field_and_the_gradient(monkeypatch, logits, with_bias, rows_at_once):
    monkeypatch.setattr(head, "ROWS_AT_ONCE", rows_at_once)
    hidden, weight, bias, targets = inputs()
    bias = bias if with_bias else None
    ours, truth = hidden.clone().requires_grad_(), hidden.double().requires_grad_()
    found = score(ours, weight, bias, targets, logits, entropy_gradient=True)
    expected = defined(truth, weight.double(), bias.double() if with_bias else None, targets, logits)
    for name, value in vars(found).items():
        torch.testing.assert_close(value, expected[name].to(value.dtype), rtol=1e-5, atol=1e-5)
    by_row = torch.linspace(-1, 2, N)
    for entropy_counts in (0.0, 1.5):
        ours.grad = truth.grad = None
        (found.log_probs * by_row + entropy_counts * found.entropy).sum().backward(retain_graph=True)
        (expected["log_probs"] * by_row + entropy_counts * expected["entropy"]).sum().backward(retain_graph=True)
        torch.testing.assert_close(ours.grad, truth.grad.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("asked", "differentiable"), [(False, ["log_probs"]), (True, ["log_probs", "entropy"])])
def test_the_entropy_has_a_gradient_only_where_it_is_asked_for(asked, differentiable):
    hidden, weight, bias, targets = inputs()
    found = score(hidden.requires_grad_(), weight, bias, targets, entropy_gradient=asked)
    assert [name for name, value in vars(found).items() if value.requires_grad] == differentiable
    with torch.no_grad():
        assert not score(hidden, weight, bias, targets).log_probs.requires_grad


def test_of_equal_logits_the_first_is_top_1_as_in_trl():
    hidden, weight = torch.ones(2, 1), torch.tensor([[0.5], [2.0], [2.0]])
    assert score(hidden, weight, None, torch.tensor([1, 2])).is_top1.tolist() == [True, False]


def test_in_16_bits_confident_rows_keep_their_gradient():
    """1 - p of the target is small there: it must not come from the difference of two rounded numbers."""
    hidden, weight, _, _ = inputs(torch.bfloat16)
    targets = torch.arange(N)
    weight[targets] = 14 * hidden / hidden.square().sum(1, keepdim=True)
    ours, truth = hidden.clone().requires_grad_(), hidden.double().requires_grad_()
    found = score(ours, weight, None, targets)
    expected = defined(truth, weight.double(), None, targets, Logits())["log_probs"]
    assert found.log_probs.exp().max() > 0.99 and targets.unique().numel() == N
    found.log_probs.sum().backward()
    expected.sum().backward()
    gap = (ours.grad.double() - truth.grad).norm(dim=1) / truth.grad.norm(dim=1)
    assert float(gap.max()) < 0.25


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, Logits()),
        ({"final_logit_softcapping": 30.0}, Logits(1.0, 30.0)),
        ({"logit_scale": 0.25}, Logits(0.25)),
        ({"logits_scaling": 4.0}, Logits(0.25)),
        ({"lm_head_multiplier": 3.0}, Logits(3.0)),
    ],
    ids=str,
)
def test_scale_and_cap_are_read_from_the_config(said, expected):
    from kernel_toys import net

    model = net()
    for name, value in said.items():
        setattr(model.config, name, value)
    assert logits_of(model) == expected
