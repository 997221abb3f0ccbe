"""Our trainer against TRL's own: the same loss and gradients where TRL has the column, and what it lacks by hand."""

import copy
import math

import pytest
import torch
from datasets import Dataset

from pipeline.schema import PeftConfig
from stages.models.adapters import peft_config
from stages.models.chain import load_policy
from stages.rewards import classifier
from stages.rewards.trainer import COLUMNS, as_dataset, reward_trainer

PAIRS = [([5, 6, 7, 8, 9, 10, 2], [5, 6, 7, 11, 2]), ([12, 13, 14, 2], [12, 13, 15, 16, 17, 2])]
JUDGED = [(1.0, 0.5, 1.0), (0.7, 0.0, 0.4)]  # target, margin, weight


@pytest.fixture
def model(domain):
    policy = load_policy(domain.artifact, domain.ctx.lineage, device="cpu")
    made = classifier.adapted(classifier.as_classifier(policy).model, peft_config(PeftConfig(r=4, alpha=8.0)))
    classifier.draw(made, 1)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return made


def arguments(tmp_path, **settings):
    from trl import RewardConfig

    return RewardConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, **settings)


def outcome(trainer, rows):
    """(loss, gradients, metrics) of one batch."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    loss.backward()
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    return float(loss.detach()), grads, {name: values[-1] for name, values in trainer._metrics["train"].items()}


def test_certain_pairs_with_margins_are_trls_own_loss(model, tokenizer, tmp_path):
    from trl import RewardTrainer

    certain = [(1.0, 0.5, 1.0), (1.0, 0.0, 1.0)]
    data = as_dataset(PAIRS, certain)
    args = arguments(tmp_path, center_rewards_coefficient=0.02)
    theirs = RewardTrainer(
        model, args=args, processing_class=tokenizer,
        train_dataset=Dataset.from_list([
            {"chosen_ids": c, "rejected_ids": r, "margin": m} for (c, r), (_, m, _) in zip(PAIRS, certain, strict=True)
        ]),
    )  # fmt: skip
    wanted = outcome(theirs, [theirs.train_dataset[i] for i in range(2)])
    ours = reward_trainer(model, args, data, tokenizer)
    found = outcome(ours, [ours.train_dataset[i] for i in range(2)])
    assert found[0] == pytest.approx(wanted[0], rel=1e-6) and found[2] == pytest.approx(wanted[2])
    for name, grad in found[1].items():
        torch.testing.assert_close(grad, wanted[1][name], rtol=1e-5, atol=1e-7)


def test_targets_and_weights_enter_by_the_formula(model, tokenizer, tmp_path):
    trainer = reward_trainer(model, arguments(tmp_path), as_dataset(PAIRS, JUDGED), tokenizer)
    loss, _, metrics = outcome(trainer, [trainer.train_dataset[i] for i in range(2)])
    with torch.no_grad():
        scores = [[float(model(input_ids=torch.tensor([ids])).logits) for ids in pair] for pair in PAIRS]
    total = 0.0
    for (chosen, rejected), (t, m, w) in zip(scores, JUDGED, strict=True):
        p = 1 / (1 + math.exp(-(chosen - rejected - m)))
        total -= w * (t * math.log(p) + (1 - t) * math.log(1 - p))
    assert loss == pytest.approx(total / 2, rel=1e-4)
    assert metrics["accuracy"] == sum(c > r for c, r in scores) / 2


def test_every_column_reaches_the_loss(model, tokenizer, tmp_path):
    """The trainer takes columns that it does not know out of the data."""
    trainer = reward_trainer(model, arguments(tmp_path), as_dataset(PAIRS, JUDGED), tokenizer)
    (batch,) = list(trainer.get_train_dataloader())
    assert set(COLUMNS[2:]) <= batch.keys()
    assert sorted(batch["target"].tolist()) == pytest.approx([0.7, 1.0])


def test_padding_is_no_eos(model, tokenizer, tmp_path):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    trainer = reward_trainer(model, arguments(tmp_path), as_dataset(PAIRS, JUDGED), tokenizer)
    ids = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])["input_ids"]
    pad = model.config.get_text_config().pad_token_id
    assert pad != tokenizer.eos_token_id and (ids == pad).sum() == 4 * 7 - 22
    assert (ids == tokenizer.eos_token_id).sum() == 4
