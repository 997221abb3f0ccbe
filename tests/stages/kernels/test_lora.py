"""One operation for a layer and its adapter against PEFT's own layer: output and every gradient."""

from types import SimpleNamespace

import pytest
import torch
from kernel_toys import relative
from torch import nn

from stages.kernels import lora

INTO, OUT = 64, 128


def wrapped(base=None, **changes):
    """PEFT's layer around a linear one, A and B random; the same weights every time."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = base or nn.Linear(INTO, OUT, bias=changes.pop("with_bias", True))
    model = nn.Sequential(base).requires_grad_(False)
    model.is_loaded_in_4bit = hasattr(base, "dense_weight")  # what Transformers would say
    torch.manual_seed(1)
    settings = {"r": 4, "lora_alpha": 10, "target_modules": ["0"], "init_lora_weights": False, **changes}
    return get_peft_model(model, LoraConfig(**settings)).base_model.model[0]


def nf4(with_bias=True):
    """A layer of the QLoRA base."""
    import bitsandbytes

    from stages.models.linear4bit import adopt

    torch.manual_seed(0)
    plain = nn.Linear(INTO, OUT, bias=with_bias)
    layer = bitsandbytes.nn.Linear4bit(INTO, OUT, bias=with_bias, quant_type="nf4")
    layer.load_state_dict(plain.state_dict())
    layer.to("cpu")  # quantizes
    if layer.weight.quant_state is None:
        layer.weight = layer.weight._quantize("cpu")
    adopt(layer, torch.float32)
    return layer


def run(layer, shape=(2, 5, INTO)):
    """Output, gradient of the input, gradients of A and B."""
    torch.manual_seed(2)
    x = torch.randn(shape, requires_grad=True)
    y = layer(x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters() if p.requires_grad)]


def check_fused(make):
    plain, fused = make(), make()
    assert lora.why_not(fused) is None
    lora.fuse(fused)
    found, expected = run(fused), run(plain)
    assert len(found) == 4
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours, theirs) <= 1e-5


@pytest.mark.parametrize("changes", [{}, {"with_bias": False}, {"use_rslora": True}, {"r": 1}], ids=str)
def test_equals_pefts_layer(changes):
    check_fused(lambda: wrapped(**changes))


@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_pefts_layer_of_four_bits(with_bias):
    layer = wrapped(nf4(with_bias))
    assert type(layer).__name__ == "Linear4bit" and layer.get_base_layer().weight.dtype == torch.uint8
    check_fused(lambda: wrapped(nf4(with_bias)))


def test_a_dense_weight_of_four_bits_is_not_kept_for_the_backward_pass():
    layer = wrapped(nf4())
    lora.fuse(layer)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        layer(torch.randn(2, INTO, requires_grad=True))
    assert kept and max(kept) < INTO * OUT


def above_a_chain():
    from stages.models.chain import _add_low_rank

    layer = wrapped()
    base = layer.get_base_layer()
    base.register_buffer("chain_a", torch.randn(3, INTO))
    base.register_buffer("chain_b", torch.randn(OUT, 3))
    base.register_forward_hook(_add_low_rank)
    return layer


def test_equals_pefts_layer_above_a_frozen_chain():
    check_fused(above_a_chain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_chain_stays_on_when_the_adapter_is_off(dtype):
    """And is computed alike, so that a fresh adapter changes nothing in 16 bits either: DPO begins at ln 2."""
    layer, plain = above_a_chain(), above_a_chain()
    lora.fuse(layer)
    for each in (layer, plain):
        each.get_base_layer().to(dtype)
        each.lora_B["default"].weight.data.zero_()
    x = torch.randn(40, INTO).to(dtype)
    with torch.no_grad():
        on = layer(x)
        for each in (layer, plain):
            each.enable_adapters(False)
        off, expected = layer(x), plain(x)
    assert torch.equal(on, off) if dtype == torch.bfloat16 else relative(on, off) <= 1e-6
    torch.testing.assert_close(off, expected, **({} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.1}))


def test_the_first_layer_needs_no_gradient_of_its_input():
    layer = wrapped()
    lora.fuse(layer)
    layer(torch.randn(3, INTO)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters() if p.requires_grad)


def test_with_the_adapter_off_merged_or_not_alone_it_is_pefts_layer():
    layer, plain = wrapped(), wrapped()
    lora.fuse(layer)
    x = torch.randn(3, INTO)
    with torch.no_grad():
        for each in (layer, plain):
            each.enable_adapters(False)
        assert torch.equal(layer(x), layer.get_base_layer()(x)) and torch.equal(layer(x), plain(x))
        for each in (layer, plain):
            each.enable_adapters(True)
            each.merge()
        assert torch.equal(layer(x), plain(x))


def test_gradients_of_the_masters_are_summed_in_float32():
    """601 ones: a sum in 16 bits would stop at 256; a CPU rounds the whole sum once."""
    a, b = torch.ones(1, 600, dtype=torch.bfloat16), torch.ones(600, 1, dtype=torch.bfloat16)
    b[0] = 2.0
    assert float(lora._in_float32(a, b)) == float(torch.tensor(601.0).to(torch.bfloat16))
    assert float(lora._in_float32(a.float(), b.float())) == 601


class Other(nn.Linear):
    """Some library's layer with packed weights."""

    def __init__(self):
        super().__init__(INTO, OUT)
        self.weight = nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)


def trained_below():
    layer = wrapped()
    layer.get_base_layer().bias.requires_grad_(True)
    return layer


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: wrapped(use_dora=True), "variant"),
        (lambda: wrapped(lora_bias=True), "bias"),
        (trained_below, "trained too"),
        (lambda: wrapped(Other(), init_lora_weights=True), "Other has no dense weight"),
    ],
    ids=["DoRA", "LoRA bias", "trained bias", "packed weights"],
)
def test_what_is_not_fused_and_why(make, reason):
    assert reason in lora.why_not(make())


def test_another_kind_of_layer_is_not_fused():
    from peft import LoraConfig, get_peft_model

    model = nn.Sequential(nn.Embedding(5, 4))
    layer = get_peft_model(model, LoraConfig(r=2, target_modules=["0"])).base_model.model[0]
    assert lora.why_not(layer) == "Embedding is no plain linear layer"


def test_dropout_forbids_sharing_only_while_it_is_trained():
    layer = wrapped(lora_dropout=0.1)
    assert "dropout" in lora.forbids_sharing(layer)
    assert lora.forbids_sharing(layer.requires_grad_(False)) is None
    assert lora.forbids_sharing(wrapped()) is None
    assert "DoraLinearVariant" in lora.forbids_sharing(wrapped(use_dora=True))


def test_layers_without_the_adapter_of_now_are_left_alone():
    stranger = SimpleNamespace(active_adapters=["other"], lora_dropout={}, lora_variant={})
    assert lora.forbids_sharing(stranger) is None
