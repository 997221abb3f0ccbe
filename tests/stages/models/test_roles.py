"""One base in several roles: each computes what its own chain says, and the base is in memory once."""

import gc

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.schema import ModelConfig, PeftConfig
from stages.models import chain, roles
from stages.models.adapters import peft_config
from stages.models.chain import AdapterRef, load_policy
from stages.models.chat import PROBE, prompt_ids


def opened(bench, policy, judges=None, **more):
    adapter = peft_config(PeftConfig(r=4, alpha=8.0))
    settings = {"device": "cpu", "method": "lora", "cache": bench.root / "cache", **more}
    return roles.open_roles(policy, judges or {}, dict(bench.made), adapter, **settings)


def logits(policy):
    ids = torch.tensor([prompt_ids(policy.tokenizer, PROBE)])
    with torch.no_grad():
        return policy.model(ids, use_cache=False).logits[0, -1]


def alone(bench, artifact):
    return logits(load_policy(artifact, dict(bench.made), device="cpu"))


@pytest.fixture
def disturbed():
    """disturbed(opened) -> the new adapter changes something."""

    def change(found):
        torch.manual_seed(3)
        for name, parameter in found.model.named_parameters():
            if ".default." in name:
                parameter.data.normal_(std=0.1)
        return found

    return change


def test_every_role_is_what_its_chain_says(bench, sft, domain, dpo, disturbed):
    """Chains that part after the first adapter: the judge's second is not the policy's."""
    found = disturbed(opened(bench, domain.artifact, {"judge": dpo.artifact, "root": sft.artifact}))
    assert found.adapters["root"] == () and len(found.adapters["reference"]) == 1 and len(found.adapters["judge"]) == 2
    for role, artifact in (("reference", domain), ("judge", dpo), ("root", sft)):
        with found.playing(role):
            assert torch.allclose(logits(found.policy), alone(bench, artifact.artifact), atol=1e-4), role
    assert not torch.allclose(logits(found.policy), alone(bench, domain.artifact), atol=1e-2)  # the new adapter is on


def test_playing_a_role_ends_with_it(bench, domain, disturbed):
    found = disturbed(opened(bench, domain.artifact))
    before = logits(found.policy)
    with pytest.raises(RuntimeError), found.playing("reference"):
        assert not torch.equal(logits(found.policy), before)
        raise RuntimeError
    assert torch.equal(logits(found.policy), before)


def test_only_the_new_adapter_is_trained(bench, domain, dpo):
    found = opened(bench, domain.artifact, {"judge": dpo.artifact})
    trained = {name for name, p in found.model.named_parameters() if p.requires_grad}
    assert trained and all(".default." in name for name in trained)
    found.add_trained("value", None, peft_config(PeftConfig(r=2)))
    trained = {name.split(".")[-2] for name, p in found.model.named_parameters() if p.requires_grad}
    assert trained == {"default", "value"}


def test_a_further_adapter_switches_nothing(bench, base, domain, dpo):
    """The policy keeps the adapters that it does not share with a judge on an earlier model."""
    found = opened(bench, domain.artifact, {"judge": base})
    before = logits(found.policy)
    assert len(found.adapters["reference"]) == 2 and before.isfinite().all()
    name = "model.layers.0.mlp.up_proj"
    layer = found.policy.model.get_submodule(name)
    found.add_frozen("judge_0", {name: (torch.ones(2, layer.in_features), torch.ones(layer.out_features, 2))})
    assert torch.equal(logits(found.policy), before)
    found.add_trained("value", None, peft_config(PeftConfig(r=2)))
    assert torch.equal(logits(found.policy), before)


def embeddings(model):
    """Storages in memory as large as the model's embeddings or its largest layer: one for each copy of the base."""
    size = model.get_input_embeddings().weight.numel()
    gc.collect()
    tensors = (t for t in gc.get_objects() if isinstance(t, torch.Tensor) and t.device.type == "cpu")
    return {t.untyped_storage().data_ptr() for t in tensors if t.numel() == size and t.dim() == 2}


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_four_roles_need_one_base(bench, base, domain, dpo, monkeypatch, method):
    """No second model is loaded, and no second storage of its size exists, also with 4-bit weights."""
    loaded = []
    for name in ("base_model", "load_quantized"):
        real = getattr(chain, name)
        monkeypatch.setattr(chain, name, lambda *a, real=real, name=name: loaded.append(name) or real(*a))
    before = embeddings(chain.base_model(base.path / "model", "cpu"))
    loaded.clear()
    found = opened(bench, domain.artifact, {"reward": dpo.artifact}, method=method)
    found.add_trained("value", None, peft_config(PeftConfig(r=2)))
    found.adapters["value"] = ("value",)
    assert loaded == ["load_quantized" if method == "qlora" else "base_model"]
    parameters = list(found.policy.model.parameters())
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == len(parameters)
    assert len(embeddings(found.policy.model) - before) <= 1
    for role in ("policy", "reference", "value", "reward"):
        with found.playing(role):
            assert logits(found.policy).isfinite().all()


def test_another_base_is_refused(bench, domain):
    from pipeline.registry import kind

    config = kind("base").config(kind="base", model=ModelConfig(source="toy", dtype="bfloat16"))
    other = bench.run(bench.context("other", config, {}, {})).artifact
    with pytest.raises(ConfigError, match=r"judge: its base is toy, .* one base serves all roles"):
        opened(bench, domain.artifact, {"judge": other})


@pytest.mark.parametrize("chains, shared", [(["ab", "abc"], 2), (["abc", "axc"], 1), (["a", "b"], 0), (["", "ab"], 0)])
def test_what_chains_share_is_how_they_begin(chains, shared):
    found = [[AdapterRef("s", "i", digest, "lora", 4) for digest in links] for links in chains]
    assert roles.shared_links(found) == shared
