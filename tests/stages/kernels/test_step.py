"""The fast step in place of TRL's fused head: the same answer to the same call, and nothing else changed."""

import math
from types import SimpleNamespace

import pytest
import torch
from kernel_toys import PAIRS, dpo_trainer, gradients, lora, net, outcome, pair, sft_trainer, tokenizer
from torch.nn.functional import cross_entropy

from pipeline.errors import ConfigError, StageFailed
from pipeline.schema import Runtime
from stages.kernels import layout, step
from stages.models.chat import IGNORE

LENGTH = 12
FUSED = "fast (fused: 14 low-rank layers, 2 QKVs, 2 MLPs, 5 norms)"
FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def model(**changes):
    """A toy with a random adapter, as TRL patches it; the same every time."""
    from peft import get_peft_model
    from trl.trainer.utils import add_fused_lm_head

    plain = net(**changes)
    add_fused_lm_head(plain, outputs=FIELDS)
    torch.manual_seed(1)
    return get_peft_model(plain, lora())


def fast(**changes):
    found = model(**changes)
    assert step.install(found.get_base_model(), "fast") == FUSED
    return found


def batch(rows, keep):
    """`rows` sequences of unequal length, right-padded; `keep(row, position)` says what is supervised."""
    torch.manual_seed(rows)
    ids = torch.randint(3, len(tokenizer()), (rows, LENGTH))
    attention, labels = torch.ones_like(ids), ids.clone()
    for row in range(rows):
        attention[row, LENGTH - row :] = 0
        for position in range(LENGTH):
            if not attention[row, position] or not keep(row, position):
                labels[row, position] = IGNORE
    return {"input_ids": ids, "attention_mask": attention, "labels": labels}


MASKS = {
    "all": lambda row, position: True,
    "some": lambda row, position: (row + position) % 3 == 0,
    "answers": lambda row, position: position >= 7,
    "one": lambda row, position: row == 0 and position == 5,
    "none": lambda row, position: False,
    "first only": lambda row, position: position == 0,  # never predicted: nothing is before it
    "none in one row": lambda row, position: row != 1,
}


def plain_loss(found, inputs):
    """Sum over supervised tokens of -log p, by full logits."""
    logits = found(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), inputs["labels"][:, 1:].flatten(), ignore_index=IGNORE, reduction="sum")


# -- the answer ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mask", MASKS)
def test_every_field_and_gradient_equals_trl_and_plain_logits(mask, rows):
    inputs = batch(rows, MASKS[mask])
    ours, theirs, plain = fast(), model(), model()
    out, reference = ours(**inputs, fused_lm_head=True), theirs(**inputs, fused_lm_head=True)
    for field in ("loss", *FIELDS[:-1]):
        torch.testing.assert_close(getattr(out, field), getattr(reference, field), atol=1e-5, rtol=1e-5)
    assert torch.equal(out.label_mask, reference.label_mask)
    assert torch.equal(out.is_top1, reference.is_top1.bool())
    total = plain_loss(plain, inputs)
    torch.testing.assert_close(-out.log_probs.sum(), total, atol=1e-4, rtol=1e-5)
    for loss in (-out.log_probs.sum(), -reference.log_probs.sum(), total):
        loss.backward()
    found = gradients(ours)
    for other in (gradients(theirs), gradients(plain)):
        assert found.keys() == other.keys() and found
        for name in found:
            torch.testing.assert_close(found[name], other[name], atol=1e-4, rtol=1e-4)


def test_the_loss_is_divided_by_what_the_trainer_counted_as_trls_is():
    inputs = batch(3, MASKS["some"])
    for count in (7, torch.tensor(100)):
        losses = [m(**inputs, num_items_in_batch=count, fused_lm_head=True).loss for m in (fast(), model())]
        torch.testing.assert_close(*losses)


def test_labels_that_are_not_the_tokens_themselves_are_what_is_predicted():
    inputs = batch(3, MASKS["some"])
    inputs["labels"] = inputs["labels"].where(inputs["labels"] == IGNORE, inputs["labels"] // 2)
    ours, theirs = (found(**inputs, fused_lm_head=True).log_probs for found in (fast(), model()))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shared_from", [1, 8])
def test_equal_answers_to_one_prompt_get_equal_numbers_to_the_last_bit(monkeypatch, shared_from):
    """Or which of them has the higher reward would be a toss of rounding: an accuracy of their pair that is not 0."""
    monkeypatch.setattr(layout, "SHARED_FROM", shared_from)
    pairs = [pair(seed, 5, 9, 7) for seed in range(4)]
    pairs += [{**each, "rejected_ids": each["chosen_ids"]} for each in pairs]
    found, trl = (outcome(dpo_trainer(net(), name, pairs)) for name in ("fast", "trl"))
    assert found[2]["rewards/accuracies"] == trl[2]["rewards/accuracies"] <= 0.5


def test_padding_may_stand_on_the_left():
    inputs = batch(3, MASKS["answers"])
    turned = {name: value.clone() for name, value in inputs.items()}
    for name in turned:
        for row in range(3):
            turned[name][row] = turned[name][row].roll(row)  # as many as it has of padding
    found = fast()
    one, other = (found(**given, fused_lm_head=True).log_probs.sum(1) for given in (inputs, turned))
    torch.testing.assert_close(one, other)


def test_without_a_supervised_token_the_loss_is_a_differentiable_zero():
    found = fast()
    out = found(**batch(2, MASKS["none"]), fused_lm_head=True)
    out.loss.backward()
    assert float(out.loss) == 0 and all(not grad.any() for grad in gradients(found).values())


def test_only_supervised_tokens_are_scored(monkeypatch):
    """The product with the vocabulary is made for these and no others."""
    from stages.kernels import head

    found, seen, real = fast(), [], head.score
    monkeypatch.setattr(head, "score", lambda hidden, *a, **k: seen.append(len(hidden)) or real(hidden, *a, **k))
    inputs = batch(3, MASKS["answers"])
    found(**inputs, fused_lm_head=True)
    assert seen == [int((inputs["labels"][:, 1:] != IGNORE).sum())]


def test_a_prompt_is_computed_once_for_its_answers_and_padding_never():
    seen = []
    trainer = dpo_trainer(net(), "fast")
    trainer.model.get_base_model().model.layers[0].mlp.register_forward_hook(
        lambda module, args, out: seen.append(args[0].shape[1])
    )
    outcome(trainer)
    # The last token of an answer predicts nothing; two answers that differ in no other are one.
    answers = [{tuple(pair[side][:-1]) for side in ("chosen_ids", "rejected_ids")} for pair in PAIRS]
    assert set(seen) == {sum(len(pair["prompt_ids"]) for pair in PAIRS) + sum(len(a) for both in answers for a in both)}


def test_a_short_prompt_is_not_shared(monkeypatch):
    """Documents that begin with BOS are no answers to it: attention between them all would be computed in vain."""
    monkeypatch.setattr(layout, "SHARED_FROM", 8)
    batch = [
        layout.Sequence(row, 0, [1] * n + [5 + row, 6, 7], [n, n + 1, n + 2], [5 + row, 6, 7])
        for n in (1, 8) for row in range(2)
    ]  # fmt: skip
    families = layout.lay_out(batch, torch.device("cpu")).tree.families
    assert [(family.prompt, family.answers) for family in families] == [(3, ()), (3, ()), (8, (2, 2))]


def test_packed_positions_are_honoured():
    """Two documents in one row, positions reset: the same log-probabilities as apart."""
    found, inputs = fast(), batch(1, MASKS["all"])
    ids, labels = inputs["input_ids"], inputs["labels"].clone()
    labels[0, 5] = IGNORE  # the second document's first token has nothing before it
    positions = torch.tensor([[*range(5), *range(LENGTH - 5)]])
    together = found(input_ids=ids, labels=labels, position_ids=positions, fused_lm_head=True).log_probs.sum()
    apart = [found(input_ids=i, labels=i, fused_lm_head=True).log_probs.sum() for i in (ids[:, :5], ids[:, 5:])]
    torch.testing.assert_close(together, sum(apart), atol=1e-4, rtol=1e-5)


# -- the reference ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rows", [1, 3])
def test_adapter_off_is_honoured(rows):
    inputs, found, plain = batch(rows, MASKS["some"]), fast(), model()
    on = found(**inputs, fused_lm_head=True).log_probs
    with found.disable_adapter(), plain.disable_adapter(), torch.no_grad():
        off = found(**inputs, fused_lm_head=True).log_probs
        torch.testing.assert_close(-off.sum(), plain_loss(plain, inputs), atol=1e-4, rtol=1e-5)
    assert (on - off).abs().max() > 1e-2


def test_the_reference_is_not_the_policy():
    """A step that ignores that the adapter is off makes them one, and the loss of DPO sits at ln 2 without an error."""
    loss = float(outcome(dpo_trainer(net(), "fast"))[0])
    assert abs(loss - math.log(2)) > 1e-3
    assert abs(loss - float(outcome(dpo_trainer(net(), "trl"))[0])) < 1e-5


# -- all that is not the trainer's call ---------------------------------------------------------------------------
def test_other_calls_go_where_they_went():
    found, plain, inputs = fast(), model(), batch(2, MASKS["some"])
    torch.testing.assert_close(found(**inputs).logits, plain(**inputs).logits)
    torch.testing.assert_close(found(**inputs).loss, plain(**inputs).loss)
    ids = inputs["input_ids"][:1]
    texts = [m.generate(input_ids=ids, max_new_tokens=4, do_sample=False) for m in (found, plain)]
    assert torch.equal(*texts)


def test_installed_twice_is_installed_once():
    found = fast().get_base_model()
    layer = found.model.layers[0].mlp.down_proj
    before = found.forward, layer.forward
    assert step.install(found, "fast") == FUSED
    assert (found.forward, layer.forward) == before


def test_trls_own_step_is_left_alone():
    found = model().get_base_model()
    before = found.forward
    assert step.install(found, "trl") == "trl (asked for)" and found.forward == before


def test_an_input_that_the_fast_step_does_not_read_is_an_error():
    """Better than another loss: TRL may pass more than it does today."""
    found, inputs = fast(), batch(2, MASKS["some"])
    with pytest.raises(StageFailed, match=r"token_type_ids.*set step: trl"):
        found(**inputs, token_type_ids=inputs["labels"], fused_lm_head=True)
    found(**inputs, token_type_ids=None, fused_lm_head=True)


def test_noise_on_embeddings_is_an_error():
    """NEFTune's noise differs for each row of a batch, and by its padded length; there are no such rows here."""
    trainer = sft_trainer(net(), "fast", neftune_noise_alpha=5.0, max_steps=1, save_strategy="no")
    with pytest.raises(StageFailed, match=r"neftune_noise_alpha.*set step: trl"):
        trainer.train()


# -- where it would be wrong or is not checked, TRL's whole step stays ----------------------------------------------
def untouched(found, before):
    from peft.tuners.lora import LoraLayer

    layers = [module for module in found.modules() if isinstance(module, LoraLayer)]
    plain = all("forward" not in vars(layer) for layer in layers)
    return found.forward == before and plain and found.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lora_dropout": 0.1}, "trl (dropout of the adapter: every token draws its own)"),
        ({"use_dora": True}, "trl (a variant of LoRA (DoraLinearVariant))"),
    ],
    ids=["dropout", "DoRA"],
)
def test_adapters_that_draw_or_norm_keep_trls_step(changes, reason):
    trainer = sft_trainer(net(), "fast", adapter=lora(**changes))
    trl = sft_trainer(net(), "trl", adapter=lora(**changes))
    assert trainer.said == reason
    assert untouched(trainer.model.get_base_model(), trainer.model.get_base_model().forward)
    losses = []
    for each in (trainer, trl):
        torch.manual_seed(3)
        losses.append(outcome(each)[0])
    assert torch.equal(*losses)


def test_dropout_that_trl_switches_off_does_not_matter():
    assert dpo_trainer(net(), "fast", adapter=lora(lora_dropout=0.1)).said.startswith("fast (fused: 14")
    kept = dpo_trainer(net(), "fast", adapter=lora(lora_dropout=0.1), disable_dropout=False)
    assert kept.said.startswith("trl (dropout")


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=1, n_head=2))


def trained_head():
    found = net()
    found.get_output_embeddings().weight.requires_grad_(True)
    return found


def adapted_head():
    from peft import get_peft_model

    return get_peft_model(net("llama, head of its own"), lora(target_modules=["q_proj", "lm_head"])).get_base_model()


def inside_another_model():
    """A text model that a larger one owns: images would come in beside the tokens."""
    found = net("gemma3")
    text = found.config
    found.config = SimpleNamespace(model_type="gemma3", get_text_config=lambda: text, _attn_implementation="sdpa")
    return found


DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
REASONS = {
    "another architecture": (gpt2, "the architecture gpt2 has not been checked; known are llama"),
    "a text model inside another": (inside_another_model, "the architecture gemma3 has not been checked"),
    "a trained head": (trained_head, "the output layer is trained"),
    "an adapted head": (adapted_head, "the output layer is trained, adapted or missing"),
    "attention dropout": (lambda: net(attention_dropout=0.1), "attention dropout"),
    "attention both ways": (lambda: net("gemma3", use_bidirectional_attention=True), "both directions"),
    "positions by length": (lambda: net(rope_parameters=DYNAMIC), "depend on the length of the batch"),
}


@pytest.mark.parametrize("case", REASONS)
def test_models_that_keep_trls_step(case):
    make, reason = REASONS[case]
    found = make()
    before = found.forward
    said = step.install(found, "fast")
    assert said.startswith("trl (") and reason in said and untouched(found, before)


def test_a_layer_that_cannot_be_fused_is_named_and_the_step_stays_fast():
    trainer = sft_trainer(net(), "fast", adapter=lora(target_modules=["q_proj", "embed_tokens"]))
    assert trainer.said == "fast (fused: 2 low-rank layers, 5 norms; 1 not: Embedding is no plain linear layer)"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (("quick", "plain"), "step=quick: use one of fast, trl"),
        (("trl", "triton"), "runtime.kernels=triton: only step: fast reads it, and step is trl; take it out"),
    ],
)
def test_a_step_that_is_not_known_and_kernels_without_it_are_refused(said, reason):
    asked, kernels = said
    with pytest.raises(ConfigError, match=reason):
        step.check(asked, step.STEPS, Runtime(kernels=kernels))
