"""The classifier made of a loaded policy: no second base, the same numbers, a head in float32 that judges EOS."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from stages.kernels import step
from stages.models.adapters import peft_config
from stages.models.chain import Policy, load_policy
from stages.rewards import classifier
from stages.rewards.model import Member, raw_scores

IDS = [[5, 6, 7, 8, 2], [9, 10, 11, 2]]


@pytest.fixture
def policy(domain):
    return load_policy(domain.artifact, domain.ctx.lineage, device="cpu")


def adapted(policy, **settings):
    from pipeline.schema import PeftConfig

    model = classifier.adapted(policy.model, peft_config(PeftConfig(r=4, alpha=6.0, **settings)))
    classifier.draw(model, 1)
    return model


def padded(pad):
    """IDS as one batch, padded on the right with `pad`."""
    return torch.tensor([IDS[0], [*IDS[1], pad]]), torch.tensor([[1] * 5, [1] * 4 + [0]])


def test_the_base_is_there_once(policy):
    """Every tensor but the head is one that the policy has, and the policy's chain is in it."""
    before = {parameter.data_ptr() for parameter in policy.model.parameters()}
    hidden = policy.model.base_model(input_ids=torch.tensor(IDS[:1])).last_hidden_state
    made = classifier.as_classifier(policy)
    assert {name for name, p in made.model.named_parameters() if p.data_ptr() not in before} == {"score.weight"}
    torch.testing.assert_close(made.model.base_model(input_ids=torch.tensor(IDS[:1])).last_hidden_state, hidden)
    assert not any(p.is_meta for p in made.model.parameters()) and made.chain is policy.chain


def test_only_the_adapter_and_the_head_are_trained_and_the_head_has_no_adapter(policy):
    model = adapted(classifier.as_classifier(policy))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 14 + 1
    assert {name for name in trained if "lora_" not in name} == {
        "base_model.model.score.modules_to_save.default.weight"
    }


@pytest.mark.parametrize("taken", ["fast", "trl"])
@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_a_padded_sequence_is_judged_at_its_eos(policy, taken, pad_is_eos):
    """Transformers reads the last token that is not padding: with pad = eos it would be the one before."""
    if pad_is_eos:
        policy.tokenizer.pad_token = policy.tokenizer.eos_token
        policy.model.config.pad_token_id = policy.tokenizer.eos_token_id
    made = classifier.as_classifier(policy)
    model = adapted(made)
    step.install(made.model, taken)
    pad = made.model.config.pad_token_id
    assert pad != policy.tokenizer.eos_token_id
    ids, mask = padded(pad)
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask).logits[:, 0]
        ends = [classifier.trunk(model)(input_ids=torch.tensor([s])).last_hidden_state[0, -1] for s in IDS]
    wanted = torch.stack(ends) @ classifier.head_weight(model)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(raw_scores(classifier.trunk(model), classifier.head_weight(model), IDS), wanted,
                               rtol=1e-4, atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("taken", ["fast", "trl"])
def test_a_base_of_16_bits_has_its_score_in_float32(policy, taken):
    policy.model.to(torch.bfloat16)
    made = classifier.as_classifier(policy)
    model = adapted(made)
    step.install(made.model, taken)
    logits = model(input_ids=torch.tensor(IDS[:1])).logits
    assert logits.dtype == classifier.head_weight(model).dtype == torch.float32
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_a_draw_decides_everything_and_starts_at_the_input_policy(policy):
    model = adapted(classifier.as_classifier(policy))

    def drawn(seed):
        classifier.draw(model, seed)
        return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    first, other, again = drawn(1), drawn(2), drawn(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first if "lora_B" not in name)
    assert all(not first[name].any() for name in first if "lora_B" in name)
    on = model(input_ids=torch.tensor(IDS[:1])).logits
    with model.disable_adapter():
        torch.testing.assert_close(model(input_ids=torch.tensor(IDS[:1])).logits, on)


def test_the_head_is_drawn_so_that_scores_differ_by_about_one(policy):
    model = adapted(classifier.as_classifier(policy))
    drawn = []
    for seed in range(100):
        classifier.draw(model, seed)
        drawn.append(classifier.head_weight(model))
    assert torch.cat(drawn).std() == pytest.approx((1 / 65) ** 0.5, rel=0.05)


def test_a_member_is_switched_to_exactly(policy):
    model = adapted(classifier.as_classifier(policy))
    generator = torch.Generator().manual_seed(0)
    shapes = {name: (m.in_features, m.out_features) for name, m in classifier._layers(model).items()}
    layers = {
        name: (torch.randn(4, i, generator=generator), torch.randn(o, 4, generator=generator) / 10)
        for name, (i, o) in shapes.items()
    }
    member = Member(layers, torch.randn(64, generator=generator), 0.0, 1.0, "lora", 4)
    plain = deepcopy(classifier.trunk(model))
    classifier.load(model, member)
    for name, (a, b) in layers.items():
        layer = model.get_base_model().get_submodule(name)
        x = torch.randn(3, a.shape[1], generator=generator)
        below = plain.get_submodule(name.removeprefix("model.")).base_layer
        torch.testing.assert_close(layer(x), below(x) + x @ a.T @ b.T, rtol=1e-4, atol=1e-4)
    assert torch.equal(classifier.head_weight(model), member.weight)


def test_an_architecture_without_a_classifier_is_refused(policy):
    class Strange(nn.Module):
        base_model_prefix = "model"

        def __init__(self):
            super().__init__()
            self.config = deepcopy(policy.model.config)
            self.base_model = nn.Linear(1, 1)

    from transformers import MambaConfig

    strange = Strange()
    refused = Policy(strange, policy.tokenizer, policy.chain, "cpu")
    with pytest.raises(ConfigError, match="a reward model on llama: its sequence classifier is not built like"):
        classifier.as_classifier(refused)
    strange.config = MambaConfig()
    with pytest.raises(ConfigError, match="a reward model needs a sequence classifier, and mamba has none"):
        classifier.as_classifier(refused)
