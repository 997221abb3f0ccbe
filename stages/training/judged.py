"""What votes say of a pair beyond which answer is better, and how it enters a loss of TRL's DPO trainer.

With a pair's loss l(x), x the difference of its two implicit rewards, its target p, weight w and margin m
(`stages.rewards.pairs`), the loss is the mean over pairs of

    w (p l(x - m) + (1 - p) l(m - x))

For the sigmoid loss p alone is conservative DPO (Mitchell 2023), or with shares of votes DPO on soft labels (arXiv
2409.06691), and m alone DPO with an offset (Amini et al. 2024, arXiv 2402.10571): what is much better has to be
preferred by more. The losses themselves stay TRL's: it is asked for that of one pair at a time, as it is and turned.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from stages.rewards import votes
from stages.rewards.pairs import Judged
from stages.rewards.votes import Votes
from stages.training import losses

if TYPE_CHECKING:
    from torch import Tensor
    from trl import DPOTrainer

COLUMNS = {"pair_weight": "weight", "pair_target": "target", "pair_margin": "margin"}  # of the data set, beside TRL's
SORTED = ("aot", "aot_unpaired")  # losses of a whole batch: no pair has one of its own
NOISY = ("exo_pair", "robust")  # losses with a model of wrong labels of their own
OFFSET = ("hinge", "robust", "sigmoid")  # losses that read nothing but beta times the difference


def columns(pairs: Sequence[Judged]) -> dict[str, list[float]]:
    """COLUMNS of the pairs; nothing where every pair is certain, counts alike and has no margin, as TRL takes them."""
    found = {name: [float(getattr(pair, field)) for pair in pairs] for name, field in COLUMNS.items()}
    plain = set(found["pair_weight"]) | set(found["pair_target"]) <= {1.0} and not any(found["pair_margin"])
    return {} if plain else found


# -- what does not fit together -----------------------------------------------------------------------------------
def check(asked: Votes, train: Mapping[str, Any]) -> None:
    """ConfigError for settings of `votes` that cannot work with the losses, whatever the data."""
    votes.check(asked)
    said = [f"votes.weights={asked.weights}"] if asked.weights != "none" else []
    if asked.smoothing or any(asked.margins):
        said.append(f"votes.smoothing={asked.smoothing}" if asked.smoothing else f"votes.margins={list(asked.margins)}")
    if said:
        require(", ".join(said), train, soft=bool(asked.smoothing), offset=any(asked.margins))


def require(what: str, train: Mapping[str, Any], *, soft: bool, offset: bool) -> None:
    """ConfigError unless the losses can take pairs that differ in weight, in certainty (soft) or in margin (offset)."""
    chosen = losses.names(train)
    if not train.get("precompute_ref_log_probs"):
        raise ConfigError(
            f"{what}: the reference's log-probabilities must be known before; set train.precompute_ref_log_probs=true"
        )
    if set(chosen) & set(SORTED) or set(chosen) == {"sft"}:
        raise ConfigError(f"{what}: the loss {', '.join(chosen)} has no part that is one pair's; use another loss_type")
    if soft and (twice := set(chosen) & set(NOISY)):
        raise ConfigError(
            f"{what}: the loss {', '.join(twice)} has train.label_smoothing for labels that may be wrong; use "
            "train.loss_type=[sigmoid], or votes.targets=hard without votes.smoothing"
        )
    others = [loss for loss in chosen if loss not in (*OFFSET, "sft")]
    if offset and others:
        raise ConfigError(f"{what}: margins are not read by the loss {', '.join(others)}, only by {', '.join(OFFSET)}")
    if offset and train.get("f_divergence_type", "reverse_kl") != "reverse_kl":
        raise ConfigError(f"{what}: margins are of log-ratios; leave out train.f_divergence_type, or the margins")


def check_pairs(pairs: Sequence[Judged], train: Mapping[str, Any]) -> None:
    """ConfigError where the pairs, whose votes are known now, want what the losses cannot take."""
    soft, offset = any(pair.target < 1 for pair in pairs), any(pair.margin for pair in pairs)
    divided = "votes that differ on a pair (votes.targets=hard takes the majority's)"
    require(divided if soft else "pairs that differ in weight", train, soft=soft, offset=offset)


# -- the loss -----------------------------------------------------------------------------------------------------
def collator(collate: Callable[[list[dict]], dict[str, Any]]) -> Callable[[list[dict]], dict[str, Any]]:
    """TRL's collator, which leaves out what it does not know."""
    import torch

    def both(rows: list[dict]) -> dict[str, Any]:
        return {**collate(rows), **{name: torch.tensor([row[name] for row in rows]) for name in COLUMNS}}

    return both


def loss(
    trainer: "DPOTrainer", plain: Callable[[Any, dict, bool], "Tensor"], model: Any, inputs: dict[str, Any]
) -> "Tensor":
    """The batch's loss, a scalar. `plain`: TRL's `_compute_loss`; `inputs`: a batch of B pairs with COLUMNS.

    The model runs once. TRL's metrics are those of the pairs as they are; an sft term is neither weighted nor turned.
    """
    import torch

    batch = {name: value for name, value in inputs.items() if name not in COLUMNS}
    weight, target, margin = (inputs[name] for name in COLUMNS)
    kept: list[Any] = []
    plain(lambda **given: kept.append(model(**given)) or kept[0], batch, False)  # logs the metrics
    count = len(weight)
    with _terms(trainer, sft=False):
        losses = []
        for i in range(count):
            found = plain(*_pair(trainer, kept[0], batch, i, count + i, margin[i]), False)
            if target[i] < 1:
                turned = plain(*_pair(trainer, kept[0], batch, count + i, i, -margin[i]), False)
                found = target[i] * found + (1 - target[i]) * turned
            losses.append(weight[i] * found)
    total = torch.stack(losses).mean()
    if "sft" in trainer.loss_types:
        with _terms(trainer, sft=True):
            total = total + plain(lambda **given: kept[0], batch, False)
    return total


def _pair(
    trainer: "DPOTrainer", outputs: Any, batch: dict[str, Any], better: int, worse: int, margin: Any
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The model's outputs and the batch for one pair, by the rows of its answers.

    A reward of the better answer that is lower by the margin is a reference that finds it more likely.
    """
    import torch

    rows = torch.tensor([better, worse], device=batch["input_ids"].device)
    fields = {name: value[rows] for name, value in outputs.items() if value.dim() == 2}
    known = torch.cat([batch["ref_chosen_logps"], batch["ref_rejected_logps"]])[rows]
    given = {name: value[rows] for name, value in batch.items() if not name.startswith("ref_")}
    given |= {"ref_chosen_logps": known[:1] + margin / trainer.beta, "ref_rejected_logps": known[1:]}
    return lambda **_: SimpleNamespace(**fields), given


@contextmanager
def _terms(trainer: "DPOTrainer", *, sft: bool) -> Iterator[None]:
    """TRL's loss with its sft term alone or with all others, logging nothing."""
    before = trainer.loss_types, trainer.loss_weights, trainer._metrics, trainer._total_train_tokens
    kept = [(t, w) for t, w in zip(*before[:2], strict=True) if (t == "sft") is sft]
    trainer.loss_types, trainer.loss_weights = [t for t, _ in kept], [w for _, w in kept]
    trainer._metrics = {mode: defaultdict(list) for mode in before[2]}
    try:
        yield
    finally:
        trainer.loss_types, trainer.loss_weights, trainer._metrics, trainer._total_train_tokens = before
