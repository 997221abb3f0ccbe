"""The probes of a reward model: passed as things are, failed by the fault that each is there for."""

import pytest
import torch

from pipeline.schema import PeftConfig
from stages.models.adapters import peft_config
from stages.models.chain import load_policy
from stages.rewards import classifier, probes
from stages.rewards.trainer import as_dataset, reward_trainer

IDS = [5, 6, 7, 8, 2]


@pytest.fixture
def made(domain):
    """(the adapted classifier, the input policy's hidden state at the end of IDS)."""
    policy = load_policy(domain.artifact, domain.ctx.lineage, device="cpu")
    hidden = probes.last_hidden(policy, IDS)
    model = classifier.adapted(classifier.as_classifier(policy).model, peft_config(PeftConfig(r=4, alpha=8.0)))
    classifier.draw(model, 1)
    return model, hidden


def test_a_fresh_member_starts_at_the_input_policy(made):
    assert probes.starts_at_input(made[0], IDS, made[1]).passed


def test_an_adapter_that_changes_something_does_not(made):
    model, hidden = made
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    found = probes.starts_at_input(model, IDS, hidden)
    assert not found.passed and "with the new adapter" in found.detail


def test_a_chain_that_is_not_all_there_does_not(made, base):
    """The bare base in place of the input policy."""
    found = probes.starts_at_input(made[0], IDS, probes.last_hidden(load_policy(base, {}, device="cpu"), IDS))
    assert not found.passed


@pytest.fixture
def trainer(made, tokenizer, tmp_path):
    from trl import RewardConfig

    def make(*pairs):
        args = RewardConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False)
        return reward_trainer(made[0], args, as_dataset(pairs, [(1.0, 0.0, 1.0)] * len(pairs)), tokenizer)

    return make


def test_sequences_are_judged_at_their_eos(trainer):
    found = trainer((IDS, [5, 6, 2]), ([9, 10, 11, 12, 2], [9, 2]))
    probe = probes.eos_is_judged(found, 2)
    assert probe.passed and "4 of 4 sequences end in EOS" in probe.detail


def test_a_sequence_without_eos_is_told(trainer):
    assert not probes.eos_is_judged(trainer((IDS, [5, 6])), 2).passed


def test_padding_with_eos_is_told(trainer):
    """What TRL does for a tokenizer whose pad token is EOS: the score would be that of the token before."""
    made = trainer((IDS, [5, 6, 2]), ([9, 10, 11, 12, 2], [9, 2]))
    made.data_collator.pad_token_id = made.model.config.get_text_config().pad_token_id = 2
    found = probes.eos_is_judged(made, 2)
    assert not found.passed and "Padding hides the end" in found.fix


def test_a_reloaded_member_scores_the_same():
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])
    assert probes.survives_reload([one, other], [one, other + 1e-4], torch.float32).passed
    assert not probes.survives_reload([one, other], [one, other + torch.tensor([0.0, 0.1])], torch.float32).passed


def test_on_a_base_of_16_bits_rounding_is_no_fault_and_padding_with_eos_still_is(domain, tokenizer, tmp_path):
    from trl import RewardConfig

    policy = load_policy(domain.artifact, domain.ctx.lineage, device="cpu")
    policy.model.to(torch.bfloat16)
    model = classifier.adapted(classifier.as_classifier(policy).model, peft_config(PeftConfig(r=4, alpha=8.0)))
    classifier.draw(model, 1)
    args = RewardConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False)
    pairs = [(IDS, [5, 6, 2]), ([9, 10, 11, 12, 2], [9, 2])]
    made = reward_trainer(model, args, as_dataset(pairs, [(1.0, 0.0, 1.0)] * 2), tokenizer)
    assert probes.eos_is_judged(made, 2).passed
    made.data_collator.pad_token_id = made.model.config.get_text_config().pad_token_id = 2
    assert not probes.eos_is_judged(made, 2).passed
