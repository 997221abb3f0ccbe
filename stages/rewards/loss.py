"""The loss of a reward model on pairs of answers (Bradley & Terry 1952; Christiano et al. 2017, arXiv 1706.03741)."""

from torch import Tensor
from torch.nn.functional import logsigmoid


def preference_loss(difference: Tensor, target: Tensor, margin: Tensor, weight: Tensor) -> Tensor:
    """Mean over pairs of w * -[t log sigma(d - m) + (1 - t) log sigma(m - d)], all of shape (N,).

    `difference`: raw score of the chosen answer less that of the rejected one; `target`: how probable it is that the
    chosen one is better, 1 for TRL's own loss; `margin`: by how much it is to lead.
    """
    gap = difference - margin
    return -(weight * (target * logsigmoid(gap) + (1 - target) * logsigmoid(-gap))).mean()
