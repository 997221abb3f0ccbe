"""Log-probabilities under a frozen output layer, whose gradient is known as soon as they are.

With logits z = W h, the gradient of log p(target) is W^T (onehot - softmax(z)): made in the forward pass, it only has
to be scaled in the backward pass. Two products with W instead of three, and no logits are kept. The entropy H has the
gradient -W^T (p (log p + H)), which costs one product more and is made where it is asked for.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel

ROWS_AT_ONCE = 4096  # rows of logits in memory, each as long as the vocabulary, in float32
# On a CPU fewer: the allocator gives blocks of 32 MiB and more back at once, and taking fresh pages for each temporary
# then costs several times what is computed in them.
BLOCK_BYTES = 24 * 2**20


def rows_at_once(device: str, vocabulary: int) -> int:
    """Rows of logits that are in memory together on a device of this type."""
    return ROWS_AT_ONCE if device != "cpu" else max(1, min(ROWS_AT_ONCE, BLOCK_BYTES // (4 * vocabulary)))


@dataclass(frozen=True)
class Logits:
    """What an architecture does to W h: z = cap * tanh(scale * W h / cap)."""

    scale: float = 1.0
    cap: float | None = None


def logits_of(model: "PreTrainedModel") -> Logits:
    """Scale and soft cap as Transformers' configs name them."""
    config = model.config.get_text_config()
    scale = next(
        (getattr(config, name) for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")
         if getattr(config, name, None) is not None), None,
    )  # fmt: skip
    if scale is None and (scaling := getattr(config, "logits_scaling", None)) is not None:
        scale = scaling if config.model_type == "hyperclovax" else 1 / scaling
    return Logits(1.0 if scale is None else float(scale), getattr(config, "final_logit_softcapping", None))


@dataclass
class Scores:
    """For each of N rows: log-probability (with gradient), entropy (with gradient where asked), log of the summed
    squares, mean logit, top-1."""

    log_probs: Tensor
    entropy: Tensor
    log_sum_sq_probs: Tensor
    mean_logits: Tensor
    is_top1: Tensor


def score(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits = Logits(), *,
    entropy_gradient: bool = False, triton: bool = False,
) -> Scores:  # fmt: skip
    """Score targets (N,) after hidden states (N, D) under the frozen layer weight (V, D), bias (V,).

    `entropy_gradient`: the entropy has a gradient too, for a bonus on it as in PPO. `triton`: by `passes`.
    """
    block = _in_two_passes if triton else _plainly
    return Scores(*FrozenHead.apply(hidden, weight, bias, targets, logits, entropy_gradient, block))


class FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits,
        entropy_gradient: bool, block: "Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]]",
    ) -> tuple[Tensor, ...]:  # fmt: skip
        fields = [hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(4)]
        fields.append(torch.empty_like(targets, dtype=torch.bool))
        wanted = (1 + entropy_gradient) * ctx.needs_input_grad[0]
        grads = [torch.empty_like(hidden, dtype=torch.float32) for _ in range(wanted)]
        step = rows_at_once(hidden.device.type, len(weight))
        for rows in (slice(at, at + step) for at in range(0, len(hidden), step)):
            made = block(hidden[rows], weight, bias, targets[rows], logits, wanted)
            for whole, part in zip((*fields, *grads), (*made[0], *made[1]), strict=True):
                whole[rows] = part
        ctx.save_for_backward(*grads)
        ctx.dtype = hidden.dtype
        ctx.mark_non_differentiable(*fields[len(grads) or 1 :])
        return tuple(fields)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parts = [kept * grad[:, None] for kept, grad in zip(ctx.saved_tensors, grads, strict=False)]
        return sum(parts[1:], parts[0]).to(ctx.dtype), None, None, None, None, None, None


def _plainly(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits, wanted: int
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """The fields of `Scores` for a block of rows; and the first `wanted` of two gradients of the rows, (n, D) each:
    of the log-probability, and of the entropy."""
    z = _logits(hidden, weight, bias, logits)
    log_p = torch.log_softmax(z, dim=1)
    p = log_p.exp()
    squares = 2 * torch.linalg.vector_norm(p, dim=1).log()
    entropy = -torch.linalg.vecdot(p, log_p)
    found = log_p.gather(1, targets[:, None])[:, 0]
    fields = found, entropy, squares, z.mean(dim=1), _is_top1(z, targets)
    # That of the log-probability overwrites p, so it comes last.
    grads = [_of_entropy(p, log_p, entropy, z, weight, logits)] if wanted > 1 else []
    return fields, [_of_log_prob(p, z, targets, weight, logits), *grads] if wanted else []


def _in_two_passes(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, logits: Logits, wanted: int
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """The same by a kernel that reads the logits twice, and writes gradients over them."""
    from stages.kernels import passes

    raw = torch.nn.functional.linear(hidden, weight, bias)
    fields, own, others, by_entropy = passes.score(
        raw, targets, logits.scale, logits.cap, gradient=wanted > 0, entropy_gradient=wanted > 1
    )
    grads = [] if own is None else [(own[:, None] * weight[targets].float()).add_(others @ weight).neg_()]
    return fields, grads if by_entropy is None else [*grads, (by_entropy @ weight).float()]


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, logits: Logits) -> Tensor:
    z = torch.nn.functional.linear(hidden, weight, bias).float()
    if logits.scale != 1.0:
        z.mul_(logits.scale)
    return z if logits.cap is None else z.div_(logits.cap).tanh_().mul_(logits.cap)


def _is_top1(z: Tensor, targets: Tensor) -> Tensor:
    """Whether the target is the first of the largest logits, which in 16 bits are often equal: z.argmax(1) == targets.

    argmax is several times slower than a maximum, and only needed where the target is as large as that.
    """
    found = z.gather(1, targets[:, None])[:, 0] == z.amax(dim=1)
    found[found.clone()] = z[found].argmax(dim=1) == targets[found]
    return found


def _of_log_prob(p: Tensor, z: Tensor, targets: Tensor, weight: Tensor, logits: Logits) -> Tensor:
    """Gradient of the targets' log-probabilities with respect to h, (n, D) in float32; overwrites p (n, V).

    The target's own row of W, the largest part, is added in float32: in 16 bits the product alone would be rounded
    once more than TRL's.
    """
    at = torch.arange(len(targets), device=targets.device), targets
    p[at] -= 1
    by_output = _before_scale_and_cap(p, z, logits)  # of -log p
    own = by_output[at][:, None] * weight[targets].float()
    by_output[at] = 0
    return own.add_(by_output.to(weight.dtype) @ weight).neg_()


def _of_entropy(p: Tensor, log_p: Tensor, entropy: Tensor, z: Tensor, weight: Tensor, logits: Logits) -> Tensor:
    """Gradient of the entropy with respect to h, (n, D) in float32: dH/dz = -p (log p + H)."""
    by_logit = (log_p + entropy[:, None]).mul_(p).neg_()
    return (_before_scale_and_cap(by_logit, z, logits).to(weight.dtype) @ weight).float()


def _before_scale_and_cap(by_logit: Tensor, z: Tensor, logits: Logits) -> Tensor:
    """The gradient with respect to W h, from that with respect to z (n, V); in place."""
    if logits.cap is not None:
        by_logit.mul_(1 - (z / logits.cap).square_())
    return by_logit.mul_(logits.scale) if logits.scale != 1.0 else by_logit
