"""Every probe passes on what is sound and fires on what is broken in the way that it watches for."""

import math
from dataclasses import replace

import pytest
import torch

from pipeline.errors import DataError, StageFailed
from stages.kernels import step
from stages.models.chain import base_model, load_policy
from stages.models.chat import IGNORE, Example, chat_example, text_example
from stages.training import probes


@pytest.fixture
def policy(sft, base):
    """A policy with one upstream adapter, one's own to break."""
    return load_policy(sft.artifact, {base.id: base}, device="cpu")


def adapted(net, **settings):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    return get_peft_model(net, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **settings))


def before(policy):
    return probes.next_token_logits(policy.model, policy.tokenizer)


# -- template and tokens ------------------------------------------------------------------------------------------
def test_template_probe(policy):
    assert probes.template_equals_upstream(policy).passed
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace("<|im_end|>\n", "<|im_end|>")
    assert not probes.template_equals_upstream(policy).passed


def test_template_probe_passes_on_another_spelling(policy):
    policy.tokenizer.chat_template = "{# same #}" + policy.tokenizer.chat_template
    assert probes.template_equals_upstream(policy).passed


def test_trained_tokens_probe():
    sound, empty = Example([1, 2], [IGNORE, 2]), Example([1, 2], [IGNORE, IGNORE])
    assert probes.trained_tokens([sound, sound], "rows").passed
    for broken in ([sound, empty], []):
        probe = probes.trained_tokens(broken, "rows")
        assert not probe.passed and probe.error is DataError and "rows" in probe.detail


def test_bos_probe(policy):
    tokenizer = policy.tokenizer
    assert probes.one_bos(tokenizer, [Example([9, 9], [9, 9])]).passed  # no BOS at all in this vocabulary
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    bos = tokenizer.bos_token_id
    assert probes.one_bos(tokenizer, [Example([bos, 5, bos], [IGNORE, 5, bos])]).passed
    probe = probes.one_bos(tokenizer, [Example([bos, bos, 5], [IGNORE, IGNORE, 5]), Example([bos, 5], [IGNORE, 5])])
    assert not probe.passed and probe.detail.startswith("1 of 2 rows")


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_eos_probe_against_a_collator_that_masks_padding_by_value(policy, pad_is_eos):
    from transformers import DataCollatorForLanguageModeling
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as Sound

    tokenizer = policy.tokenizer
    if pad_is_eos:
        tokenizer.pad_token = tokenizer.eos_token
    turns = [{"role": "user", "content": "May I?"}, {"role": "assistant", "content": "Yes."}]
    example = chat_example(tokenizer, turns, 64)
    rows = [{"input_ids": example.ids, "labels": example.labels}] * 2
    sound = Sound(pad_token_id=tokenizer.pad_token_id)(rows)["labels"]
    assert probes.eos_is_trained(tokenizer, sound, 2).passed
    naive = DataCollatorForLanguageModeling(tokenizer, mlm=False)([{"input_ids": r["input_ids"]} for r in rows])
    assert probes.eos_is_trained(tokenizer, naive["labels"], 2).passed != pad_is_eos
    masked = sound.masked_fill(sound == tokenizer.eos_token_id, IGNORE)
    assert not probes.eos_is_trained(tokenizer, masked, 2).passed


# -- what the model computes --------------------------------------------------------------------------------------
def test_probes_of_the_start_pass_with_a_fresh_adapter(policy):
    reference = before(policy)
    model = adapted(policy.model)
    assert probes.starts_at_input(model, policy.tokenizer, reference).passed
    assert probes.reference_is_input(model, policy.tokenizer, reference).passed


def test_an_adapter_that_does_not_start_at_zero_is_seen_but_the_reference_is_sound(policy):
    reference = before(policy)
    model = adapted(policy.model, init_lora_weights=False)
    assert not probes.starts_at_input(model, policy.tokenizer, reference).passed
    assert probes.reference_is_input(model, policy.tokenizer, reference).passed


def test_a_lost_chain_is_seen_by_both(policy, base):
    """The trap of stacked adapters: with the chain gone, `adapter off` means the bare base."""
    reference = before(policy)
    model = adapted(base_model(base.path / "model", "cpu"))
    assert not probes.starts_at_input(model, policy.tokenizer, reference).passed
    assert not probes.reference_is_input(model, policy.tokenizer, reference).passed


def test_trls_own_stack_has_the_bare_base_as_its_reference_and_the_probe_sees_it(policy, base, sft):
    """Upstream as an ordinary PEFT adapter, which is what the frameworks do: switching adapters off loses it too."""
    from peft import PeftModel

    reference = before(policy)
    stack = PeftModel.from_pretrained(base_model(base.path / "model", "cpu"), sft.artifact.path / "model" / "adapter")
    assert probes.starts_at_input(stack, policy.tokenizer, reference).passed
    assert not probes.reference_is_input(stack, policy.tokenizer, reference).passed


def test_probing_leaves_the_mode_of_the_model(policy):
    model = adapted(scoring(policy.model, "trl"), lora_dropout=0.5)
    for mode in (True, False):
        model.train(mode)
        probes.next_token_logits(model, policy.tokenizer)
        probes.packed_equals_unpacked(model, documents(policy), collator(policy))
        assert model.training is mode


@pytest.mark.parametrize(
    ("loss", "passed"), [(math.log(2), True), (math.log(2) + 5e-4, True), (0.7, False), (0.0, False), (math.nan, False)]
)
def test_log_2_probe(loss, passed):
    assert probes.loss_is_log_2(loss, torch.float32).passed is passed


def test_half_precision_is_given_more_room():
    assert not probes.loss_is_log_2(0.75, torch.float32).passed
    assert probes.loss_is_log_2(0.75, torch.bfloat16).passed


# -- packing ------------------------------------------------------------------------------------------------------
def documents(policy):
    texts = ["Keep the notice of the licence.", "You may copy and share the work.", "Give the source code."]
    return [example for text in texts for example in text_example(policy.tokenizer, text, 64)]


def collator(policy, **settings):
    """TRL's collator as SFTTrainer makes it for packed rows."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(pad_token_id=policy.tokenizer.pad_token_id, padding_free=True, **settings)


def scoring(model, name):
    """The model as a trainer leaves it: with TRL's head, and Journeyman's step above it if that is asked for."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model)
    assert step.install(model, name).startswith(name)
    return model


@pytest.mark.parametrize("name", step.STEPS)
def test_packing_probe_passes_with_reset_positions(policy, name):
    probe = probes.packed_equals_unpacked(scoring(policy.model, name), documents(policy), collator(policy))
    assert probe.passed and "loss of 3 documents" in probe.detail


@pytest.mark.parametrize("name", step.STEPS)
def test_packing_probe_fires_when_positions_are_not_reset(policy, name):
    def leaky(rows):
        """A collator that takes the packed row for one document."""
        return collator(policy)([{k: v for k, v in row.items() if k != "seq_lengths"} for row in rows])

    assert not probes.packed_equals_unpacked(scoring(policy.model, name), documents(policy), leaky).passed


@pytest.mark.parametrize("name", step.STEPS)
def test_packing_probe_fires_when_attention_ignores_the_positions(policy, name):
    def one_mask(rows):
        """An explicit mask of ones makes attention plain causal over the whole row, whatever the positions say."""
        batch = collator(policy)(rows)
        return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}

    assert not probes.packed_equals_unpacked(scoring(policy.model, name), documents(policy), one_mask).passed


# -- what is done with them ---------------------------------------------------------------------------------------
def test_require_records_all_and_raises_the_first_failure(bench, base):
    ctx = bench.context("x", None, {}, {})
    good = probes.Probe("good", True, "fine")
    bad = probes.Probe("bad", False, "3 of 4 rows", "Do this")
    probes.require(ctx, [good])
    with pytest.raises(StageFailed, match=r"probe bad failed: 3 of 4 rows\. Do this"):
        probes.require(ctx, [replace(good, name="second"), bad, replace(bad, name="worse")])
    assert [(p["name"], p["passed"]) for p in ctx.sections["probes"]] == [
        ("good", True), ("second", True), ("bad", False), ("worse", False),
    ]  # fmt: skip


START = ["template_equals_upstream", "trained_tokens", "one_bos", "eos_is_trained", "starts_at_input"]
START += ["reference_is_input"]
EXPECTED = {
    "sft": [*START, "packed_equals_unpacked"],
    "domain": [*START, "packed_equals_unpacked"],
    "dpo": [*START, "loss_is_log_2"],
}


@pytest.mark.parametrize("stage", EXPECTED)
def test_each_stage_runs_its_probes_and_records_them(stage, request):
    sections = request.getfixturevalue(stage).sections
    assert [probe["name"] for probe in sections["probes"]] == EXPECTED[stage]
    assert all(probe["passed"] for probe in sections["probes"])
