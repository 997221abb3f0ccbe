"""The acceptance bar: in float32 the fast step's losses and gradients are those of TRL's real trainers, within 1e-5."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_toys import (
    ARCHITECTURES,
    PAIRS,
    ROWS,
    WINDOW,
    check_equal,
    dpo_trainer,
    lora,
    net,
    outcome,
    pair,
    row,
    sft_trainer,
)

from stages.kernels.step import install
from stages.models.chain import AdapterRef, AdapterWeights, attach
from stages.training.arguments import CHOICES

DOCUMENTS = [row(seed, length) for seed, length in enumerate((23, 9, 31, 14, 2))]  # every token is trained


def both(make, *args, model=net, **flags):
    """(fast, trl): the outcome of one batch under either step, from the same weights."""
    fast, trl = (make(model(), step, *args, **flags) for step in ("fast", "trl"))
    assert fast.said.startswith("fast (fused: 14 ") and trl.said == "trl (asked for)"
    return outcome(fast), outcome(trl)


# -- every architecture -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("work", ["sft, padded", "sft, packed", "domain", "dpo"])
def test_every_architecture(architecture, work):
    """Grouped heads, windows shorter than the sequences, tied and untied heads, capped logits."""
    make, given, flags = {
        "sft, padded": (sft_trainer, ROWS, {}),
        "sft, packed": (sft_trainer, ROWS, {"packed_to": 40}),
        "domain": (sft_trainer, DOCUMENTS, {"packed_to": 48}),
        "dpo": (dpo_trainer, PAIRS, {}),
    }[work]
    check_equal(*both(make, given, model=lambda: net(architecture), **flags))


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "mistral", "gemma3"])
def test_the_window_of_a_toy_is_in_effect(architecture):
    """Or the test above would say nothing about windows."""
    wide = {"sliding_window": 100}
    near, far = (outcome(dpo_trainer(net(architecture, **changes), "fast"))[0] for changes in ({}, wide))
    assert abs(near - far) > 1e-4
    assert min(len(p["prompt_ids"]) + len(p["chosen_ids"]) for p in PAIRS) >= WINDOW


@st.composite
def drawn(draw):
    """(architecture, shape of its attention, pairs): windows from 2 tokens on, answers from 1 on, alike or not."""
    key_heads, groups = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2, 3]))
    shape = {
        "num_attention_heads": key_heads * groups, "num_key_value_heads": key_heads,
        "hidden_size": 36, "head_dim": draw(st.sampled_from([4, 6, 10])), "tie_word_embeddings": draw(st.booleans()),
    }  # fmt: skip
    architecture = draw(st.sampled_from(sorted(ARCHITECTURES)))
    if "llama" not in architecture:
        shape["sliding_window"] = draw(st.integers(2, 20))
    pairs = []
    for seed in range(draw(st.integers(1, 4))):
        chosen, rejected = draw(st.integers(1, 12)), draw(st.integers(1, 12))
        alike = draw(st.integers(0, min(chosen, rejected)))
        pairs.append(pair(draw(st.integers(0, 2)) + 10 * seed, draw(st.integers(1, 20)), chosen, rejected, alike))
    return architecture, shape, pairs


@settings(max_examples=10, derandomize=True, deadline=None)
@given(drawn())
def test_any_shape_and_any_lengths(case):
    """A gradient that is nothing but rounding (one token sees nobody but itself) is held to the largest one."""
    architecture, shape, pairs = case
    (loss, found, _), (wanted, expected, _) = both(
        dpo_trainer, pairs, model=lambda: net(architecture, large=1, **shape)
    )
    largest = max(float(grad.abs().max()) for grad in expected.values())
    assert abs(loss - wanted) <= 1e-5 * abs(wanted) and found.keys() == expected.keys()
    for name, grad in expected.items():
        assert (found[name] - grad).abs().max() <= 1e-5 * max(float(grad.abs().max()), largest / 50), name


def test_dft_loss():
    check_equal(*both(sft_trainer, loss_type="dft"))


def test_longer_batches_than_rows_at_once(monkeypatch):
    from stages.kernels import head

    monkeypatch.setattr(head, "ROWS_AT_ONCE", 3)
    check_equal(*both(dpo_trainer))


# -- packing ------------------------------------------------------------------------------------------------------
EVERY_LABEL = [row(seed, length, first=0) for seed, length in enumerate((23, 9, 31, 14, 2))]  # the first tokens' too


@pytest.mark.parametrize("step", ["fast", "trl"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rows", [ROWS, DOCUMENTS, EVERY_LABEL], ids=["answers", "documents", "every label"])
def test_packed_rows_have_the_loss_and_gradients_of_padded_ones(rows, architecture, step):
    """No document sees another, each starts at position 0, none's last token predicts the next one's first."""
    packed = sft_trainer(net(architecture), step, rows, packed_to=48)
    assert len(packed.train_dataset) < len(rows)
    check_equal(outcome(packed), outcome(sft_trainer(net(architecture), step, rows)), bound=1e-4)


@pytest.mark.parametrize("step", ["fast", "trl"])
def test_a_document_in_the_same_sequence_changes_nothing(step):
    """Only the second one is trained: whatever stands before it, its loss is the same up to rounding."""
    untrained = [{"input_ids": row(seed, 17)["input_ids"], "labels": [-100] * 17} for seed in (1, 2)]
    losses = [outcome(sft_trainer(net(), step, [before, row(3, 12)], packed_to=40))[0] for before in untrained]
    alone = outcome(sft_trainer(net(), step, [row(3, 12)]))[0]
    assert abs(losses[0] - losses[1]) <= 1e-6 and abs(losses[0] - alone) <= 1e-4


@pytest.mark.parametrize("step", ["fast", "trl"])
def test_documents_in_one_sequence_without_their_borders_have_another_loss(step):
    """Or the tests above would say nothing."""
    joined = {key: [i for each in DOCUMENTS for i in each[key]] for key in ("input_ids", "labels")}
    leaky, apart = (outcome(sft_trainer(net(), step, rows))[0] for rows in ([joined], DOCUMENTS))
    assert abs(leaky - apart) > 1e-2


# -- preference losses --------------------------------------------------------------------------------------------
SMOOTHED = {"exo_pair": 0.05, "robust": 0.1, "aot": 0.1, "aot_unpaired": 0.1}


@pytest.mark.parametrize("loss", CHOICES["DPOConfig", "loss_type"])
def test_every_preference_loss(loss):
    flags = {"discopop_tau": 1.0}  # its default of 0.05 multiplies one unit of rounding in a log-probability by 20
    check_equal(*both(dpo_trainer, loss_type=[loss], label_smoothing=SMOOTHED.get(loss, 0.0), **flags))


@pytest.mark.parametrize("divergence", CHOICES["DPOConfig", "f_divergence_type"])
def test_every_divergence(divergence):
    check_equal(*both(dpo_trainer, f_divergence_type=divergence, f_alpha_divergence_coef=0.5))


@pytest.mark.parametrize(
    "flags",
    [{"ld_alpha": 0.3}, {"use_weighting": True}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}],
    ids=lambda flags: ", ".join(flags),
)
def test_other_options_of_the_loss(flags):
    check_equal(*both(dpo_trainer, **flags))


@pytest.mark.parametrize("ld_alpha", [None, 0.3])
def test_a_precomputed_reference(ld_alpha, tmp_path):
    flags = {"precompute_ref_log_probs": True, "ld_alpha": ld_alpha}
    fast = dpo_trainer(net(), "fast", cache=tmp_path / "reference.jsonl", **flags)
    trl = dpo_trainer(net(), "trl", **flags)
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        found, wanted = fast.train_dataset[name], trl.train_dataset[name]
        torch.testing.assert_close(torch.tensor(found[:]), torch.tensor(wanted[:]), rtol=1e-5, atol=1e-5)
    check_equal(outcome(fast), outcome(trl))


@pytest.mark.parametrize(
    "pairs",
    [
        [pair(1, 9, 1, 1)],
        [pair(1, 1, 8, 3)],
        [pair(1, 12, 6, 9, alike=5)],
        [pair(1, 12, 5, 9, alike=5)],
        [pair(1, 7, 4, 5), {**pair(2, 7, 6, 3), "prompt_ids": pair(1, 7, 4, 5)["prompt_ids"]}],
    ],
    ids=["answers of one token", "a prompt of one token", "answers alike at first", "one answer begins the other",
         "four answers to one prompt"],
)  # fmt: skip
def test_shapes_of_pairs(pairs):
    check_equal(*both(dpo_trainer, pairs))


# -- what is below the adapter ------------------------------------------------------------------------------------
def chained(dtype=torch.float32, layers=2):
    """A model with two frozen adapters below the one to be trained, added by hooks."""
    model = net(dtype=torch.bfloat16)  # where `attach` cannot take them into the weights
    generator = torch.Generator().manual_seed(7)
    adapters = []
    for rank in (2, 3):
        found = {}
        for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"):
            for layer in range(layers):
                full = f"model.layers.{layer}.{name}"
                out, into = model.get_submodule(full).weight.shape
                found[full] = (torch.randn(rank, into, generator=generator) / 3,
                               torch.randn(out, rank, generator=generator) / 3)  # fmt: skip
        adapters.append(AdapterWeights(AdapterRef("s", "a", "d", "lora", rank), found))
    attach(model, adapters)
    assert hasattr(model.model.layers[0].mlp.down_proj, "chain_a")
    return model.to(dtype)


@pytest.mark.parametrize("make", [sft_trainer, dpo_trainer])
def test_a_chain_of_frozen_adapters(make):
    fast, trl = both(make, model=chained)
    check_equal(fast, trl)
    assert abs(fast[0] - outcome(make(net().bfloat16().float(), "fast"))[0]) > 1e-4, "the chain does nothing"


@pytest.fixture(scope="module")
def quantized(base):
    from stages.models.quantization import load_quantized

    return lambda: load_quantized(base, "cpu", None)


@pytest.mark.parametrize("make", [sft_trainer, dpo_trainer])
def test_a_base_of_four_bits(make, quantized):
    check_equal(*both(make, model=quantized))


def test_a_chain_on_a_base_of_four_bits(quantized):
    def model():
        found, generator = quantized(), torch.Generator().manual_seed(7)
        layers = {
            f"model.layers.{i}.self_attn.o_proj": tuple(torch.randn(*shape, generator=generator) / 4
                                                        for shape in ((3, 64), (64, 3)))
            for i in range(2)
        }  # fmt: skip
        attach(found, [AdapterWeights(AdapterRef("s", "a", "d", "qlora", 3), layers)])
        return found

    check_equal(*both(dpo_trainer, model=model))


def above_another(make, step):
    """A trainer whose model has a second PEFT adapter on below the trained one: frozen, with a scale of its own."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    trainer = make(net(), "trl")
    torch.manual_seed(5)
    trainer.model.add_adapter("below", lora(r=3, lora_alpha=7))
    for name, parameter in trainer.model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and ".below." not in name)
    for layer in trainer.model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer._active_adapter = ["below", "default"]
    trainer.said = install(trainer.model.get_base_model(), step)
    return trainer


@pytest.mark.parametrize("make", [sft_trainer, dpo_trainer])
def test_a_frozen_adapter_below_the_trained_one(make):
    fast, trl = (above_another(make, step) for step in ("fast", "trl"))
    assert fast.said.startswith("fast (fused: 14 ")
    check_equal(outcome(fast), outcome(trl))
    assert abs(outcome(fast)[0] - outcome(make(net(), "fast"))[0]) > 1e-4, "the frozen adapter does nothing"


@pytest.mark.parametrize("changes", [{"use_rslora": True}, {"target_modules": ["q_proj", "v_proj"]}], ids=str)
def test_other_adapters(changes):
    fast, trl = (outcome(dpo_trainer(net(), step, adapter=lora(**changes))) for step in ("fast", "trl"))
    check_equal(fast, trl)


# -- whole runs ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [sft_trainer, dpo_trainer])
def test_with_checkpointing(make):
    """Activations computed a second time in the backward pass see the same tree."""
    seen, trainers = [], []
    for step in ("fast", "trl"):
        trainer = make(net(), step, activation_checkpointing=True)
        trainer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        trainer.model.get_base_model().model.layers[0].mlp.register_forward_pre_hook(lambda *_: seen.append(1))
        trainers.append(trainer)
    fast, trl = outcome(trainers[0]), outcome(trainers[1])
    check_equal(fast, trl)
    check_equal(fast, outcome(make(net(), "fast")))
    assert len(seen) == {sft_trainer: 4, dpo_trainer: 6}[make]  # twice for each step, and once for the reference


@pytest.mark.parametrize("make", [sft_trainer, dpo_trainer])
def test_training_takes_the_same_course(make):
    """Five real optimizer steps, clipping included."""
    courses = []
    for step in ("fast", "trl"):
        flags = {"max_steps": 5, "logging_steps": 1, "learning_rate": 1e-3, "save_strategy": "no"}
        trainer = make(net(), step, per_device_train_batch_size=2, **flags)
        trainer.train()
        courses.append([(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry])
    assert len(courses[0]) == 5 and courses[0][0][0] != courses[0][-1][0]
    torch.testing.assert_close(torch.tensor(courses[0]), torch.tensor(courses[1]), rtol=1e-3, atol=1e-4)


# -- 16 bits ------------------------------------------------------------------------------------------------------
def distance(found, truth):
    """Of all gradients together, relative to the length of the true ones."""
    gaps = sum(float((found[name].float() - truth[name]).square().sum()) for name in truth)
    return (gaps / sum(float(grad.square().sum()) for grad in truth.values())) ** 0.5


def rounded(make, step, seed, dtype):
    """Gradients with weights of 16 bits, computed in `dtype`; the adapter is small beside them, as trained ones are."""
    wide = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "large": 1}
    trainer = make(net(dtype=torch.bfloat16, seed=seed, **wide).to(dtype), step)
    for name, parameter in trainer.model.named_parameters():
        parameter.data.mul_(0.05 if "lora_B" in name else 1)
    return outcome(trainer)[1]


def test_in_16_bits_no_further_from_the_truth_than_trl():
    """The truth: the same weights, computed in float32 by TRL. Summed over seeds: each alone is mostly chance."""
    total = {"fast": 0.0, "trl": 0.0}
    for seed in range(5):
        for make in (sft_trainer, dpo_trainer):
            truth = rounded(make, "trl", seed, torch.float32)
            for step in total:
                total[step] += distance(rounded(make, step, seed, torch.bfloat16), truth)
    assert 0 < total["fast"] <= 1.03 * total["trl"]  # 3%: what chance leaves of ten sums
