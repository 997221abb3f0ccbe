"""The three result files."""

import json

import pytest
from pyarrow import parquet

from pipeline.errors import StageFailed
from stages.evaluation.measurement import Scored
from stages.evaluation.results import SuiteResult, write


def result(scores, **more):
    items = [
        Scored(f"i{k}", f"c{k // 2}", float(s), slices={"seen": k % 2 == 0}, prompt=f"p{k}", answer=f"a{k}",
               reference="r", baselines={"majority": float(k < 3)}) for k, s in enumerate(scores)
    ]  # fmt: skip
    return SuiteResult("facts", "choice", "accuracy", True, items, **more)


def test_files_hold_items_summary_and_samples(tmp_path):
    metrics = write([result([1, 0, 1, 1, 0, 1])], tmp_path)
    assert metrics == {"facts": pytest.approx(4 / 6)}
    table = parquet.read_table(tmp_path / "results" / "items.parquet")
    assert table.column_names == [
        "suite",
        "item",
        "cluster",
        "score",
        "weight",
        "slices",
        "values",
        "prompt",
        "answer",
        "reference",
    ]
    assert table.to_pylist()[1] == {
        "suite": "facts", "item": "i1", "cluster": "c0", "score": 0.0, "weight": 1.0, "slices": '{"seen": false}',
        "values": "{}",
        "prompt": "p1", "answer": "a1", "reference": "r",
    }  # fmt: skip
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())["facts"]
    assert (summary["measure"], summary["metric"], summary["n"], summary["clusters"]) == ("choice", "accuracy", 6, 3)
    assert summary["low"] <= summary["value"] <= summary["high"] and summary["higher_is_better"] is True
    assert summary["baselines"] == {"majority": 0.5}
    assert summary["slices"]["seen=true"]["n"] == 3 and summary["slices"]["seen=true"]["value"] == pytest.approx(2 / 3)
    samples = json.loads((tmp_path / "results" / "samples.json").read_text())["facts"]
    assert [sample["item"] for sample in samples] == ["i0", "i2", "i5"]
    assert samples[0] == {"item": "i0", "prompt": "p0", "answer": "a0", "reference": "r", "score": 1.0}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_suites_show_each_item_once(tmp_path, count):
    write([result([1] * count)], tmp_path)
    samples = json.loads((tmp_path / "results" / "samples.json").read_text())["facts"]
    assert len({sample["item"] for sample in samples}) == len(samples) == count


def test_the_same_results_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write([result([1, 0, 1, 1])], tmp_path / name)
    for file in ("items.parquet", "summary.json", "samples.json"):
        assert (tmp_path / "a/results" / file).read_bytes() == (tmp_path / "b/results" / file).read_bytes()


def test_a_score_that_is_no_number_fails_the_stage(tmp_path):
    with pytest.raises(StageFailed, match="suite facts: item i1 has score nan"):
        write([result([1, float("nan")])], tmp_path)
