"""A published reward model: read back whole, refused when a file is another one, and scored as PEFT alone would."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import StoreError
from stages.models.chain import base_model, load_policy
from stages.models.chat import answer_ids, prompt_ids
from stages.rewards.model import raw_scores, read_members, score, switched_on


@pytest.fixture
def copied(reward, tmp_path):
    """The artifact in a folder of its own, to be damaged."""
    shutil.copytree(reward.artifact.path, tmp_path / "copy")
    return replace(reward.artifact, path=tmp_path / "copy")


@pytest.fixture(scope="module")
def policy(reward):
    return load_policy(reward.artifact, reward.ctx.lineage, device="cpu")


@pytest.fixture(scope="module")
def sequences(rows, tokenizer):
    made = [prompt_ids(tokenizer, row["prompt"]) + answer_ids(tokenizer, row["chosen"]) for row in rows.pairs(6)]
    return [*made, made[0][:5]]


def test_members_have_what_was_trained(reward):
    members = read_members(reward.artifact)
    assert len(members) == 2
    for number, member in enumerate(members):
        folder = reward.artifact.path / "model" / f"adapter_{number}"
        tensors = load_file(folder / "adapter_model.safetensors")
        assert set(member.layers) == {
            name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            for name in tensors
            if "lora_A" in name
        }
        for name, (a, b) in member.layers.items():
            assert torch.equal(a, tensors[f"base_model.model.{name}.lora_A.weight"])
            assert torch.equal(b, 2 * tensors[f"base_model.model.{name}.lora_B.weight"])  # alpha 8 over rank 4
        assert torch.equal(member.weight, load_file(folder / "score.safetensors")["score.weight"][0])
        assert member.weight.dtype == torch.float32 and (member.method, member.r) == ("lora", 4)


def test_rewards_are_raw_scores_with_the_stated_zero_and_scale(reward):
    member = read_members(reward.artifact)[0]
    raw = torch.tensor([[member.mean, member.mean + member.scale], [member.mean - 2 * member.scale, 0.0]])
    assert member.reward(raw)[0].tolist() == pytest.approx([0.0, 1.0])
    assert float(member.reward(raw)[1, 0]) == pytest.approx(-2.0, abs=1e-5)


@pytest.mark.parametrize("name", ["adapter_1/adapter_model.safetensors", "adapter_1/score.safetensors"])
def test_another_file_than_the_recorded_one_is_refused(copied, name):
    path = copied.path / "model" / name
    tensors = load_file(path)
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first] + 1e-3}, path)
    with pytest.raises(StoreError, match=r"is not the .* that .* trained.*; rebuild with --force reward"):
        read_members(copied)
    path.unlink()
    with pytest.raises(StoreError, match=r"safetensors is missing; rebuild with --force reward"):
        read_members(copied)


def test_an_adapter_for_another_base_is_refused(copied):
    path = copied.path / "model" / "adapter_0" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "other"}))
    with pytest.raises(StoreError, match="trained on base other, but the chain's base is"):
        read_members(copied)


def test_a_policy_is_no_reward_model(sft):
    with pytest.raises(StoreError, match="there is no reward model in it; give a stage of kind reward"):
        read_members(sft.artifact)


def test_scores_are_those_of_peft_alone_with_the_head(reward, base, sft, domain, policy, sequences):
    """Independent: PEFT stacks the published adapters on the base, each sequence goes through by itself."""
    from peft import PeftModel

    folders = [made.artifact.path / "model" / "adapter" for made in (sft, domain)]
    found = score(policy, read_members(reward.artifact), sequences)
    for number in (0, 1):
        own = reward.artifact.path / "model" / f"adapter_{number}"
        model = PeftModel.from_pretrained(base_model(base.path / "model", "cpu"), folders[0], adapter_name="a0")
        model.load_adapter(folders[1], adapter_name="a1")
        model.load_adapter(own, adapter_name="own")
        model.base_model.set_adapter(["a0", "a1", "own"])
        weight = load_file(own / "score.safetensors")["score.weight"][0]
        with torch.no_grad():
            hidden = [
                model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
                for ids in sequences
            ]
        assert found[number].tolist() == pytest.approx([float(h @ weight) for h in hidden], abs=2e-3)
    assert (found[0] - found[1]).abs().max() > 0.1


def test_scores_do_not_depend_on_the_batch(policy, reward, sequences):
    members = read_members(reward.artifact)
    whole = score(policy, members, sequences)
    assert whole.shape == (2, len(sequences)) and whole.dtype == torch.float32
    torch.testing.assert_close(score(policy, members, sequences, micro_batch=2), whole, rtol=1e-4, atol=1e-4)
    turned = score(policy, members, sequences[::-1])
    torch.testing.assert_close(turned.flip(1), whole, rtol=1e-4, atol=1e-4)


def test_the_policy_leaves_as_it_came(policy, reward, sequences):
    weight = torch.ones(64)
    before = raw_scores(policy.model.base_model, weight, sequences)
    with pytest.raises(RuntimeError), switched_on(policy.model, read_members(reward.artifact)[0]):
        assert not torch.equal(raw_scores(policy.model.base_model, weight, sequences), before)
        raise RuntimeError
    assert torch.equal(raw_scores(policy.model.base_model, weight, sequences), before)


def test_layers_that_the_base_does_not_have_are_named(policy, reward):
    member = read_members(reward.artifact)[0]
    strange = replace(member, layers={"model.layers.9.mlp.up_proj": next(iter(member.layers.values()))})
    with (
        pytest.raises(StoreError, match=r"does not have: model\.layers\.9\.mlp\.up_proj"),
        switched_on(policy.model, strange),
    ):
        pass
