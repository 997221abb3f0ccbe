"""The chain as loaded against PEFT's own stack of the same adapters, and what it refuses."""

import json
import shutil

import pytest
import torch

from pipeline.context import Artifact
from pipeline.errors import StoreError
from stages.models import chain as chain_module
from stages.models.chain import AdapterRef, Chain, adapter_weights, base_model, extend, file_digest, load_policy

IDS = torch.tensor([[5, 70, 12, 33, 101, 8, 40, 2, 90]])


@pytest.fixture
def link(bench, base):
    """Makes an adapter with random weights by PEFT itself: link(seed, targets, r, alpha) -> artifact."""

    def make(seed, targets="all-linear", r=4, alpha=8, **settings):
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        config = LoraConfig(
            r=r, lora_alpha=alpha, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM", **settings
        )
        model = get_peft_model(base_model(base.path / "model", "cpu"), config)
        model.peft_config["default"].base_model_name_or_path = base.id
        folder = bench.folder(f"link{seed}")
        model.save_pretrained(folder / "model" / "adapter", save_embedding_layers=False)
        return bench.publish(f"link{seed}", "sft", folder, {}, {})

    return make


@pytest.fixture
def chained(base):
    """Writes the chain of some links into the last one: chained(a, b) -> its artifact and the lineage."""

    def make(*links):
        chain = Chain.read(base)
        for item in links:
            chain = extend(chain, item.stage, item.id, item.path / "model" / "adapter", "lora", 4)
        chain.write(links[-1].path / "model")
        return links[-1], {item.id: item for item in (base, *links)}

    return make


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def peft_stack(base, links):
    """PEFT's own model with all links active: the independent reference."""
    from peft import PeftModel

    folders = [item.path / "model" / "adapter" for item in links]
    model = PeftModel.from_pretrained(base_model(base.path / "model", "cpu"), folders[0], adapter_name="a0")
    for number, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=f"a{number}")
    model.base_model.set_adapter([f"a{number}" for number in range(len(folders))])
    return model


def merged(base, links):
    """The base with every W replaced by W + scaling * B A, by hand."""
    from safetensors.torch import load_file

    model = base_model(base.path / "model", "cpu")
    weights = dict(model.named_parameters())
    for item in links:
        folder = item.path / "model" / "adapter"
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = load_file(folder / "adapter_model.safetensors")
        for key in [k for k in tensors if "lora_A" in k]:
            a, b = tensors[key], tensors[key.replace("lora_A", "lora_B")]
            name = key.removeprefix("base_model.model.").replace(".lora_A", "")
            weights[name].data += config["lora_alpha"] / config["r"] * b @ a
    return model


STACKS = {
    "one": [{}],
    "two on the same layers": [{}, {"r": 2, "alpha": 16}],
    "three of different ranks and layers": [{"targets": ["q_proj", "v_proj"]}, {"r": 8}, {"targets": ["down_proj"]}],
}


class Other(torch.nn.Linear):
    """Stands for a layer whose weights cannot take an adapter in, such as a quantized one: it gets a hook."""


@pytest.fixture(params=["folded", "hooked"])
def way(request, monkeypatch):
    """Both ways in which a chain becomes part of a model."""
    if request.param == "hooked":
        real = chain_module.base_model

        def hooked(*args):
            model = real(*args)
            for module in model.modules():
                if type(module) is torch.nn.Linear:
                    module.__class__ = Other
            return model

        monkeypatch.setattr(chain_module, "base_model", hooked)
    return request.param


@pytest.mark.parametrize("settings", STACKS.values(), ids=STACKS)
def test_chain_equals_peft_stack(base, link, chained, settings, way):
    links = [link(seed, **each) for seed, each in enumerate(settings)]
    policy = load_policy(*chained(*links), device="cpu")
    assert any(hasattr(module, "chain_a") for module in policy.model.modules()) is (way == "hooked")
    plain = logits(base_model(base.path / "model", "cpu"))
    for reference in (peft_stack(base, links), merged(base, links)):
        torch.testing.assert_close(logits(policy.model), logits(reference), atol=1e-5, rtol=1e-5)
    assert (logits(policy.model) - plain).abs().max() > 0.1  # the adapters do something
    wanted = [adapter.lora_alpha / adapter.r for adapter in peft_stack(base, links).peft_config.values()]
    assert list(policy.scales) == wanted


def test_in_16_bits_the_adapters_are_not_rounded_into_the_weights(base, link, chained, monkeypatch):
    links = [link(1), link(2)]
    exact = logits(merged(base, links))
    real = chain_module.base_model
    monkeypatch.setattr(chain_module, "base_model", lambda *args: real(*args).to(torch.bfloat16))
    policy = load_policy(*chained(*links), device="cpu")
    weights = dict(real(base.path / "model", "cpu").named_parameters())
    for name, value in policy.model.named_parameters():
        assert torch.equal(value, weights[name].to(torch.bfloat16))
    error, size = (logits(policy.model).float() - exact).abs().max(), exact.abs().max()
    assert error < 0.05 * size


def test_rank_stabilised_scaling_equals_peft(base, link, chained, way):
    links = [link(7, use_rslora=True)]
    policy = load_policy(*chained(*links), device="cpu")
    torch.testing.assert_close(logits(policy.model), logits(peft_stack(base, links)), atol=1e-5, rtol=1e-5)


def test_adapter_on_a_head_that_is_tied_to_the_embeddings_leaves_those_alone(base, link, chained):
    links = [link(1, targets=["q_proj", "lm_head"])]
    policy = load_policy(*chained(*links), device="cpu")
    torch.testing.assert_close(logits(policy.model), logits(peft_stack(base, links)), atol=1e-5, rtol=1e-5)


def test_new_adapter_off_is_the_chain_and_on_adds_to_it(base, link, chained, way):
    from peft import LoraConfig, get_peft_model

    first, second = link(1), link(2)
    policy = load_policy(*chained(first), device="cpu")
    torch.manual_seed(0)
    model = get_peft_model(policy.model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.testing.assert_close(logits(model), logits(peft_stack(base, [first])), atol=1e-5, rtol=1e-5)
    model.load_adapter(second.path / "model" / "adapter", adapter_name="second")
    model.set_adapter("second")
    torch.testing.assert_close(logits(model), logits(peft_stack(base, [first, second])), atol=1e-5, rtol=1e-5)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(peft_stack(base, [first])), atol=1e-5, rtol=1e-5)


def test_loaded_chain_is_frozen_and_keeps_the_base_s_parameters(link, chained, way):
    policy = load_policy(*chained(link(1), link(2)), device="cpu")
    assert not any(parameter.requires_grad for parameter in policy.model.parameters())
    assert not policy.model.training
    assert not any("chain_" in name for name in policy.model.state_dict())


def test_model_json_round_trip_keeps_order_and_fields(bench, base, link, chained):
    last, _ = chained(link(1), link(2), link(3))
    chain = Chain.read(last)
    assert [ref.stage for ref in chain.adapters] == ["link1", "link2", "link3"]
    copy = bench.folder("copy")
    (copy / "model").mkdir()
    chain.write(copy / "model")
    assert Chain.read(Artifact("x", "sft", "x", copy, "d")) == chain
    assert chain.base["artifact"] == base.id and chain.special_tokens == {"bos": None, "eos": 2, "pad": 0}


def test_extend_leaves_the_upstream_chain_alone(base, link):
    upstream, item = Chain.read(base), link(1)
    longer = extend(upstream, "s", item.id, item.path / "model" / "adapter", "lora", 4)
    assert upstream.adapters == [] and longer.adapters[0].digest == file_digest(
        item.path / "model" / "adapter" / "adapter_model.safetensors"
    )


def test_changed_adapter_weights_are_refused(link, chained):
    last, lineage = chained(link(1), link(2))
    weights = lineage[Chain.read(last).adapters[0].artifact].path / "model" / "adapter" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(StoreError, match=r"not the adapter that the chain was trained on.*--force link1"):
        load_policy(last, lineage, device="cpu")


def test_missing_link_is_named(link, chained):
    last, lineage = chained(link(1), link(2))
    gone = Chain.read(last).adapters[0].artifact
    with pytest.raises(StoreError, match=f"{gone}, which is not upstream"):
        load_policy(last, {k: v for k, v in lineage.items() if k != gone}, device="cpu")


@pytest.mark.parametrize("drift", ["template", "vocabulary", "special"])
def test_tokenizer_drift_is_refused(bench, base, link, chained, drift):
    last, lineage = chained(link(1))
    folder = bench.folder("drifted")
    shutil.copytree(base.path / "model", folder / "model")
    if drift == "template":
        from stages.models.chain import load_tokenizer

        tokenizer = load_tokenizer(folder / "model")
        tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>\n", "<|im_end|>")
        tokenizer.save_pretrained(folder / "model")
    else:
        path = folder / "model" / "tokenizer.json"
        raw = json.loads(path.read_text())
        vocab = raw["model"]["vocab"]
        if drift == "vocabulary":
            vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
            path.write_text(json.dumps(raw))
        else:
            config = folder / "model" / "tokenizer_config.json"
            config.write_text(json.dumps(json.loads(config.read_text()) | {"pad_token": "<|im_end|>"}))
    other = Artifact(base.id, "base", "base", folder, "d")
    with pytest.raises(StoreError, match=r"tokenizer or chat template .* is not the recorded one"):
        load_policy(last, lineage | {base.id: other}, device="cpu")


def test_adapter_of_another_base_is_refused(bench, base, link, chained):
    item = link(1)
    config = item.path / "model" / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "0123456789abcdef"}))
    with pytest.raises(StoreError, match=r"trained on base 0123456789abcdef"):
        load_policy(*chained(item), device="cpu")


def test_adapter_for_layers_that_the_base_lacks_is_refused(bench, base, link, chained):
    from safetensors.torch import load_file, save_file

    item = link(1)
    weights = item.path / "model" / "adapter" / "adapter_model.safetensors"
    save_file({k.replace("layers.1.", "layers.9."): v for k, v in load_file(weights).items()}, weights)
    with pytest.raises(StoreError, match=r"layers that the base does not have: .*layers\.9"):
        load_policy(*chained(item), device="cpu")


def test_what_is_not_plain_lora_is_refused(base, link):
    item = link(1, use_dora=True)
    weights = item.path / "model" / "adapter" / "adapter_model.safetensors"
    ref = AdapterRef("link1", item.id, file_digest(weights), "lora", 4)
    with pytest.raises(StoreError, match=r"more than LoRA matrices"):
        adapter_weights(item, ref, base.id)


def test_published_adapter_names_its_base_by_artifact_and_loads_in_peft(sft, base):
    config = json.loads((sft.artifact.path / "model" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base.id
    assert str(sft.artifact.path) not in json.dumps(config)
    policy = load_policy(sft.artifact, {base.id: base}, device="cpu")
    torch.testing.assert_close(logits(policy.model), logits(peft_stack(base, [sft.artifact])), atol=1e-5, rtol=1e-5)
