"""The kind `harness`: items of tasks as a data set, before anything is trained."""

import json

import harness_tasks
import pytest

from pipeline.errors import ConfigError
from pipeline.registry import kind
from pipeline.schema import Runtime
from stages.data.contract.config import ContractConfig
from stages.evaluation.harness.tasks import load


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(harness_tasks.write(tmp_path))
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.fixture
def prepared(bench):
    """prepared(tasks, ...) -> the data set."""

    def make(tasks, **settings):
        return bench.run(bench.context("mine_items", kind("harness").config(tasks=tasks, **settings), {}, {}))

    return make


def test_every_item_is_held_out_and_counted(prepared, tmp_path):
    for name in ("pages", "write"):  # which have no metric in common with the others
        (tmp_path / "tasks" / f"{name}.yaml").unlink()
    made = prepared("tasks/")
    rows = [json.loads(line) for line in (made.artifact.path / "data" / "heldout.jsonl").open()]
    counts = {f"mine_{name}": len(harness_tasks.items()[name]) for name in ("choice", "last")}
    assert made.metrics == {"items": float(len(rows))} and made.sections["data"]["tasks"] == counts
    assert made.sections["data"]["origins"][0].startswith("mine_choice: version 2.0, items of choice.jsonl")
    assert len({row["id"] for row in rows}) == len(rows)


def test_a_metric_or_examples_that_are_not_there_end_the_command_before_training(prepared):
    with pytest.raises(ConfigError, match="metric=f1: task mine_choice has acc, acc_norm"):
        prepared("tasks/choice.yaml", metric="f1")
    with pytest.raises(ConfigError, match="task mine_last shows examples, and has none"):
        prepared("tasks/last.yaml", num_fewshot=3)


def test_a_training_row_that_is_an_item_is_a_leak(prepared, bench, base, tmp_path):
    """The item's question stands in a template there and alone in the training row."""
    item = harness_tasks.items()["choice"][8]
    rows = [{"prompt": item["question"], "response": item["choices"][item["answer"]]}]
    rows += [{"prompt": f"Where is shelf {k}?", "response": f"In row {k}, next to the stairs."} for k in range(12)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chats = bench.run(bench.context("chats", kind("prepare").config(files=["chats.jsonl"]), {}, {})).artifact
    config = kind("contract").config(kind="contract", stage="sft", max_length=64, contract=ContractConfig())
    sets = {"train": chats, "measured_mine_items": prepared("tasks/choice.yaml").artifact}
    made = bench.run(bench.context("check_sft", config, {"start": base}, sets))
    (leak,) = (found for found in made.sections["findings"] if found["code"] == "evaluation_leak")
    assert leak["count"] == 1 and "task mine_choice, line 9" in leak["examples"][0]["text"]


@pytest.mark.parametrize("setting", [{"inputs": {"a": "b"}}, {"data": {"a": "b"}}, {"runtime": Runtime(threads=2)}])
def test_what_it_would_not_read_is_refused(setting):
    with pytest.raises(ConfigError, match="no `inputs` and no `data`, and of `runtime` `stall_minutes` alone"):
        kind("harness").stage().validate(kind("harness").config(tasks="x", **setting))
