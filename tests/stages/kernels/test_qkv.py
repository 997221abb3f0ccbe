"""Queries, keys and values together: what each layer alone would give, whoever asks and however it is switched."""

import torch
from kernel_toys import gradients, lora, net

from stages.kernels import qkv, step


def attention(fused):
    """The first attention of a toy with a random adapter, its low-rank layers fused; and all of its model."""
    from peft import get_peft_model
    from trl.trainer.utils import add_fused_lm_head

    plain = net()
    add_fused_lm_head(plain)
    torch.manual_seed(1)
    model = get_peft_model(plain, lora())
    step._fuse_adapters(model.get_base_model())
    module = model.get_base_model().model.layers[0].self_attn
    assert not fused or qkv.fuse(module)
    return module, model


def asked(module, x, names=qkv.LAYERS):
    """What the layers give, asked one after another."""
    return [getattr(module, name)(x) for name in names]


def compare(names=qkv.LAYERS, switch=lambda model: None):
    x = torch.randn(2, 7, net().config.hidden_size)
    results = []
    for fused in (True, False):
        module, model = attention(fused)
        switch(model)
        given = x.clone().requires_grad_()
        outs = asked(module, given, names)
        sum((number + 1) * out.square().sum() for number, out in enumerate(outs)).backward()
        results.append(({"x": given.grad, **gradients(model)}, outs))
    (found, outs), (expected, wanted) = results
    assert found.keys() == expected.keys()
    for out, want in zip(outs, wanted, strict=True):
        torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-5)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_outputs_and_gradients_are_those_of_the_three_layers_alone():
    compare()


def test_any_order_and_a_layer_asked_twice():
    compare(("k_proj", "q_proj", "v_proj", "q_proj", "q_proj", "k_proj", "k_proj"))


def test_with_the_adapter_off_the_base_answers():
    x = torch.randn(1, 5, net().config.hidden_size)
    module, model = attention(True)
    with model.disable_adapter():
        found = asked(module, x)
    for name, out in zip(qkv.LAYERS, found, strict=True):
        torch.testing.assert_close(out, getattr(module, name).get_base_layer()(x))


def test_another_x_is_not_answered_with_what_was_kept():
    module, _ = attention(True)
    one, other = torch.randn(2, 1, 5, net().config.hidden_size)
    expected = asked(attention(False)[0], other)[1]
    module.q_proj(one)
    torch.testing.assert_close(module.k_proj(other), expected, rtol=1e-5, atol=1e-5)


def test_nothing_is_kept_after_the_attention_has_run():
    module, model = attention(True)
    model(input_ids=torch.randint(3, 20, (1, 6)))
    assert module.kept_for == {}


def test_an_attention_with_a_layer_that_is_not_fused_is_left_alone():
    module, _ = attention(False)
    del module.v_proj.fused_adapter
    before = module.q_proj.forward
    assert not qkv.fuse(module) and module.q_proj.forward is before
