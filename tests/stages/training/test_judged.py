"""Votes in the loss: soft labels, weights and margins against formulas, and where no loss could take them."""

import pytest
import torch
from torch.nn.functional import logsigmoid, relu

from pipeline.errors import ConfigError, DataError
from stages.dpo import Dpo
from stages.rewards.votes import Votes

BETA = 0.3
SIDES = {"a": "chosen", "b": "rejected"}


def voted(rows, *ballots, strength=None):
    """The pairs of `rows`, with votes such as "aab" or "a-b" (- is a tie); `strength`: of every vote."""
    graded = {"strength": strength} if strength else {}
    names = {"a": "a", "b": "b", "-": "tie"}
    return [
        {"id": row["id"], "prompt": row["prompt"], "a": row["chosen"], "b": row["rejected"],
         "votes": [{"by": f"p{i}", "prefers": names[v], **(graded if v != "-" else {})} for i, v in enumerate(ballot)]}
        for row, ballot in zip(rows, ballots, strict=True)
    ]  # fmt: skip


def gaps(made):
    """beta times the difference of the log-ratios, and the numbers of `judged`, of each pair in its order."""
    d = [(p.chosen - p.ref_chosen).sum() - (p.rejected - p.ref_rejected).sum() for p in made.pairs]
    numbers = [torch.tensor([p.row[f"pair_{name}"] for p in made.pairs]) for name in ("target", "weight", "margin")]
    return BETA * torch.stack(d), *numbers


def test_shares_of_votes_are_soft_labels(moved, rows):
    made = moved(voted(rows.pairs(3), "aab", "bbbb", "a-"), train={"beta": BETA})
    x, target, weight, _ = gaps(made)
    assert sorted(target.tolist()) == pytest.approx([2 / 3, 3 / 4, 1]) and weight.tolist() == [1, 1, 1]
    wanted = -(target * logsigmoid(x) + (1 - target) * logsigmoid(-x)).mean()
    assert made.loss == pytest.approx(float(wanted), rel=1e-3)


def test_smoothing_is_conservative_dpo(moved, rows):
    """Mitchell 2023: every label is wrong with probability 0.2; rows need no votes for it."""
    made = moved(rows.pairs(4), train={"beta": BETA}, votes=Votes(smoothing=0.2))
    x = gaps(made)[0]
    assert made.loss == pytest.approx(float(-(0.8 * logsigmoid(x) + 0.2 * logsigmoid(-x)).mean()), rel=1e-3)


def test_weights_follow_the_lead_and_have_a_mean_of_1(moved, rows):
    ballots = voted(rows.pairs(3), "aaab", "aaaa", "bb")
    made = moved(ballots, train={"beta": BETA}, votes=Votes(targets="share", weights="confidence", smoothing=0.0))
    x, target, weight, _ = gaps(made)
    assert weight.mean() == pytest.approx(1) and sorted(weight.tolist()) == pytest.approx([0.6, 1.2, 1.2])
    wanted = -(weight * (target * logsigmoid(x) + (1 - target) * logsigmoid(-x))).mean()
    assert made.loss == pytest.approx(float(wanted), rel=1e-3)


@pytest.mark.parametrize(("loss", "of"), [("sigmoid", lambda x: -logsigmoid(x)), ("hinge", lambda x: relu(1 - x))])
def test_a_margin_is_an_offset(moved, rows, loss, of):
    """Amini et al. 2024, equation 7: the reward of the better answer has to lead by the offset."""
    ballots = voted(rows.pairs(2), "aa", "bb", strength=3) + voted(rows.pairs(3)[2:], "aa", strength=1)
    train = {"beta": BETA, "loss_type": [loss]}
    made = moved(ballots, train=train, votes=Votes(margins=[0.1, 0.5, 0.9]))
    x, _, _, margin = gaps(made)
    assert sorted(margin.tolist()) == pytest.approx([0.1, 0.9, 0.9])
    assert made.loss == pytest.approx(float(of(x - margin).mean()), rel=1e-3)
    assert made.loss > float(of(x).mean())


def test_a_margin_and_a_soft_label_together(moved, rows):
    made = moved(voted(rows.pairs(3), "aab", "aaa", "bba", strength=2), votes=Votes(margins=[0, 0.6, 1]),
                 train={"beta": BETA})  # fmt: skip
    x, target, _, margin = gaps(made)
    y = x - margin
    wanted = -(target * logsigmoid(y) + (1 - target) * logsigmoid(-y)).mean()
    assert made.loss == pytest.approx(float(wanted), rel=1e-3) and len(set(margin.tolist())) > 1


def test_an_sft_term_stays_that_of_the_chosen_answers(moved, rows):
    train = {"beta": BETA, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}
    made = moved(voted(rows.pairs(3), "aab", "aaa", "bba"), train=train)
    x, target, _, _ = gaps(made)
    pairs = -(target * logsigmoid(x) + (1 - target) * logsigmoid(-x)).mean()
    sft = -torch.cat([pair.chosen for pair in made.pairs]).mean()
    assert made.loss == pytest.approx(float(pairs + 0.5 * sft), rel=1e-3)


@pytest.mark.parametrize(
    "train",
    [{}, {"loss_type": ["ipo"]}, {"loss_type": ["apo_zero"]}, {"ld_alpha": 0.3}, {"use_weighting": True}],
    ids=str,
)
def test_pair_by_pair_is_trls_loss_of_the_batch(moved, rows, train, monkeypatch):
    """Where every pair is certain, weighs 1 and has no margin, the loss and its gradients are TRL's own."""
    from stages.training import judged

    plain = moved(rows.pairs(5), train=train)
    monkeypatch.setattr(judged, "columns", lambda pairs: {
        "pair_weight": [1.0] * 5, "pair_target": [1.0] * 5, "pair_margin": [0.0] * 5
    })  # fmt: skip
    single = moved(rows.pairs(5), train=train)
    assert single.loss == pytest.approx(plain.loss, rel=1e-5)
    for name, grad in plain.gradients.items():
        torch.testing.assert_close(single.gradients[name], grad, rtol=1e-4, atol=1e-6)


def test_the_metrics_are_those_of_the_pairs_as_they_are(moved, rows):
    """Once for a batch, and nothing of the pairs turned round."""
    made = moved(voted(rows.pairs(3), "aab", "bbbb", "aaa"), train={"beta": BETA})
    logged = made.trainer._metrics["train"]["rewards/margins"]
    assert logged == [pytest.approx(float(gaps(made)[0].mean()), rel=1e-3)]


def test_ties_train_nothing_and_are_counted(bench, base, rows):
    ballots = voted(rows.pairs(5), "ab", "--", "aa", "b", "aab")
    made = bench.train("dpo", base, {"train": bench.data("v", ballots)}, train={"precompute_ref_log_probs": True})
    assert made.sections["data"]["rejected_because"]["votes are tied"] == 2
    assert made.sections["data"]["rows_kept"] == 3


def test_where_every_pair_is_tied_that_is_what_is_told(bench, base, rows):
    ballots = voted(rows.pairs(3), "ab", "--", "ba")
    with pytest.raises(DataError, match=r"0 rows of v are left to train on \(3 left out: votes are tied\)"):
        bench.train("dpo", base, {"train": bench.data("v", ballots)}, train={"precompute_ref_log_probs": True})


def test_votes_of_several_rows_on_one_pair_are_one_pair(bench, base, rows):
    ballots = voted(rows.pairs(2), "a", "b") + voted(rows.pairs(1), "a")
    made = bench.train("dpo", base, {"train": bench.data("v", ballots)}, train={"precompute_ref_log_probs": True})
    data = made.sections["data"]
    assert (data["rows_available"], data["pairs_available"], data["rows_kept"]) == (3, 2, 2)


def test_the_loss_falls_on_votes(bench, domain, rows):
    ballots = voted(rows.pairs(12), *["aaab", "aaaa", "bbba"] * 4)
    train = {"precompute_ref_log_probs": True, "num_train_epochs": 4}
    made = bench.train("dpo", domain.artifact, {"train": bench.data("v", ballots)}, train=train)
    assert made.metrics["first_loss"] == pytest.approx(0.6931, abs=2e-3) and made.metrics["final_loss"] < 0.67


@pytest.mark.parametrize(
    ("votes", "train", "message"),
    [
        (Votes(targets="mean"), {}, r"votes\.targets=mean: use one of hard"),
        (Votes(smoothing=0.1), {"precompute_ref_log_probs": False}, r"smoothing=0\.1: .*precompute_ref_log_probs"),
        (Votes(weights="count"), {"loss_type": ["aot"]}, r"votes\.weights=count: the loss aot has no part"),
        (Votes(weights="count"), {"loss_type": ["sft"]}, r"the loss sft has no part"),
        (Votes(smoothing=0.1), {"loss_type": ["robust"], "label_smoothing": 0.1}, r"the loss robust has train\.label"),
        (Votes(margins=[0, 1, 2]), {"loss_type": ["ipo"]}, r"margins are not read by the loss ipo, only by hinge"),
        (Votes(margins=[0, 1, 2]), {"f_divergence_type": "forward_kl"}, r"margins are of log-ratios"),
    ],
)  # fmt: skip
def test_settings_that_no_loss_takes_are_refused(bench, votes, train, message):
    train = {"precompute_ref_log_probs": True, **train}
    with pytest.raises(ConfigError, match=message):
        Dpo().validate(bench.config("dpo", data={"train": "d"}, train=train, votes=votes))


def test_data_that_the_loss_does_not_take_are_refused(bench, base, rows):
    """Only the data say that votes differ."""
    data = {"train": bench.data("v", voted(rows.pairs(2), "aab", "a"))}
    with pytest.raises(ConfigError, match=r"votes\.targets=hard takes the majority's\): the loss aot has no part"):
        bench.train("dpo", base, data, train={"loss_type": ["aot"], "precompute_ref_log_probs": True})
    bench.train("dpo", base, data, train={"loss_type": ["aot"]}, votes=Votes(targets="hard"))
