"""The diagnosis read from artifacts: which rows count, how much a point of the curve was really trained on."""

import json

import pytest

from pipeline.context import Artifact, Measured
from pipeline.errors import DataError
from stages.diagnosis.artifacts import diagnosis
from stages.evaluation.measurement import Scored
from stages.evaluation.results import SuiteResult, write


@pytest.fixture
def artifacts(tmp_path):
    """artifacts.data(name, rows), artifacts.measured(name, failing, data={...}) -> a model and its evaluation."""

    def artifact(name, kind, manifest):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        return Artifact(name, kind, name, tmp_path / name, "digest")

    class Made:
        def data(self, name, rows):
            made = artifact(name, "prepare", {})
            (made.path / "data").mkdir()
            lines = [
                {"messages": [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": "left"}]}
                for i in range(rows)
            ]
            (made.path / "data" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            return made

        def measured(self, name, failing, **manifest):
            """A model that gets the first `failing` of 40 items wrong."""
            evaluation = artifact(f"eval_{name}", "evaluate", {})
            items = [Scored(f"q{i}", f"q{i}", float(i >= failing), prompt=f"question {i}") for i in range(40)]
            write([SuiteResult("quiz", "choice", "accuracy", True, items)], evaluation.path)
            return Measured(artifact(name, "sft", manifest), evaluation)

    return Made()


def test_rows_are_counted_for_each_set_and_the_model_s_own_failures_are_diagnosed(artifacts):
    sets = {"own": artifacts.data("own", 30), "before": artifacts.data("before", 12)}
    found = diagnosis(artifacts.measured("whole", 10), sets, {})
    assert found["sets"] == {"own": 30, "before": 12}
    assert found["suites"][0]["slices"][0]["failure_rate"]["value"] == 0.25
    assert found["curve"]["why_not"] == "no model was trained on less data"


def test_a_point_stands_at_the_share_of_rows_that_were_read_not_at_the_share_that_was_asked_for(artifacts):
    whole = artifacts.measured("whole", 10, data={"rows_kept": 400})
    half = artifacts.measured("half", 16, data={"rows_kept": 240})
    found = diagnosis(whole, {"own": artifacts.data("own", 30)}, {0.5: half})
    assert found["curve"]["why_not"] == ""
    assert found["curve"]["points"] == [
        {"asked": 0.5, "share": 0.6, "rows": 240, "model": "half", "evaluation": "eval_half"},
        {"asked": 1.0, "share": 1.0, "rows": 400, "model": "whole", "evaluation": "eval_whole"},
    ]
    rates = found["suites"][0]["slices"][0]["curve"]["rates"]
    assert [(rate["share"], rate["value"]) for rate in rates] == [(0.6, 0.4), (1.0, 0.25)]


def test_rows_drawn_several_times_count_once(artifacts):
    """100 rows of the mixture are 25 different ones drawn four times, and 300 drawn less than once each."""
    mixture = {"own": {"rows": 100, "epochs": 4.0}, "old": {"rows": 300, "epochs": 0.5}}
    whole = artifacts.measured("whole", 10, data={"mixture": mixture, "rows_kept": 400})
    less = {name: {"rows": part["rows"] / 2, "epochs": part["epochs"]} for name, part in mixture.items()}
    half = artifacts.measured("half", 16, data={"mixture": less, "rows_kept": 400})
    found = diagnosis(whole, {"own": artifacts.data("own", 30)}, {0.5: half})
    assert [point["rows"] for point in found["curve"]["points"]] == [162.5, 325.0]


def test_a_model_that_does_not_say_what_it_read_is_believed_what_was_asked(artifacts):
    found = diagnosis(
        artifacts.measured("whole", 10), {"own": artifacts.data("own", 30)}, {0.25: artifacts.measured("less", 20)}
    )
    assert [point["share"] for point in found["curve"]["points"]] == [0.25, 1.0]


def test_a_stage_that_stops_before_its_data_ends_has_no_curve_and_is_told_why(artifacts):
    whole = artifacts.measured("whole", 10, data={"rows_kept": 100})
    points = {0.25: artifacts.measured("less", 11, data={"rows_kept": 95}),
              0.5: artifacts.measured("half", 10, data={"rows_kept": 100})}  # fmt: skip
    found = diagnosis(whole, {"own": artifacts.data("own", 30)}, points)
    assert found["curve"]["why_not"].startswith("the stage reads no more rows of all its data than of 25 % of it")
    assert [point["share"] for point in found["curve"]["points"]] == [None, None, 1.0]
    assert found["suites"][0]["slices"][0]["curve"] is None


def test_without_a_training_row_there_is_nothing_to_hold_failures_against(artifacts):
    whole = artifacts.measured("whole", 10)
    with pytest.raises(DataError, match="own: no training row to hold failures against"):
        diagnosis(whole, {"own": artifacts.data("own", 0)}, {})
    with pytest.raises(DataError, match="the stage: no training row"):
        diagnosis(whole, {}, {})
