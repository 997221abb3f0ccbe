"""Tasks as they are loaded, and their items as rows."""

import json
import sys

import harness_tasks
import pytest

from pipeline.errors import ConfigError, DataError
from stages.data.said import texts
from stages.evaluation.harness import tasks as harness
from stages.evaluation.harness.items import rows
from stages.evaluation.harness.scores import chosen
from stages.evaluation.harness.tasks import load


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(harness_tasks.write(tmp_path))
    load.cache_clear()
    yield tmp_path
    load.cache_clear()


def rewrite(folder, name, *changes):
    """The task file with texts in it replaced."""
    path = folder / "tasks" / f"{name}.yaml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    load.cache_clear()
    return f"tasks/{name}.yaml"


# -- loading --------------------------------------------------------------------------------------------------------
def test_a_folder_of_tasks_is_loaded_with_its_sources():
    found = load("tasks/")
    assert list(found.tasks) == ["mine_choice", "mine_last", "mine_pages", "mine_write"]
    assert found.origins()[:2] == [
        f"mine_choice: version 2.0, items of choice.jsonl, shown.jsonl, by lm_eval {harness.installed()}",
        f"mine_last: version none, items of last.jsonl, by lm_eval {harness.installed()}",
    ]


def test_a_template_cannot_run_code(folder, capfd):
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    path = rewrite(folder, "choice", ("Question: {{question}}", escape))
    with pytest.raises(ConfigError, match=r"choice\.yaml: the harness cannot make a task of it: SecurityError"):
        load(path)


def test_templates_have_the_filters_of_the_harness(folder):
    path = rewrite(folder, "last", ("{{beginning}}", "{{ beginning | regex_replace('e', 'E') }}"))
    (task,) = load(path).tasks.values()
    assert task.doc_to_text({"beginning": "the licence"}) == "thE licEncE"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("metric: acc,", "metric: acx,"), "the harness has no metric 'acx'; did you mean acc?"),
        (("{{question}}", "{{qestion}}"), "cannot make a task of it: UndefinedError: 'qestion' is undefined"),
        (("output_type: multiple_choice", "output_tipe: x"), "unexpected keyword argument 'output_tipe'"),
        (("test_split: test", "test_split: tset"), "cannot make a task of it: KeyError"),
    ],
)
def test_what_the_harness_cannot_use_is_told_with_the_file(folder, change, message):
    with pytest.raises(ConfigError, match="choice.yaml: .*" + message.replace("?", r"\?")):
        load(rewrite(folder, "choice", change))


def test_examples_are_set_where_there_are_others_than_the_measured_items(folder):
    assert load("tasks/choice.yaml", 2).tasks["mine_choice"].config.num_fewshot == 2
    assert load("tasks/choice.yaml").tasks["mine_choice"].config.num_fewshot is None
    refused = "shows examples, and has none but the items that are measured"
    with pytest.raises(ConfigError, match=f"mine_last {refused}"):
        load("tasks/last.yaml", 1)
    with pytest.raises(ConfigError, match=f"mine_last {refused}"):
        load(rewrite(folder, "last", ("output_type", "num_fewshot: 1\nfewshot_split: test\noutput_type")))
    path = rewrite(folder, "choice", ("metadata:", "num_fewshot: 0\nmetadata:"))
    with pytest.raises(ConfigError, match="mine_choice is one that shows no examples"):
        load(path, 2)


# -- tasks of the harness itself --------------------------------------------------------------------------------------
class Manager:
    """Stands for the index of 15,000 files."""

    all_tasks = ["hellaswag", "mmlu"]

    def __init__(self, error=None, loaded=None):
        self.error, self.loaded = error, loaded

    def load(self, names):
        if self.error:
            raise self.error
        return self.loaded


def test_an_unknown_name_is_told_with_the_nearest(monkeypatch):
    monkeypatch.setattr(harness, "_manager", Manager)
    with pytest.raises(
        ConfigError, match=r"no task 'helaswag'; did you mean hellaswag\? .* written as a path: ./helaswag"
    ):
        load("helaswag")


def test_without_network_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setattr(harness, "_manager", lambda: Manager(ConnectionError("Couldn't reach the Hub.")))
    with pytest.raises(DataError, match=r"ConnectionError: Couldn't reach the Hub\. .* go online once .*local data"):
        load("mmlu")


def test_a_group_gives_its_tasks_a_slice(monkeypatch):
    own = load("tasks/")
    loaded = {"tasks": dict(list(own.tasks.items())[:2]), "group_map": {"mmlu": ["mine_choice"]}}
    monkeypatch.setattr(harness, "_manager", lambda: Manager(loaded=loaded))
    found = load("mmlu")
    slices = {row["task"]: row["slices"] for row in rows(found)}
    assert slices == {"mine_choice": {"group": "mmlu"}, "mine_last": {}}
    assert found.origins()[0].startswith("mmlu: version 2.0, items of json, by lm_eval")


@pytest.mark.parametrize(("flag", "message"), [("UNSAFE_CODE", "runs code that the model"), ("MULTIMODAL", "pictures")])
def test_tasks_that_run_code_or_show_pictures_are_refused(monkeypatch, flag, message):
    (task,) = load("tasks/last.yaml").tasks.values()
    monkeypatch.setattr(task, flag, True, raising=False)
    monkeypatch.setattr(harness, "_manager", lambda: Manager(loaded={"tasks": {"mmlu": task}, "group_map": {}}))
    with pytest.raises(ConfigError, match=message):
        load("mmlu")


# -- metrics ----------------------------------------------------------------------------------------------------------
def test_the_metric_is_the_first_of_the_task_or_the_one_that_is_named(folder):
    assert chosen(load("tasks/choice.yaml"), "").name == "acc"
    assert chosen(load("tasks/choice.yaml"), "acc_norm").key == "acc_norm"
    pages = chosen(load("tasks/pages.yaml"), "")
    assert (pages.name, pages.called, pages.higher_is_better) == ("word_perplexity", "perplexity", False)
    filters = (
        "filter_list:\n  - {name: strict, filter: [{function: take_first}]}\n"
        "  - {name: loose, filter: [{function: lowercase}, {function: take_first}]}\nmetric_list:"
    )
    path = rewrite(folder, "write", ("metric_list:", filters))
    assert chosen(load(path), "").key == "exact_match,strict"
    assert chosen(load(path), "exact_match,loose").filter == "loose"


def test_a_metric_that_is_not_there_is_told_with_those_that_are(folder):
    with pytest.raises(ConfigError, match="metric=f1: task mine_choice has acc, acc_norm; numbers of a whole set"):
        chosen(load("tasks/choice.yaml"), "f1")
    with pytest.raises(ConfigError, match="metric: task mine_pages has no acc, only word_perplexity"):
        chosen(load("tasks/"), "acc")
    path = rewrite(folder, "choice", ("metric: acc,", "metric: f1,"), ("aggregation: mean", "aggregation: f1"),
                   ("  - {metric: acc_norm, aggregation: f1, higher_is_better: true}\n", ""))  # fmt: skip
    with pytest.raises(ConfigError, match="has no metric that is a mean over its items"):
        chosen(load(path), "")


# -- items ------------------------------------------------------------------------------------------------------------
def test_a_row_says_what_is_asked_and_answered_and_keeps_plain_columns():
    row = next(rows(load("tasks/choice.yaml")))
    item = harness_tasks.items()["choice"][0]
    assert texts(row) == ([item["question"]], [item["choices"][item["answer"]]])
    assert (row["task"], row["place"], row["level"]) == ("mine_choice", 0, "easy")
    assert "choices" not in row and row["origin"] == {"file": "task mine_choice", "line": 1}


def test_a_text_that_asks_nothing_is_a_document():
    row = next(rows(load("tasks/pages.yaml")))
    assert texts(row) == ([harness_tasks.items()["pages"][0]["page"]], [])


def test_the_question_is_what_its_columns_say_wherever_a_template_puts_them(folder):
    path = rewrite(folder, "choice", ("Question: {{question}}", "{{question}} ({{level}}) is the question."))
    assert texts(next(rows(load(path))))[0] == [harness_tasks.items()["choice"][0]["question"]]


def test_an_id_names_the_item_and_its_content(folder):
    before = [row["id"] for row in rows(load("tasks/last.yaml"))]
    items = harness_tasks.items()["last"]
    items[2]["last"] = "another"
    (folder / "last.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    load.cache_clear()
    after = [row["id"] for row in rows(load("tasks/last.yaml"))]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, True, True, True]
    assert before[0].startswith("mine_last:0:")


def test_an_item_that_the_task_cannot_read_is_told_by_its_place(folder):
    items = [
        {**item, "choices": item["choices"] if k != 3 else None}
        for k, item in enumerate(harness_tasks.items()["choice"])
    ]
    (folder / "choice.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    with pytest.raises(DataError, match="task mine_choice, item 4: the task cannot read it"):
        list(rows(load("tasks/choice.yaml")))


def test_columns_of_an_item_do_not_pass_for_fields_of_a_row(folder):
    extra = {"id": 7, "text": "Not this.", "chosen": "Nor this.", "cluster": 5, "a": "no"}
    items = [{**item, **extra} for item in harness_tasks.items()["choice"]]
    (folder / "choice.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    row = next(rows(load("tasks/choice.yaml")))
    assert row["id"].startswith("mine_choice:0:") and row["cluster"] == "5" and not {"text", "chosen", "a"} & row.keys()
    assert texts(row)[0] == [items[0]["question"]]


def test_reading_files_needs_no_harness():
    """What a command reads before it knows whether there is anything to do."""
    import subprocess

    code = (
        "import sys; from stages.evaluation import MEASUREMENTS\n"
        "from stages.evaluation.harness.files import fingerprints\n"
        "fingerprints('tasks/'); assert not {'torch', 'lm_eval', 'datasets'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
