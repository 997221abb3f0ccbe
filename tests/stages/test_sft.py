"""`sft`: which rows and tokens are trained, what is recorded, and what is refused."""

import pytest
import torch

from pipeline.errors import ConfigError, DataError
from pipeline.schema import PeftConfig
from stages.models.chain import load_policy
from stages.models.chat import chat_example
from stages.sft import Sft


@pytest.fixture
def seen(monkeypatch):
    """The batches that the trainer's collator made."""
    from trl import SFTTrainer

    batches = []
    real = SFTTrainer.training_step

    def step(self, model, inputs, *args, **kwargs):
        batches.append({key: value.clone() for key, value in inputs.items() if hasattr(value, "clone")})
        return real(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "training_step", step)
    return batches


def test_counts_in_the_manifest_add_up(sft, chat_data, tokenizer):
    from stages.data import artifact

    examples = [chat_example(tokenizer, row["messages"], 64) for row in artifact.rows(chat_data)]
    data = sft.sections["data"]
    assert data["rows_kept"] == data["rows_available"] == 24 and data["rows_rejected"] == 0
    assert data["tokens"] == sum(len(e.ids) for e in examples)
    assert data["trained_tokens"] == sum(e.trained for e in examples)
    assert data["rows_cut"] == 0
    (part,) = data["mixture"].values()
    assert part == {"asked": 1.0, "realised": 1.0, "tokens": data["tokens"], "trained_tokens": data["trained_tokens"], "rows": 24, "epochs": 1.0}  # fmt: skip # noqa: E501


@pytest.mark.parametrize("packing", [True, False])
def test_the_trainer_trains_exactly_the_answers(bench, base, chat_data, tokenizer, seen, packing):
    """Every trained token of every row reaches the loss once in an epoch, EOS among them; no prompt token does."""
    from stages.data import artifact

    bench.train("sft", base, {"train": chat_data}, packing=packing)
    examples = [chat_example(tokenizer, row["messages"], 64) for row in artifact.rows(chat_data)]
    expected = sorted(label for e in examples for label in e.labels if label != -100)
    trained = sorted(int(i) for batch in seen for i in batch["labels"].flatten() if i != -100)
    assert trained == expected
    assert ("attention_mask" in seen[0]) is not packing and ("position_ids" in seen[0]) is packing


def test_training_moves_the_model_towards_the_answers(sft, base, chat_data, tokenizer):
    from stages.data import artifact

    def loss(policy):
        total = 0.0
        for row in artifact.rows(chat_data):
            e = chat_example(tokenizer, row["messages"], 64)
            with torch.no_grad():
                total += float(policy.model(input_ids=torch.tensor([e.ids]), labels=torch.tensor([e.labels])).loss)
        return total

    before = loss(load_policy(base, {}, device="cpu"))
    assert loss(load_policy(sft.artifact, {base.id: base}, device="cpu")) < before


def test_rows_without_a_trained_token_are_counted_and_left_out(bench, base, rows):
    long = {"id": "long", "messages": [{"role": "user", "content": "copy the work " * 60}, {"role": "assistant", "content": "Yes."}]}  # fmt: skip # noqa: E501
    data = bench.data("chat", [*rows.chat(6), long])
    recorded = bench.train("sft", base, {"train": data}).sections["data"]
    assert (recorded["rows_kept"], recorded["rows_rejected"], recorded["rows_available"]) == (6, 1, 7)
    assert recorded["rejected_because"] == {"no trained token left after max_length": 1}


def test_cut_rows_are_counted_among_the_kept(bench, base, rows, tokenizer):
    asked = rows.chat(8)
    lengths = [len(chat_example(tokenizer, row["messages"], 512).ids) for row in asked]
    limit = sorted(lengths)[4]
    recorded = bench.train("sft", base, {"train": bench.data("chat", asked)}, max_length=limit).sections["data"]
    assert recorded["rows_cut"] == sum(length > limit for length in lengths) > 0
    assert recorded["rows_kept"] == 8


def test_when_no_row_is_left_the_data_is_refused(bench, base, rows):
    with pytest.raises(DataError, match=r"0 rows of chat, .*Raise max_length"):
        bench.train("sft", base, {"train": bench.data("chat", rows.chat(6))}, max_length=8)


def test_max_tokens_draws_a_random_part_under_the_seed(bench, base, chat_data, sft):
    def part(**settings):
        made = bench.train("sft", base, {"train": chat_data}, train={"max_steps": 1}, **settings)
        return made.sections["data"]

    whole = sft.sections["data"]["tokens"]
    half = part(max_tokens=whole // 2)
    assert whole // 2 - 64 < half["tokens"] <= whole // 2 and half["rows_kept"] < 24
    (mixture,) = half["mixture"].values()
    assert mixture["epochs"] == round(half["rows_kept"] / 24, 3)
    assert part(max_tokens=whole // 2) == half
    assert part(max_tokens=whole // 2, seed=7)["trained_tokens"] != half["trained_tokens"]


def test_conversations_of_several_turns_train_every_answer(bench, base, rows, tokenizer, seen):
    data = bench.data("chat", rows.chat(4, turns=2))
    bench.train("sft", base, {"train": data}, max_length=256, packing=False)
    ends = sum(int((batch["labels"] == tokenizer.eos_token_id).sum()) for batch in seen)
    assert ends == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {}}, r"data\.train: name the data set of conversations"),
        ({"data": {"train": "a", "general": "b"}}, r"data\.general: kind 'sft' reads no such data set"),
        ({"train": {"packing": True}}, r"train\.packing is not yours to set: set the stage's `packing`"),
        ({"train": {"beta": 0.1}}, r"train\.beta: SFTConfig has no such field"),
        ({"peft": PeftConfig(method="dora")}, r"peft\.method='dora' is unknown"),
        ({"max_tokens": -1}, r"max_tokens=-1"),
        ({"batch_size": 0}, r"batch_size=0"),
    ],
)
def test_what_cannot_work_is_found_before_anything_runs(bench, settings, message):
    config = bench.config("sft", **{"data": {"train": "chat"}, **settings})
    with pytest.raises(ConfigError, match=message):
        Sft().validate(config)
    Sft().validate(bench.config("sft", data={"train": "chat"}))
