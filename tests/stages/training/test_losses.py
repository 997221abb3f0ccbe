"""Losses of preference training: each is its paper's formula, and an argument that none of them reads is refused."""

import math

import pytest
import torch
from torch import sigmoid
from torch.nn.functional import logsigmoid, relu

from pipeline.errors import ConfigError, StageFailed
from pipeline.schema import Runtime
from stages.dpo import Dpo
from stages.training.arguments import CHOICES
from stages.training.losses import check, check_one_pass, require_one_pass
from stages.training.memory import Plan

BETA = 0.3
SMOOTHED = {"exo_pair": 0.05, "robust": 0.1, "aot": 0.1, "aot_unpaired": 0.1}


def ratio(pair, side):
    """log pi(y|x) - log pi_ref(y|x) of one answer."""
    return (getattr(pair, side) - getattr(pair, f"ref_{side}")).sum()


def length(pair, side):
    return len(getattr(pair, side))


# The papers' formulas: w, r are the log-ratios of the winning and the rejected answer, e the smoothing.
FORMULAS = {
    "sigmoid": lambda w, r, e: -logsigmoid(BETA * (w - r)),  # Rafailov et al. 2023, equation 7
    "hinge": lambda w, r, e: relu(1 - BETA * (w - r)),  # Zhao et al. 2023, SLiC-HF
    "nca_pair": lambda w, r, e: (
        -logsigmoid(BETA * w) - (logsigmoid(-BETA * w) + logsigmoid(-BETA * r)) / 2
    ),  # Chen et al. 2024, arXiv 2402.05369
    "robust": lambda w, r, e: (
        -((1 - e) * logsigmoid(BETA * (w - r)) - e * logsigmoid(-BETA * (w - r))) / (1 - 2 * e)
    ),  # Chowdhury et al. 2024, arXiv 2403.00409
    "exo_pair": lambda w, r, e: (
        sigmoid(BETA * (w - r)) * (logsigmoid(BETA * (w - r)) - math.log(1 - e))
        + sigmoid(BETA * (r - w)) * (logsigmoid(BETA * (r - w)) - math.log(e))
    ),  # Ji et al. 2024, arXiv 2402.00856, equation 16
    "bco_pair": lambda w, r, e: -logsigmoid(BETA * w) - logsigmoid(-BETA * r),  # Jung et al. 2024, its shift left out
    "sppo_hard": lambda w, r, e: (w - 0.5 / BETA) ** 2 + (r + 0.5 / BETA) ** 2,  # Wu et al. 2024, arXiv 2405.00675
    "apo_zero": lambda w, r, e: 1 - sigmoid(BETA * w) + sigmoid(BETA * r),  # D'Oosterlinck et al. 2024, equation 7
    "apo_down": lambda w, r, e: sigmoid(BETA * w) + 1 - sigmoid(BETA * (w - r)),  # the same, equation 8
    "discopop": lambda w, r, e: (
        (1 - sigmoid(BETA * (w - r) / 0.05)) * -logsigmoid(BETA * (w - r))
        + sigmoid(BETA * (w - r) / 0.05) * torch.exp(-BETA * (w - r))
    ),  # Lu et al. 2024, arXiv 2406.08414, equation 5
}


def expected(loss, pairs):
    """The mean loss of the pairs, as plainly as it can be written."""
    smoothing = SMOOTHED.get(loss, 0.0)
    w, r = (torch.stack([ratio(pair, side) for pair in pairs]) for side in ("chosen", "rejected"))
    n, m = (torch.tensor([length(pair, side) for pair in pairs]) for side in ("chosen", "rejected"))
    if loss == "ipo":  # Azar et al. 2023, equation 17, with the mean of the tokens as its authors do
        return ((w / n - r / m - 1 / (2 * BETA)) ** 2).mean()
    if loss == "sigmoid_norm":
        return -logsigmoid(BETA * (w / n - r / m)).mean()
    if loss == "sft":
        return -torch.cat([pair.chosen for pair in pairs]).mean()
    if loss in ("aot", "aot_unpaired"):  # Melnyk et al. 2024, arXiv 2406.05882: quantile against quantile
        now, then = (torch.stack([getattr(p, f"{k}chosen").sum() - getattr(p, f"{k}rejected").sum() for p in pairs])
                     for k in ("", "ref_"))  # fmt: skip
        d = now.sort()[0] - then.sort()[0] if loss == "aot" else w.sort()[0] - r.sort()[0]
        return -((1 - smoothing) * logsigmoid(BETA * d) + smoothing * logsigmoid(-BETA * d)).mean()
    return FORMULAS[loss](w, r, smoothing).mean()


@pytest.mark.parametrize("loss", CHOICES["DPOConfig", "loss_type"])
def test_every_loss_is_its_formula(moved, rows, loss):
    """Of a policy that has moved away from its reference, against full logits."""
    train = {"loss_type": [loss], "beta": BETA, "label_smoothing": SMOOTHED.get(loss, 0.0)}
    made = moved(rows.pairs(5), train=train)
    assert made.loss == pytest.approx(float(expected(loss, made.pairs)), rel=2e-3)
    assert abs(ratio(made.pairs[0], "chosen")) > 0.05, "the policy has not moved"


def test_losses_add_up_with_their_weights(moved, rows):
    train = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.25], "beta": BETA}
    made = moved(rows.pairs(5), train=train)
    wanted = expected("sigmoid", made.pairs) + 0.25 * expected("sft", made.pairs)
    assert made.loss == pytest.approx(float(wanted), rel=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_tokens_beyond_the_shorter_answer_count_by_ld_alpha(moved, rows, alpha):
    """LD-DPO (Liu et al. 2024, arXiv 2409.06411)."""

    def desensitized(pair, side):
        shared = min(length(pair, "chosen"), length(pair, "rejected"))
        each = getattr(pair, side) - getattr(pair, f"ref_{side}")
        return each[:shared].sum() + alpha * each[shared:].sum()

    made = moved(rows.pairs(5), train={"beta": BETA, "ld_alpha": alpha})
    d = torch.stack([desensitized(pair, "chosen") - desensitized(pair, "rejected") for pair in made.pairs])
    assert made.loss == pytest.approx(float(-logsigmoid(BETA * d).mean()), rel=1e-3)
    assert any(length(pair, "chosen") != length(pair, "rejected") for pair in made.pairs)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"label_smoothing": 0.1}, r"label_smoothing is not read by the loss sigmoid, only by aot.*train\.loss_type"),
        ({"loss_type": "robust", "label_smoothing": 0.5}, r"label_smoothing=0\.5: the share of wrong labels"),
        ({"loss_type": ["exo_pair"]}, r"exo_pair takes the logarithm of train\.label_smoothing"),
        ({"loss_weights": ["a"]}, r"train\.loss_weights: 'a' is no number"),
        ({"discopop_tau": 0.1}, r"discopop_tau is not read by the loss sigmoid"),
        ({"loss_type": ["sigmoid", "apo_zero"], "f_divergence_type": "forward_kl"}, r"not read by the loss apo_zero"),
        ({"loss_type": ["sft"], "f_divergence_type": "forward_kl"}, r"f_divergence_type is not read by the loss sft"),
        ({"f_alpha_divergence_coef": 0.3}, r"f_alpha_divergence_coef is read with .*alpha_divergence only"),
        ({"precompute_ref_batch_size": 4}, r"precompute_ref_batch_size is not read without"),
        ({"beta": 0.0}, r"train\.beta=0\.0: give a positive number"),
        ({"ld_alpha": 1.5}, r"train\.ld_alpha=1\.5: from 0"),
        ({"loss_type": ["sft"], "ld_alpha": 0.5}, r"ld_alpha is not read by the loss sft"),
        ({"loss_type": ["aot"], "use_weighting": True}, r"use_weighting weighs pairs"),
        ({"loss_type": ["hinge"], "use_weighting": True}, r"use_weighting: TRL cannot weigh .* hinge"),
        ({"loss_type": ["sigmoid", "sft"], "use_weighting": True}, r"use_weighting: TRL cannot weigh .* sft"),
    ],
)
def test_what_a_loss_would_pass_over_is_refused(bench, train, message):
    with pytest.raises(ConfigError, match=message):
        Dpo().validate(bench.config("dpo", data={"train": "d"}, train=train))


@pytest.mark.parametrize(
    "train",
    [
        {"loss_type": ["sigmoid", "robust"], "label_smoothing": 0.1},
        {"loss_type": ["sigmoid", "sft"], "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
        {"loss_type": ["discopop"], "discopop_tau": 0.1},
        {"label_smoothing": 0.0, "f_divergence_type": "reverse_kl"},
    ],
)
def test_what_a_loss_reads_is_allowed(train):
    check(train, 4)


def test_losses_of_a_whole_batch_are_not_taken_apart(bench):
    """In two halves aot would sort others: the same id would stand for another result on a smaller machine."""
    halves = bench.config("dpo", data={"train": "d"}, train={"loss_type": ["aot"]}, runtime=Runtime(micro_batch=2))
    with pytest.raises(ConfigError, match=r"the loss aot depends on which rows.*runtime\.micro_batch=4"):
        Dpo().validate(halves)
    with pytest.raises(ConfigError, match=r"batch_size=1"):
        check({"loss_type": ["aot"]}, 1)
    config = bench.config("dpo", train={"loss_type": ["aot"]})
    check_one_pass(config, "the loss aot")
    require_one_pass(config, Plan(4, False, 1, 1, 1), "the loss aot")
    with pytest.raises(StageFailed, match=r"2 of 4 rows fit this device; lower batch_size"):
        require_one_pass(config, Plan(2, False, 1, 1, 1), "the loss aot")
