"""What is said of a reward model on held-out pairs, from scores that are worked out by hand."""

import json
import math

import numpy as np
import pytest
from pyarrow import parquet
from scipy.stats import spearmanr

from pipeline.errors import StageFailed
from stages.rewards.heldout import LONG, Scores, alarms, examine, metrics, rank_correlation, write
from stages.rewards.pairs import Judged


def pairs(*targets):
    return [
        Judged({"id": f"p{i}", "prompt": [{"role": "user", "content": "Hi"}], "slices": {"part": "ab"[i % 2]}},
               f"good {i}", f"bad {i}", target, 1.0, 0.0)
        for i, target in enumerate(targets)
    ]  # fmt: skip


def scores(differences, tokens=None, scale=2.0):
    """Members' raw scores: the rejected answers' are 0, the chosen ones' the given (K, N)."""
    chosen = np.array(differences, dtype=float)
    count = chosen.shape[1]
    lengths = np.array(tokens if tokens is not None else [range(count), range(count)], dtype=float)
    return Scores(chosen, np.zeros_like(chosen), chosen / scale, np.zeros_like(chosen), lengths)


def sigma(x):
    return 1 / (1 + math.exp(-x))


def test_accuracy_is_the_share_of_pairs_whose_better_answer_scores_more():
    found = examine(pairs(1, 1, 1, 0.75), scores([[2.0, -1.0, 0.0, 0.1]]))
    assert [item.score for item in found.accuracy.items] == [1.0, 0.0, 0.5, 1.0]
    assert metrics(found)["heldout_accuracy"] == pytest.approx(2.5 / 4)
    assert [item.answer for item in found.accuracy.items[:2]] == ["good 0", "bad 1"]


def test_tied_pairs_are_left_out_of_the_accuracy_and_stay_in_the_calibration():
    found = examine(pairs(1, 0.5), scores([[2.0, 3.0]]))
    assert len(found.accuracy.items) == 1 and found.tied == 1
    assert found.calibration.brier == pytest.approx(
        ((1 - sigma(2)) ** 2 + 0.5 * (1 - sigma(3)) ** 2 + 0.5 * sigma(3) ** 2) / 2
    )


def test_members_are_averaged_as_probabilities_and_their_spread_is_that_of_rewards():
    made = scores([[2.0, 0.0], [-1.0, 4.0]])
    assert made.probability == pytest.approx([(sigma(2) + sigma(-1)) / 2, (0.5 + sigma(4)) / 2])
    assert made.spread[0] == pytest.approx([abs(1 + 0.5) / math.sqrt(2), 2 / math.sqrt(2)])
    assert made.spread[1].tolist() == [0, 0]
    assert metrics(examine(pairs(1, 1), made))["spread"] == pytest.approx(made.spread.mean())


def test_a_single_member_is_never_unsure():
    assert metrics(examine(pairs(1, 1), scores([[2.0, 1.0]])))["spread"] == 0


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 50).astype(float), rng.normal(size=50)
    assert rank_correlation(a, a + 4 * b) == pytest.approx(spearmanr(a, a + 4 * b).statistic)
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1) and rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(a, np.ones(50)) == 0


@pytest.mark.parametrize(("sign", "word"), [(1, "longer"), (-1, "shorter")])
def test_a_reward_that_follows_the_length_is_told(sign, word):
    tokens = np.array([[5, 6, 7, 8], [1, 2, 3, 4]])
    made = scores([[0.0] * 4], tokens)
    made = Scores(made.raw_chosen, made.raw_rejected, sign * tokens[:1] / 9, sign * tokens[1:] / 9, made.tokens)
    found = examine(pairs(1, 1, 1, 1), made)
    assert metrics(found)["length_correlation"] == pytest.approx(sign)
    (alarm,) = alarms(found)
    assert alarm["name"] == "reward_follows_length" and f"{word} answers earn more" in alarm["detail"]
    assert f"add pairs whose {word} answer is the worse one" in alarm["detail"]


def test_a_reward_that_does_not_follow_the_length_is_not():
    rng = np.random.default_rng(1)
    found = examine(pairs(*[1] * 40), scores(rng.normal(size=(1, 40)), rng.integers(2, 30, (2, 40))))
    assert abs(metrics(found)["length_correlation"]) < LONG and alarms(found) == []


def test_what_is_written(tmp_path):
    made, judged = scores([[2.0, -1.0, 0.5], [1.0, 1.0, 1.0]], [[3, 4, 5], [6, 7, 8]]), pairs(1, 0.8, 0.5)
    write(judged, made, examine(judged, made), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["pairs"], summary["tied"], summary["members"]) == (3, 1, 2)
    assert summary["accuracy"]["n"] == 2 and set(summary["accuracy"]["slices"]) == {"part=a", "part=b"}
    assert sum(part["n"] for part in summary["calibration"]["bins"]) == 3
    rows = parquet.read_table(tmp_path / "items.parquet").to_pylist()
    assert [row["probability"] for row in rows] == pytest.approx(made.probability.tolist())
    assert [row["reward_chosen"] for row in rows] == pytest.approx([0.75, 0.0, 0.375])
    assert [(row["tokens_chosen"], row["tokens_rejected"]) for row in rows] == [(3, 6), (4, 7), (5, 8)]
    assert (
        rows[0]["chosen"] == "good 0" and rows[0]["prompt"] == "Hi" and json.loads(rows[1]["slices"]) == {"part": "b"}
    )


def test_scores_that_are_no_numbers_are_a_failure():
    with pytest.raises(StageFailed, match=r"held-out row p1 has a score that is no number"):
        examine(pairs(1, 1), scores([[1.0, math.nan]]))
