"""The 4-bit base: what is quantized, what is stored, what is refused, and that speed never changes a bit."""

import json
import logging
import sys
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import linear

from pipeline.context import Artifact
from pipeline.errors import ConfigError
from stages.models import quantization
from stages.models.chain import Chain, base_model, extend, load_policy
from stages.models.quantization import (
    GIB,
    Settings,
    compute_dtype,
    dense_weight,
    keep_dense,
    load_quantized,
    quantized_key,
    require_library,
    stored,
)  # fmt: skip

IDS = torch.tensor([[5, 70, 12, 33, 101, 8, 40, 2, 90]])


def logits(model, ids=IDS):
    with torch.no_grad():
        return model.eval()(input_ids=ids, use_cache=False).logits


def layers(model):
    return {name: module for name, module in model.named_modules() if hasattr(module, "dense_weight")}


@pytest.fixture
def quantizations(monkeypatch):
    """Counts how often a base is quantized."""
    made, real = [], quantization._quantize
    monkeypatch.setattr(quantization, "_quantize", lambda *args: made.append(args) or real(*args))
    return made


@pytest.fixture(scope="module")
def model(base):
    return load_quantized(base, "cpu", None)


# -- what is quantized --------------------------------------------------------------------------------------------
def test_linear_layers_have_4_bits_and_the_rest_is_the_base_s(base, model):
    plain = base_model(base.path / "model", "cpu")
    assert len(layers(model)) == 14  # seven in each of two layers
    weights = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        layer = layers(model).get(name.removesuffix(".weight"))
        if layer is None:
            assert torch.equal(parameter, weights[name]), name
        else:
            assert parameter.numel() * 2 == weights[name].numel() and parameter.dtype == torch.uint8
    assert "lm_head" not in layers(model) and not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_head_of_its_own_is_left_alone(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    net = LlamaForCausalLM(LlamaConfig(vocab_size=96, num_key_value_heads=2, tie_word_embeddings=False, **sizes))
    net.save_pretrained(tmp_path / "model")
    made = load_quantized(Artifact("b", "base", "base", tmp_path, "d"), "cpu", None)
    assert torch.equal(made.lm_head.weight, net.lm_head.weight) and len(layers(made)) == 7


def test_weights_are_those_of_the_library(base, model):
    import bitsandbytes

    plain = dict(base_model(base.path / "model", "cpu").named_parameters())
    for name, layer in layers(model).items():
        wanted = bitsandbytes.functional.quantize_4bit(
            plain[f"{name}.weight"].data, compress_statistics=True, quant_type="nf4"
        )
        assert torch.equal(layer.weight.data, wanted[0])
        assert torch.equal(layer.dense_weight(), bitsandbytes.functional.dequantize_4bit(*wanted))
        error = (layer.dense_weight() - plain[f"{name}.weight"]).abs().max() / plain[f"{name}.weight"].abs().max()
        assert 0 < error < 0.15  # half the widest gap of the 16 values


def test_the_library_s_marks_are_off_so_that_adapters_are_those_of_lora(base):
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import Linear

    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(load_quantized(base, "cpu", None), config)
    adapted = [module for module in wrapped.modules() if type(module) is Linear]
    assert len(adapted) == 14 and all(m.lora_A["default"].weight.dtype == torch.float32 for m in adapted)
    assert not getattr(wrapped, "is_loaded_in_4bit", False)  # TRL asks this


# -- how it computes ----------------------------------------------------------------------------------------------
def test_training_and_evaluation_compute_the_same(model):
    found = logits(model)
    model.train()
    trained = model(input_ids=IDS, use_cache=False).logits.detach()
    model.eval()
    with torch.inference_mode():
        inferred = model(input_ids=IDS, use_cache=False).logits
    assert torch.equal(found, trained) and torch.equal(found, inferred)


@pytest.mark.parametrize("shape", [(9, 64), (2, 9, 64), (0, 64)])
def test_forward_and_gradient_are_those_of_the_dense_layer(model, shape):
    layer = model.model.layers[0].mlp.up_proj
    torch.manual_seed(0)
    x = torch.randn(shape, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = layer.dense_weight()
    out, wanted = layer(x), linear(y, weight)
    assert torch.equal(out, wanted)
    out.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_a_bias_is_added(tmp_path):
    import bitsandbytes

    from stages.models.linear4bit import adopt

    torch.manual_seed(0)
    plain = torch.nn.Linear(64, 32)
    layer = bitsandbytes.nn.Linear4bit(64, 32, quant_type="nf4")
    layer.load_state_dict(plain.state_dict())
    layer = layer.to("cpu")
    adopt(layer, torch.float32)
    x = torch.randn(3, 64)
    assert torch.equal(layer(x), linear(x, layer.dense_weight(), plain.bias))


@pytest.mark.parametrize("gib", [1.0, 30_000 / GIB])
def test_kept_dense_weights_change_no_bit_of_loss_and_gradients(base, gib):
    from peft import LoraConfig, get_peft_model

    def step(kept):
        torch.manual_seed(0)
        model = load_quantized(base, "cpu", None)
        count = keep_dense(model, kept)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        model = get_peft_model(model, config)
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        return count, loss, {n: p.grad for n, p in model.named_parameters() if p.requires_grad}

    none, loss, grads = step(0.0)
    some, same, others = step(gib)
    assert none == 0 and some == (14 if gib == 1.0 else 2)  # q of 64 x 64 and k of 32 x 64 float32 values
    assert torch.equal(loss, same) and grads.keys() == others.keys()
    assert all(torch.equal(grads[name], others[name]) for name in grads)


def test_kept_weights_stay_within_the_budget(base):
    for budget in (0, 8191, 8192, 100_000, 10**9):
        model = load_quantized(base, "cpu", None)
        keep_dense(model, budget / GIB)
        kept = [layer.kept for layer in layers(model).values() if layer.kept is not None]
        assert sum(weight.nbytes for weight in kept) <= budget
    assert len(kept) == 14


def test_dense_weight_of_every_kind_of_layer(model):
    layer = model.model.layers[1].self_attn.k_proj
    before = dense_weight(layer)
    assert before.shape == (32, 64) and before.dtype == torch.float32
    layer.keep()
    assert dense_weight(layer) is layer.kept and torch.equal(layer.kept, before)
    plain = torch.nn.Linear(3, 2)
    assert dense_weight(plain) is plain.weight
    for other in (torch.nn.Embedding(3, 2), torch.nn.LayerNorm(2)):
        with pytest.raises(TypeError, match="has no dense weight"):
            dense_weight(other)


def test_compute_dtype_is_the_base_s_unless_that_is_float32_on_a_gpu():
    assert compute_dtype(torch.float32, "cpu") == torch.float32
    assert compute_dtype(torch.float32, "cuda") == compute_dtype(torch.float32, "cuda:1") == torch.bfloat16
    for dtype in (torch.bfloat16, torch.float16):
        assert compute_dtype(dtype, "cpu") == compute_dtype(dtype, "cuda") == dtype


def test_a_bfloat16_base_computes_in_bfloat16(bench, base):
    folder = bench.folder("base16")
    base_model(base.path / "model", "cpu").to(torch.bfloat16).save_pretrained(folder / "model")
    model = load_quantized(Artifact("b16", "base", "base", folder, "d16"), "cpu", None)
    assert {layer.dense_weight().dtype for layer in layers(model).values()} == {torch.bfloat16}
    exact = logits(base_model(base.path / "model", "cpu"))
    assert logits(model).dtype == torch.bfloat16
    assert (logits(model).float() - exact).abs().max() < 0.2 * exact.abs().max()


# -- on disk ------------------------------------------------------------------------------------------------------
def test_quantized_once_stored_and_loaded_bit_identical(base, tmp_path, quantizations):
    fresh = load_quantized(base, "cpu", None)
    loaded = [load_quantized(base, "cpu", tmp_path) for _ in range(3)]
    assert len(quantizations) == 2  # the fresh one, and one for all three
    wanted = fresh.state_dict()
    for model in loaded:
        found = model.state_dict()
        assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert torch.equal(logits(model), logits(fresh))
    folder = stored(base, tmp_path)
    record = json.loads((folder / "quantization.json").read_text())
    assert record["base"] == base.digest and record["settings"] == {"quant_type": "nf4", "double": True}
    assert {"model.safetensors", "config.json"} <= record["files"].keys()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing half-made is left


def test_the_stored_base_is_the_library_s_own_format(base, tmp_path):
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(stored(base, tmp_path), local_files_only=True)
    assert theirs.is_loaded_in_4bit
    weights = theirs.state_dict()
    assert all(
        torch.equal(weights[name], value) for name, value in load_quantized(base, "cpu", None).state_dict().items()
    )


def test_other_settings_base_or_library_have_another_key(base, monkeypatch):
    keys = {
        quantized_key(base, Settings()),
        quantized_key(base, Settings(quant_type="fp4")),
        quantized_key(base, Settings(double=False)),
        quantized_key(replace(base, digest="other"), Settings()),
    }
    monkeypatch.setattr(quantization, "version", lambda name: "99")
    assert len(keys | {quantized_key(base, Settings())}) == 5


def test_settings_reach_the_weights(base, tmp_path):
    def states(settings):
        model = load_quantized(base, "cpu", tmp_path, settings)
        return {
            (layer.weight.quant_state.quant_type, layer.weight.quant_state.nested) for layer in layers(model).values()
        }

    assert states(Settings()) == {("nf4", True)}
    assert states(Settings(double=False)) == {("nf4", False)}
    assert states(Settings(quant_type="fp4")) == {("fp4", True)}
    assert len(list((tmp_path / "quantized").iterdir())) == 3


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "a flipped bit": lambda folder: flip(folder / "model.safetensors"),
    "a cut file": lambda folder: (folder / "model.safetensors").write_bytes(b"half"),
    "another config": lambda folder: (folder / "config.json").write_text("{}"),
    "a missing file": lambda folder: (folder / "config.json").unlink(),
    "no record": lambda folder: (folder / "quantization.json").unlink(),
    "an empty record": lambda folder: (folder / "quantization.json").write_text(""),
    "a record of another form": lambda folder: (folder / "quantization.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_one_is_made_anew_and_that_is_said(base, tmp_path, quantizations, capsys, damage):
    folder = stored(base, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "damaged" not in capsys.readouterr().err
    damage(folder)
    assert stored(base, tmp_path) == folder and len(quantizations) == 2
    assert "is damaged" in (said := capsys.readouterr().err) and "made anew" in said and str(folder) in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("theirs", ["sound", "damaged"])
def test_two_stages_at_once_both_end_with_a_sound_base(base, tmp_path, monkeypatch, theirs):
    """The other stage puts its own between this one's look and its rename."""
    real = quantization._quantize

    def slow(*args):
        monkeypatch.setattr(quantization, "_quantize", real)
        folder = stored(base, tmp_path)
        if theirs == "damaged":
            flip(folder / "model.safetensors")
        return real(*args)

    monkeypatch.setattr(quantization, "_quantize", slow)
    folder = stored(base, tmp_path)
    assert quantization._fault(folder) is None
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_failed_write_leaves_nothing_that_looks_whole(base, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantization, "sha256", full)
    with pytest.raises(OSError, match="No space left"):
        stored(base, tmp_path)
    assert list((tmp_path / "quantized").iterdir()) == []


# -- in a chain ---------------------------------------------------------------------------------------------------
@pytest.fixture
def link(bench, base, sft):
    """link(methods...) -> a model artifact with the adapter of `sft` once for each method, and its lineage."""

    def make(*methods):
        chain, folder = Chain.read(base), bench.folder("link")
        for number, method in enumerate(methods):
            adapter = sft.artifact.path / "model" / "adapter"
            chain = extend(chain, f"s{number}", sft.artifact.id, adapter, method, 4)
        (folder / "model").mkdir()
        chain.write(folder / "model")
        made = bench.publish("link", "sft", folder, {}, {})
        return made, {base.id: base, sft.artifact.id: sft.artifact, made.id: made}

    return make


def is_quantized(policy):
    return bool(layers(policy.model))


@pytest.mark.parametrize(
    ("methods", "quantized"),
    [((), False), (("lora",), False), (("qlora",), True), (("lora", "qlora"), True), (("qlora", "lora"), False)],
)
def test_the_newest_adapter_decides_how_the_base_is_loaded(base, link, methods, quantized):
    policy = load_policy(*link(*methods), device="cpu")
    assert is_quantized(policy) is quantized
    assert policy.quantized == (quantized_key(base, Settings()) if quantized else None)


def test_the_adapter_to_be_trained_decides_for_its_stage(link):
    for methods in ((), ("lora",), ("qlora",)):
        assert is_quantized(load_policy(*link(*methods), device="cpu", method="qlora"))
        assert not is_quantized(load_policy(*link(*methods), device="cpu", method="lora"))


def test_upstream_adapters_are_added_to_the_quantized_base(base, link, tmp_path):
    """Against the formula: dequantized W + scaling * B A, in a plain model."""
    policy = load_policy(*link("lora", "qlora"), device="cpu", cache=tmp_path)
    plain = base_model(base.path / "model", "cpu")
    for name, layer in layers(policy.model).items():
        weight = plain.get_submodule(name).weight
        weight.data = layer.dense_weight() + layer.chain_b @ layer.chain_a
        assert layer.chain_a.shape[0] == 8  # two adapters of rank 4
    torch.testing.assert_close(logits(policy.model), logits(plain), atol=1e-5, rtol=1e-5)
    assert (logits(policy.model) - logits(load_quantized(base, "cpu", tmp_path))).abs().max() > 0.05


def test_kept_dense_weights_of_a_chain_change_no_bit(link, tmp_path):
    made = link("lora", "qlora")
    plain = load_policy(*made, device="cpu", cache=tmp_path)
    kept = load_policy(*made, device="cpu", cache=tmp_path, dequant_cache_gib=1.0)
    assert sum(layer.kept is not None for layer in layers(kept.model).values()) == 14
    assert sum(layer.kept is not None for layer in layers(plain.model).values()) == 0
    assert torch.equal(logits(plain.model), logits(kept.model))


# -- the library --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["missing", "broken"])
def test_a_library_that_cannot_be_imported_is_named(base, monkeypatch, tmp_path, how):
    if how == "missing":
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    else:
        (tmp_path / "bitsandbytes.py").write_text("raise RuntimeError('its shared object does not load')")
        monkeypatch.delitem(sys.modules, "bitsandbytes")
        monkeypatch.syspath_prepend(str(tmp_path))
    for call in (require_library, lambda: load_quantized(base, "cpu", tmp_path)):
        with pytest.raises(ConfigError, match=r"peft\.method=qlora needs bitsandbytes.*make setup.*peft\.method=lora"):
            call()


def test_its_notice_about_a_kernel_that_is_not_used_is_silenced():
    import stages.warm  # noqa: F401

    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)
    assert logging.getLogger("bitsandbytes").isEnabledFor(logging.WARNING)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_same_bits_are_loaded_and_products_are_bfloat16(base, tmp_path):
    here, there = (load_quantized(base, device, tmp_path) for device in ("cpu", "cuda"))
    wanted = here.state_dict()
    assert all(torch.equal(value.cpu(), wanted[name]) for name, value in there.state_dict().items())
    assert {layer.dense_weight().dtype for layer in layers(there).values()} == {torch.bfloat16}
    found = logits(there, IDS.cuda())
    assert (found.float().cpu() - logits(here)).abs().max() < 0.05 * logits(here).abs().max()
    keep_dense(there, 1.0)
    assert torch.equal(logits(there, IDS.cuda()), found)
