"""Reward models: the same scores, losses and gradients as TRL's RewardTrainer, with common beginnings computed once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_toys import ARCHITECTURES, SIZES, USUAL, check_equal, ids, lora, outcome, tokenizer

from pipeline.errors import StageFailed
from stages.kernels import ends
from stages.kernels import step as steps


def judge(architecture="llama", seed=0, **changes):
    """A frozen reward model with random weights."""
    import transformers

    name, own = ARCHITECTURES[architecture]
    settings = {"vocab_size": len(tokenizer()), "pad_token_id": tokenizer().pad_token_id, "num_labels": 1}
    config = getattr(transformers, f"{name}Config")(**{**settings, **SIZES, **own, **changes})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    for parameter in model.parameters():
        parameter.data.mul_(4 if parameter.dim() > 1 else 1)
    return model.requires_grad_(False)


def pair(seed, prompt, chosen, rejected):
    start = ids(seed, prompt)
    return {"chosen_ids": start + ids(seed + 100, chosen), "rejected_ids": start + ids(seed + 200, rejected)}


PAIRS = [pair(1, 20, 7, 9), pair(2, 12, 1, 6), pair(3, 9, 8, 4), pair(4, 15, 5, 5), pair(5, 3, 11, 2)]


def trainer(model, step, pairs=PAIRS, **flags):
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    margins = [{**row, "margin": 0.5 * i} for i, row in enumerate(pairs)] if flags.pop("margins", False) else pairs
    args = RewardConfig(**{**USUAL, "per_device_train_batch_size": len(pairs), **flags})
    torch.manual_seed(1)
    made = RewardTrainer(
        model, args=args, train_dataset=Dataset.from_list(margins), processing_class=tokenizer(),
        peft_config=lora(task_type="SEQ_CLS", modules_to_save=["score"]),
    )  # fmt: skip
    made.said = steps.install(model, step)
    return made


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_equal_trls(architecture):
    fast = trainer(judge(architecture), "fast")
    assert fast.said.startswith("fast (")
    check_equal(outcome(fast), outcome(trainer(judge(architecture), "trl")))


@pytest.mark.parametrize("flags", [{"margins": True}, {"center_rewards_coefficient": 0.1}])
def test_options_of_the_loss_equal_trls(flags):
    check_equal(outcome(trainer(judge(), "fast", **flags)), outcome(trainer(judge(), "trl", **flags)))


def test_recomputed_activations_change_nothing():
    check_equal(
        outcome(trainer(judge(), "fast", activation_checkpointing=True)),
        outcome(trainer(judge(), "fast")),
    )


def test_the_head_of_the_scores_is_trained():
    """The layer that scores is no part of the adapter, and still gets its gradient."""
    _, gradients, _ = outcome(trainer(judge(), "fast"))
    assert any("score" in name for name in gradients)


@given(st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=30), min_size=1, max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_batch_gets_the_scores_of_the_plain_model(sequences, left):
    """Equal sequences, one inside another, and padding on either side are included."""
    plain, fast = judge(), judge()
    steps.install(fast, "fast")
    width, pad = max(map(len, sequences)), tokenizer().pad_token_id
    rows = [
        ([pad] * (width - len(s)) + s, [0] * (width - len(s)) + [1] * len(s)) if left
        else (s + [pad] * (width - len(s)), [1] * len(s) + [0] * (width - len(s)))
        for s in sequences
    ]  # fmt: skip
    batch = {"input_ids": torch.tensor([r[0] for r in rows]), "attention_mask": torch.tensor([r[1] for r in rows])}
    with torch.no_grad():
        torch.testing.assert_close(fast(**batch).logits, plain(**batch).logits, rtol=1e-4, atol=1e-4)


def test_equal_sequences_get_equal_scores_to_the_last_bit():
    """Or which of them is preferred would be a toss of rounding."""
    fast = judge()
    steps.install(fast, "fast")
    for length in (5, 11):  # below SHARED_FROM, and above
        rows = torch.tensor([ids(seed, length) for seed in range(9)] * 2)
        with torch.no_grad():
            one, other = fast(input_ids=rows, attention_mask=torch.ones_like(rows)).logits.chunk(2)
        assert torch.equal(one, other) and one.unique().numel() == 9
    assert ends.lay_out([[5, 6], [7], [5, 6]], torch.device("cpu")).last.tolist() == [1, 2, 1]


def test_what_comes_after_the_last_token_that_is_no_padding_is_not_judged():
    """Where EOS is the padding token, Transformers reads the token before it; so do we."""
    plain, fast = judge(), judge()
    steps.install(fast, "fast")
    pad = tokenizer().pad_token_id
    batch = {"input_ids": torch.tensor([[5, 6, 7, pad, pad]]), "attention_mask": torch.tensor([[1, 1, 1, 1, 0]])}
    with torch.no_grad():
        torch.testing.assert_close(fast(**batch).logits, plain(**batch).logits)


def test_a_padding_token_inside_a_sequence_is_read():
    """Where EOS is the padding token, the turns before the last end with it."""
    plain, fast = judge(), judge()
    steps.install(fast, "fast")
    pad = tokenizer().pad_token_id
    batch = {"input_ids": torch.tensor([[5, pad, 6, 7, pad]]), "attention_mask": torch.tensor([[1, 1, 1, 1, 0]])}
    with torch.no_grad():
        torch.testing.assert_close(fast(**batch).logits, plain(**batch).logits)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=9))
def test_groups_hold_every_sequence_once_and_what_they_share_is_shared(sequences):
    found = list(ends.groups(sequences))
    assert sorted(member for members, _ in found for member in members) == list(range(len(sequences)))
    for members, shared in found:
        assert len({tuple(sequences[member][:shared]) for member in members}) == 1


def test_the_prompt_of_a_pair_is_run_once():
    prompt = list(range(10, 30))
    layout = ends.lay_out([[*prompt, 1, 2, 3], [*prompt, 4, 5]], torch.device("cpu"))
    assert layout.ids.shape == (1, len(prompt) + 5)
    assert layout.last.tolist() == [22, 24]


def test_a_common_system_turn_does_not_keep_a_pair_apart():
    """Two pairs with one beginning of 10 tokens: each pair shares its own longer prompt."""
    system, first, second = [7] * 10, [8] * 20, [9] * 20
    sequences = [system + first + [1], system + second + [1], system + first + [2], system + second + [2]]
    assert [sorted(members) for members, _ in ends.groups(sequences)] == [[0, 2], [1, 3]]


def test_the_trainer_runs_each_prompt_once():
    """What PEFT's wrapper and the trainer pass on besides tokens does not keep the fast step from them."""
    made, run = trainer(judge(), "fast"), []
    made.model.get_base_model().get_input_embeddings().register_forward_hook(lambda _, given, __: run.append(given[0]))
    outcome(made)
    both = [len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in PAIRS]
    assert len(run) == 1
    assert run[0].numel() < sum(both) - sum(prompt - 1 for prompt in (20, 12, 9, 15))


def test_a_call_with_more_than_tokens_is_refused():
    fast = judge()
    steps.install(fast, "fast")
    with pytest.raises(StageFailed, match="called with labels, "):
        fast(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([1.0]))
