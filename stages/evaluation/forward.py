"""What the measurements ask of a model: log-probabilities of given tokens, and greedy answers."""

import torch
from torch import Tensor

from pipeline.errors import DataError
from stages.evaluation.measurement import Row
from stages.kernels.prefill import Filled, Ids, PromptCache, batches, logits_at, padded
from stages.kernels.rollout import Sampling, rollout
from stages.models.chain import Policy
from stages.models.prompting import Prompting


def prompts_of(policy: Policy, rows: list[Row]) -> list[Ids]:
    """The prompt of every row as token ids, up to where the model's answer starts."""
    return [policy.asked(row["prompt"]) for row in rows]


def check_lengths(policy: Policy, rows: list[Row], lengths: list[int]) -> None:
    """Raise DataError for an item that is longer than what the model can read."""
    limit = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    for row, length in zip(rows, lengths, strict=True):
        if limit is not None and length > limit:
            said = ", or what the baseline puts before it" if policy.prompting != Prompting() else ""
            raise DataError(
                f"item {row['id']} takes {length} tokens, the model reads at most {limit}; shorten it{said}"
            )


def log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of targets (N,) under logits (N, V), in float64 so that sums do not depend on their order."""
    picked = logits.gather(1, targets[:, None])[:, 0]
    return (picked - logits.logsumexp(dim=1)).double()


def token_log_probs(policy: Policy, sequences: list[Ids]) -> list[Tensor]:
    """Log-probability of every token but the first of each sequence, one pass over the batch."""
    ids, mask = padded(sequences, policy)
    rows, columns = mask[:, 1:].nonzero(as_tuple=True)
    # Padding is on the right, where causal attention never looks: no mask, so the faster attention path is taken.
    logits, _ = logits_at(policy, rows, columns, input_ids=ids, use_cache=False)
    found = log_probs(logits, ids[rows, columns + 1]).cpu()
    return list(found.split([len(sequence) - 1 for sequence in sequences]))


def continuation_log_probs(
    policy: Policy, prompts: list[Ids], continuations: list[list[Ids]], micro_batch: int
) -> list[list[float]]:
    """Summed log-probability of every continuation after its prompt; a prompt is read once for all of its own."""
    scores = continuation_scores(policy, prompts, continuations, micro_batch)
    return [[log_prob for log_prob, _ in own] for own in scores]


@torch.inference_mode()
def continuation_scores(
    policy: Policy, prompts: list[Ids], continuations: list[list[Ids]], micro_batch: int
) -> list[list[tuple[float, bool]]]:
    """As `continuation_log_probs`, each with whether the continuation is what greedy decoding writes."""
    if not prompts:
        return []
    shared = PromptCache(policy, prompts)
    lengths = [len(p) - shared.shared + sum(map(len, c)) for p, c in zip(prompts, continuations, strict=True)]
    found: list[list[tuple[float, bool]]] = [[] for _ in prompts]
    for batch in batches(lengths, micro_batch, policy.device):
        owner = [k for k, i in enumerate(batch) for _ in continuations[i]]
        filled = shared.fill([prompts[i] for i in batch]).take(torch.tensor(owner, device=policy.device))
        flat = _continue(policy, filled, [c for i in batch for c in continuations[i]])
        for k, value in zip(owner, flat, strict=True):
            found[batch[k]].append(value)
    return found


def _continue(policy: Policy, filled: Filled, continuations: list[Ids]) -> list[tuple[float, bool]]:
    """One pass over [last prompt token, continuation without its last token], which predicts the continuation."""
    targets, mask = padded(continuations, policy)
    ids = torch.cat([filled.last[:, None], targets[:, :-1]], dim=1)
    rows, columns = mask.nonzero(as_tuple=True)
    logits, _ = logits_at(
        policy, rows, columns, input_ids=ids, past_key_values=filled.cache, use_cache=True,
        attention_mask=torch.cat([filled.mask, mask], dim=1),
        position_ids=filled.position[:, None] + torch.arange(ids.shape[1], device=ids.device),
    )  # fmt: skip
    wanted = targets[rows, columns]
    sums = torch.zeros(len(continuations), dtype=torch.float64, device=ids.device)
    other = torch.zeros(len(continuations), dtype=torch.long, device=ids.device)  # tokens that another beats
    sums = sums.index_add(0, rows, log_probs(logits, wanted)).tolist()
    others = other.index_add(0, rows, (logits.argmax(dim=1) != wanted).long()).tolist()
    return [(log_prob, not count) for log_prob, count in zip(sums, others, strict=True)]


def greedy(policy: Policy, prompts: list[Ids], max_new_tokens: int, micro_batch: int) -> list[str]:
    """The most probable answer to every prompt, token by token, up to the end of turn or `max_new_tokens`."""
    answers = rollout(policy, prompts, Sampling(max_new_tokens, temperature=0.0), micro_batch)
    return [policy.tokenizer.decode(answer.ids, skip_special_tokens=True).strip() for answer in answers]
