"""`rloo`: the advantage is an answer's reward less the mean of the others' (what it shares with grpo: test_online)."""

import pytest
import torch

REWARD = {"terms": {"size": {"kind": "length", "free": 0, "unit": "characters"}}}


def test_an_answer_is_held_against_the_others_to_its_prompt(bench, base, rows, monkeypatch):
    """Ahmadian et al. 2024, section 3: for answers in groups of four, with KL 0 at the first step."""
    from trl import RLOOTrainer

    from stages.training import online

    rewards, found, real = [], [], RLOOTrainer._compute_loss

    def compute(self, model, inputs):
        found.extend(inputs["advantages"].tolist())
        return real(self, model, inputs)

    def scored(*args):
        total = online_scored(*args)

        def keep(**given):
            rewards.extend(made := total(**given))
            return made

        return keep

    online_scored = online._scored
    monkeypatch.setattr(online, "_scored", scored)
    monkeypatch.setattr(RLOOTrainer, "_compute_loss", compute)
    train = {"num_generations": 4, "max_completion_length": 6, "max_steps": 1, "beta": 0.05}
    data = {"train": bench.data("prompts", rows.pairs(2))}
    bench.train("rloo", base, data, reward=REWARD, batch_size=8, train=train)
    groups = torch.tensor(rewards).view(2, 4)
    wanted = groups - (groups.sum(1, keepdim=True) - groups) / 3
    assert sorted(found) == pytest.approx(sorted(wanted.flatten().tolist()), abs=1e-3)
    assert len(set(rewards)) > 2
