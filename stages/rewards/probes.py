"""What a reward model is asked at its hand-over, beside the probes of every training stage."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.models.chain import Policy
from stages.rewards.classifier import head_weight, trunk
from stages.rewards.model import raw_scores
from stages.training.probes import Probe, tolerance

if TYPE_CHECKING:
    from peft import PeftModel
    from trl import RewardTrainer

BETWEEN = (
    0.5  # scores of 16-bit models by two ways of computing; at the start scores differ by about 1 from one another
)


def last_hidden(policy: Policy, ids: list[int]) -> Tensor:
    """The policy's last hidden state at the end of a sequence, (H,), before anything is put on it."""
    with torch.no_grad():
        given = torch.tensor([ids], device=policy.device)
        return policy.model.base_model(input_ids=given, use_cache=False).last_hidden_state[0, -1].float()


def starts_at_input(model: "PeftModel", ids: list[int], hidden: Tensor) -> Probe:
    """With the fresh adapter on and off, the score of `ids` is the head times the input policy's `hidden`."""
    weight = head_weight(model)
    on = float(raw_scores(trunk(model), weight, [ids])[0])
    with model.disable_adapter():
        off = float(raw_scores(trunk(model), weight, [ids])[0])
    wanted = float(hidden @ weight)
    gap = max(abs(on - wanted), abs(off - wanted))
    return Probe(
        "starts_at_input", gap <= tolerance(model.dtype),
        f"score {on:.4f} with the new adapter, {off:.4f} without it, {wanted:.4f} by the input policy",
        "The input's adapters are not all active, or the new adapter does not start at zero",
    )  # fmt: skip


def eos_is_judged(trainer: "RewardTrainer", eos: int) -> Probe:
    """Each sequence of a padded batch ends in EOS, and its score is that of EOS, also when the pad token is EOS."""
    rows = [trainer.train_dataset[i] for i in range(min(2, len(trainer.train_dataset)))]
    batch = {name: value.to(trainer.args.device) for name, value in trainer.data_collator(rows).items()}
    sequences = [row[name] for name in ("chosen_ids", "rejected_ids") for row in rows]
    model = trainer.model
    was_training = model.training
    model.eval()
    with torch.no_grad():
        found = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].cpu()
    model.train(was_training)
    at_end, before = (
        (found - raw_scores(trunk(model), head_weight(model), part)).abs()
        for part in (sequences, [sequence[:-1] for sequence in sequences])
    )
    gap, ended = float(at_end.max()), sum(sequence[-1] == eos for sequence in sequences)
    close = gap <= (tolerance(model.dtype) if model.dtype == torch.float32 else BETWEEN)
    return Probe(
        "eos_is_judged", ended == len(sequences) and close and bool((at_end < before).all()),
        f"{ended} of {len(sequences)} sequences end in EOS; scores differ from those at their last token by {gap:.2g}, "
        f"from those one token before it by {float(before.max()):.2g}",
        "Padding hides the end of a sequence (pad token = EOS?), so the model would judge answers without their end",
    )  # fmt: skip


def survives_reload(trained: Sequence[Tensor], reloaded: Sequence[Tensor], dtype: torch.dtype) -> Probe:
    """Scores (N,) of each member by what was trained and by what was published."""
    gap = max(float((one - other).abs().max()) for one, other in zip(trained, reloaded, strict=True))
    return Probe(
        "reward_survives_reload", gap <= tolerance(dtype),
        f"scores by the published files differ from the trained model's by {gap:.2g}",
        "An adapter or a score head was not saved as it was trained",
    )  # fmt: skip
