"""What counts as a failure, for every kind of metric."""

import numpy as np
import pytest

from pipeline.errors import DataError
from stages.diagnosis.failures import failures, read
from stages.evaluation.measurement import Scored
from stages.evaluation.results import SuiteResult, write


@pytest.mark.parametrize(
    ("metric", "higher", "scores", "failed"),
    [
        ("accuracy", True, [1, 0, 1], [0, 1, 0]),
        ("over_refusal_rate", False, [1, 0, 0], [1, 0, 0]),
        ("agreement", True, [0.75, 1.0], [0.25, 0.0]),
        ("drop", False, [1, -1, 0], [1, 0, 0]),  # what a change won is no failure
    ],
)
def test_shares_are_what_is_missing_or_what_there_is_of_something_bad(metric, higher, scores, failed):
    found, bar = failures(np.array(scores, dtype=float), metric, higher)
    assert found.tolist() == failed and bar is None


def test_losses_without_an_end_fail_from_the_third_quartile_on_and_other_models_by_the_same_bar():
    losses = np.arange(1.0, 9.0)
    found, bar = failures(losses, "perplexity", False)
    assert found.sum() == 2 and bar == np.quantile(losses, 0.75)
    assert failures(losses + 2, "perplexity", False, bar)[0].sum() == 4


def test_small_losses_of_perplexity_are_no_shares():
    assert failures(np.array([0.1, 0.2, 0.3, 0.4]), "perplexity", False)[1] is not None


def evaluation(folder, scores, order=1):
    items = [
        Scored(f"q{i}", f"c{i // 2}", score, slices={"level": i, "seen": i > 1}, prompt=f"Question {i}", answer="a",
               reference="b")
        for i, score in enumerate(scores)
    ][::order]  # fmt: skip
    write([SuiteResult("quiz", "choice", "accuracy", True, items)], folder)
    return folder


def test_an_evaluation_is_read_item_by_item(tmp_path):
    suite = read(evaluation(tmp_path, [1.0, 0.0, 0.0]))["quiz"]
    assert (suite.ids, suite.clusters, suite.failed.tolist()) == (["q0", "q1", "q2"], ["c0", "c0", "c1"], [0, 1, 1])
    assert suite.columns[2] == {"level": "2", "seen": "true"} and suite.prompts[1] == "Question 1"
    assert (suite.answers[0], suite.references[0], suite.metric) == ("a", "b", "accuracy")


def test_a_point_of_the_curve_has_the_order_of_the_whole_and_the_same_items(tmp_path):
    whole = read(evaluation(tmp_path / "whole", [1.0, 0.0, 0.0]))
    point = read(evaluation(tmp_path / "point", [0.0, 1.0, 0.0], order=-1), whole)["quiz"]
    assert point.ids == ["q0", "q1", "q2"] and point.failed.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="quiz: a point of the learning curve was measured on other items"):
        read(evaluation(tmp_path / "other", [0.0, 1.0]), whole)
