"""A DPO trainer whose policy has left its reference, and what its losses are made of, by full logits."""

from types import SimpleNamespace

import pytest
import torch


def log_probabilities(model, prompt, answer):
    """log p of each token of `answer` after `prompt`, float32."""
    ids = torch.tensor([prompt + answer])
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(answer)[:, None])[:, 0]


@pytest.fixture
def moved(bench, domain):
    """moved(rows, **settings) -> .loss and .gradients of one batch of all rows, .pairs: per-token log-probabilities."""
    from stages import dpo
    from stages.training import run

    def make(rows, **settings):
        train = {"precompute_ref_log_probs": True, **settings.pop("train", {})}
        config = bench.config("dpo", data={"train": "d"}, train=train, batch_size=len(rows), **settings)
        dpo.Dpo().validate(config)
        ctx = bench.context("dpo", config, {"policy": domain.artifact}, {"train": bench.data("pairs", rows)})
        policy = run.open_policy(ctx)
        trainer = dpo._trainer(ctx, policy, dpo._pairs(ctx, policy))
        generator = torch.Generator().manual_seed(0)
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.data = torch.randn(weight.shape, generator=generator) / 10
        return SimpleNamespace(trainer=trainer, **outcome(trainer), pairs=[sides(trainer, r) for r in table(trainer)])

    return make


def table(trainer):
    return list(trainer.train_dataset)


def outcome(trainer):
    batch = trainer.data_collator(table(trainer))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    grads = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return {"loss": loss.item(), "gradients": grads}


def sides(trainer, row):
    """log p of the tokens of either answer, by the policy (.chosen, .rejected) and by the reference (.ref_...)."""
    with torch.no_grad():
        now = {s: log_probabilities(trainer.model, row["prompt_ids"], row[f"{s}_ids"]) for s in ("chosen", "rejected")}
        with trainer.model.disable_adapter():
            then = {f"ref_{s}": log_probabilities(trainer.model, row["prompt_ids"], row[f"{s}_ids"])
                    for s in ("chosen", "rejected")}  # fmt: skip
    return SimpleNamespace(**now, **then, row=row)
