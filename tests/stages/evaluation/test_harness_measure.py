"""The measurement `harness`: items, further numbers, what a person reads, and a whole evaluation of a chain."""

import harness_tasks
import pytest

from pipeline.errors import ConfigError, StageFailed
from pipeline.registry import kind
from pipeline.schema import Runtime, Suite
from stages.evaluation.harness.items import rows
from stages.evaluation.harness.measure import Harness, HarnessParams
from stages.evaluation.harness.tasks import load
from stages.evaluation.measurement import read_params


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(harness_tasks.write(tmp_path))
    load.cache_clear()
    yield tmp_path
    load.cache_clear()


def measured(policy, path, pick=None, **params):
    params = HarnessParams(tasks=path, **params)
    chosen = list(rows(load(path)))
    return Harness().run(policy, chosen if pick is None else [chosen[k] for k in pick], params, 0)


def test_some_items_score_as_they_do_among_all(policy):
    every = measured(policy, "tasks/choice.yaml")
    some = measured(policy, "tasks/choice.yaml", pick=[5, 2])
    assert [item.item for item in some] == [every[5].item, every[2].item]
    for one, other in zip(some, (every[5], every[2]), strict=True):
        assert (one.score, one.answer) == (other.score, other.answer)
        assert one.values == pytest.approx(other.values)


def test_an_item_shows_the_choice_that_the_metric_takes(policy):
    for metric in ("acc", "acc_norm"):
        for item, source in zip(
            measured(policy, "tasks/choice.yaml", metric=metric), harness_tasks.items()["choice"], strict=True
        ):
            assert item.score == float(item.answer == item.reference)
            assert item.reference == source["choices"][source["answer"]] and item.answer in source["choices"]
            assert item.prompt == f"Question: {source['question']}\nAnswer:"
            assert item.values.keys() == {"cut", "log_likelihood", "acc" if metric == "acc_norm" else "acc_norm"}


def test_texts_weigh_what_they_are_long(policy):
    items = measured(policy, "tasks/pages.yaml", metric="byte_perplexity")
    pages = [item["page"] for item in harness_tasks.items()["pages"]]
    assert [item.weight for item in items] == [len(page.encode()) for page in pages]
    assert [item.values["word_perplexity weight"] for item in items] == [len(page.split()) for page in pages]
    assert all(item.score * item.weight == pytest.approx(-item.values["log_likelihood"]) for item in items)


def test_tasks_of_a_folder_are_slices_of_a_suite(policy, folder):
    for name in ("pages", "write"):
        (folder / "tasks" / f"{name}.yaml").unlink()
    items = measured(policy, "tasks/", metric="acc")
    assert {item.slices["task"] for item in items} == {"mine_choice", "mine_last"}


def test_items_that_changed_since_they_were_prepared_are_refused(policy, folder):
    before = list(rows(load("tasks/last.yaml")))
    text = (folder / "last.jsonl").read_text().splitlines()
    (folder / "last.jsonl").write_text("\n".join(text[1:]) + "\n")
    load.cache_clear()
    with pytest.raises(StageFailed, match="of task mine_last have changed since they were prepared: mine_last:0"):
        Harness().run(policy, before, HarnessParams(tasks="tasks/last.yaml"), 0)


def test_what_fails_inside_the_harness_is_told_in_one_line(policy, folder):
    path = folder / "tasks" / "write.yaml"
    path.write_text(path.read_text().replace("do_sample: false", "do_sample: false, temperature: 0.0, num_beams: 3"))
    with pytest.raises(Exception, match=r"generation_kwargs\.num_beams is not supported"):
        measured(policy, "tasks/write.yaml")


def test_a_model_without_a_template_cannot_be_asked_in_it(policy, monkeypatch):
    monkeypatch.setattr(policy.tokenizer, "chat_template", None)
    with pytest.raises(ConfigError, match="chat_template: the model has none"):
        measured(policy, "tasks/choice.yaml", chat_template=True)


@pytest.mark.parametrize(
    ("params", "message"),
    [({}, "params.tasks: name a task"), ({"tasks": "a", "shots": 1}, "shots: no such parameter"),
     ({"tasks": ["a"]}, "expected str"), ({"tasks": "a", "num_fewshot": -2}, "at least -1")],
)  # fmt: skip
def test_wrong_params_are_told(params, message):
    with pytest.raises(ConfigError, match=message):
        read_params(HarnessParams, params, "params")


# -- in an evaluation --------------------------------------------------------------------------------------------------
@pytest.fixture
def evaluated(bench):
    """evaluated(model, suites) -> summary, on items prepared as the engine does it."""
    import json

    from pipeline.config.suites import complete_suites

    def run(model, **suites):
        from pipeline.schema import Evaluation

        asked = Evaluation(suites=suites)
        sets = {
            name: bench.run(bench.context(name, kind(made["kind"]).config(**made), {}, {})).artifact
            for name, made in complete_suites(asked, {}).items()
        }
        config = kind("evaluate").config(kind="evaluate", suites=asked.suites, runtime=Runtime(threads=1, device="cpu"))
        kind("evaluate").stage().validate(config)
        done = bench.run(bench.context("eval_x", config, {"model": model}, sets))
        return json.loads((done.artifact.path / "results" / "summary.json").read_text())

    return run


def test_an_evaluation_takes_limit_and_columns_as_of_any_suite(evaluated, base):
    suite = Suite("harness", params={"tasks": "tasks/choice.yaml", "num_fewshot": 1}, limit=6, slices=["level"])
    found = evaluated(base, mine=suite)["mine"]
    assert found["metric"] == "acc" and found["n"] == 6
    assert {"level=easy", "level=hard", "task=mine_choice"} <= found["slices"].keys()
    assert found["details"]["metrics"]["acc_norm"]["n"] == 6


def test_every_adapter_of_the_chain_has_its_say(evaluated, base, sft, dpo):
    pages = Suite("harness", params={"tasks": "tasks/pages.yaml"})
    values = [evaluated(model, mine=pages)["mine"]["value"] for model in (base, sft.artifact, dpo.artifact)]
    assert len(set(values)) == 3


def test_the_page_shows_a_task_and_a_suite_that_run(policy, folder):
    import re
    from pathlib import Path

    import yaml

    page = (Path(__file__).parents[3] / "docs" / "harness.md").read_text()
    for name, text in re.findall(r"^```\w+ (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shown = yaml.safe_load((folder / "conf" / "experiment" / "exam.yaml").read_text())["eval"]["suites"]["exam"]
    items = measured(policy, **{"path" if key == "tasks" else key: value for key, value in shown["params"].items()})
    assert [item.reference for item in items] == ["Both who counted", "No"]
    assert items[0].prompt.count("Question: ") == 3
