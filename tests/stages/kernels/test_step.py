"""The supervised-rows head against TRL's fused head and against plain logits: same losses, same gradients."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.models.chat import IGNORE
from stages.training import head

LENGTH, VOCABULARY = 12, 300


def model():
    """The toy with a random adapter, as TRL patches it; the same every time."""
    from peft import LoraConfig, get_peft_model
    from trl.trainer.utils import add_fused_lm_head

    from stages.models.sources import toy

    net = toy()[0].requires_grad_(False)
    add_fused_lm_head(net, outputs=("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1"))
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(net, config)


def batch(rows, keep):
    """`rows` sequences of unequal length, right-padded; `keep(row, position)` says what is supervised."""
    torch.manual_seed(rows)
    ids = torch.randint(3, VOCABULARY, (rows, LENGTH))
    attention = torch.ones_like(ids)
    for row in range(rows):
        attention[row, LENGTH - row :] = 0
    labels = ids.clone()
    for row in range(rows):
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


def gradients(net):
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def plain_loss(net, inputs):
    """Sum over supervised tokens of -log p, by full logits."""
    labels = inputs["labels"]
    logits = net(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="sum")


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mask", MASKS)
def test_loss_and_gradients_equal_trl_and_plain_logits(mask, rows):
    inputs = batch(rows, MASKS[mask])
    ours, theirs, plain = model(), model(), model()
    assert head.install(ours.get_base_model(), "cpu") == "supervised rows only"
    out, reference = ours(**inputs, fused_lm_head=True), theirs(**inputs, fused_lm_head=True)
    for field in ("loss", "log_probs", "entropy", "log_sum_sq_probs", "mean_logits"):
        torch.testing.assert_close(getattr(out, field), getattr(reference, field), atol=1e-5, rtol=1e-5)
    assert torch.equal(out.label_mask, reference.label_mask)
    assert torch.equal(out.is_top1.bool(), reference.is_top1.bool())
    total = plain_loss(plain, inputs)
    torch.testing.assert_close(-out.log_probs.sum(), total, atol=1e-5, rtol=1e-5)
    for loss in (-out.log_probs.sum(), -reference.log_probs.sum(), total):
        loss.backward()
    found, expected = gradients(ours), gradients(theirs)
    assert found.keys() == expected.keys() and found
    for other in (expected, gradients(plain)):
        for name in found:
            torch.testing.assert_close(found[name], other[name], atol=1e-5, rtol=1e-5)


def test_without_a_supervised_token_the_loss_is_a_differentiable_zero():
    net = model()
    head.install(net.get_base_model(), "cpu")
    out = net(**batch(2, MASKS["none"]), fused_lm_head=True)
    out.loss.backward()
    assert float(out.loss) == 0 and all(not grad.any() for grad in gradients(net).values())


def test_only_supervised_rows_are_scored(monkeypatch):
    """The reason why the head exists: the product with the vocabulary is made for these rows and no others."""
    net, seen = model(), []
    net.get_output_embeddings().register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape)))
    head.install(net.get_base_model(), "cpu")
    inputs = batch(3, MASKS["answers"])
    net(**inputs, fused_lm_head=True)
    assert seen == [(int((inputs["labels"][:, 1:] != IGNORE).sum()), net.config.vocab_size)]


@pytest.mark.parametrize("rows", [1, 3])
def test_adapter_off_is_honoured(rows):
    inputs = batch(rows, MASKS["some"])
    net, plain = model(), model()
    head.install(net.get_base_model(), "cpu")
    on = net(**inputs, fused_lm_head=True).log_probs
    with net.disable_adapter(), plain.disable_adapter(), torch.no_grad():
        off = net(**inputs, fused_lm_head=True).log_probs
        torch.testing.assert_close(-off.sum(), plain_loss(plain, inputs), atol=1e-5, rtol=1e-5)
    assert (on - off).abs().max() > 1e-2


def test_packed_positions_are_honoured():
    """Two documents in one row, positions reset: the same log-probabilities as apart."""
    net = model()
    head.install(net.get_base_model(), "cpu")
    inputs = batch(1, MASKS["all"])
    ids, labels = inputs["input_ids"], inputs["labels"].clone()
    labels[0, 5] = IGNORE  # the second document's first token has nothing before it
    positions = torch.tensor([[*range(5), *range(LENGTH - 5)]])
    together = net(input_ids=ids, labels=labels, position_ids=positions, fused_lm_head=True).log_probs.sum()
    apart = [net(input_ids=i, labels=i, fused_lm_head=True).log_probs.sum() for i in (ids[:, :5], ids[:, 5:])]
    torch.testing.assert_close(together, sum(apart), atol=1e-4, rtol=1e-5)


def test_other_calls_go_where_they_went(monkeypatch):
    net, plain = model(), model()
    head.install(net.get_base_model(), "cpu")
    inputs = batch(2, MASKS["some"])
    torch.testing.assert_close(net(**inputs).logits, plain(**inputs).logits)
    torch.testing.assert_close(net(**inputs).loss, plain(**inputs).loss)


def test_installed_twice_is_installed_once():
    net = model().get_base_model()
    head.install(net, "cpu")
    once = net.forward
    assert head.install(net, "cpu") == "supervised rows only" and net.forward is once


def trained_head(net):
    net.get_output_embeddings().weight.requires_grad_(True)
    return "cpu"


def softcapped(net):
    net.config.final_logit_softcapping = 30.0
    return "cpu"


@pytest.mark.parametrize(
    ("change", "reason"),
    [(trained_head, "trained"), (softcapped, "changes its logits"), (lambda net: "cuda", "accelerators")],
    ids=["trained head", "soft-capped logits", "another device"],
)
def test_where_it_would_be_wrong_trls_head_stays(change, reason):
    net = model().get_base_model()
    before = net.forward
    said = head.install(net, change(net))
    assert said.startswith("TRL's") and reason in said and net.forward == before
