"""Task files of a user: what they stand for, what of them is in the id, and what is refused."""

from textwrap import dedent

import harness_tasks
import pytest
import yaml

from pipeline.errors import ConfigError
from stages.evaluation.harness import files
from stages.evaluation.harness.files import fingerprints, is_path, read


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(harness_tasks.write(tmp_path))
    return tmp_path


def write(folder, text, name="own.yaml", **keys):
    """A task file on the choices; `keys` replace or (None) take out keys of it."""
    plain = {**yaml.safe_load(harness_tasks.CHOICE), **keys}
    text = text or yaml.safe_dump({key: value for key, value in plain.items() if value is not None})
    (folder / name).write_text(text)
    return f"./{name}"


@pytest.mark.parametrize("tasks", ["./mine", "tasks/", "mine.yaml", "mine.yml"])
def test_a_path_is_told_from_a_name(tasks):
    assert is_path(tasks) and not is_path("hellaswag")


def test_a_folder_stands_for_all_its_tasks():
    assert [task.config["task"] for task in read("tasks/")] == ["mine_choice", "mine_last", "mine_pages", "mine_write"]
    assert [task.config["task"] for task in read("tasks/last.yaml")] == ["mine_last"]


def test_an_included_file_is_read_below_its_own_keys_and_is_no_task(folder):
    (folder / "tasks" / "common.yaml").write_text("output_type: generate_until\ndescription: Shared.\n")
    (folder / "tasks" / "b.yaml").write_text(
        "include: common.yaml\n" + yaml.safe_dump(yaml.safe_load(harness_tasks.LAST))
    )
    task = next(task for task in read("tasks/b.yaml"))
    assert task.config["description"] == "Shared." and task.config["output_type"] == "loglikelihood"
    assert [path.name for path in task.sources] == ["b.yaml", "common.yaml"]
    (folder / "tasks" / "last.yaml").unlink()
    assert "mine_last" in [task.config["task"] for task in read("tasks/")]


def test_the_version_and_every_file_are_in_the_id(folder):
    (folder / "common.yaml").write_text("description: Shared.\n")
    tasks = write(folder, "include: common.yaml\n" + dedent(harness_tasks.CHOICE))
    before = fingerprints(tasks)
    assert before.keys() == {"lm_eval", "task:own.yaml", "task:common.yaml", "file:choice.jsonl", "file:shown.jsonl"}
    for name in ("own.yaml", "common.yaml", "choice.jsonl"):
        with (folder / name).open("a") as file:
            file.write("\n")
        after = fingerprints(tasks)
        assert [key for key in before if before[key] != after[key]] == [
            next(key for key in before if key.endswith(name))
        ]
        before = after


def test_of_a_task_of_the_harness_the_version_is_in_the_id():
    assert fingerprints("hellaswag") == {"lm_eval": files.installed()}


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(files, "DISTRIBUTION", "lm_eval_that_nobody_has")
    with pytest.raises(ConfigError, match=r"extra lm_eval: pip install 'journeyman\[lm_eval\]'"):
        fingerprints("hellaswag")


def test_a_folder_of_data_is_digested_whole(folder):
    (folder / "data").mkdir()
    (folder / "data" / "test.jsonl").write_text('{"a": 1}\n')
    (task,) = read(write(folder, "", dataset_path="./data", dataset_kwargs=None))
    assert [str(path) for path in task.data] == ["data"]


def test_a_data_set_of_the_hub_needs_its_commit(folder):
    commit = "0123456789abcdef" * 2 + "01234567"
    (task,) = read(write(folder, "", dataset_path="org/name", dataset_kwargs={"revision": commit}))
    assert task.revision == commit and not task.data
    for source, revision in (("org/name", "main"), ("org/name", None), ("pandas", commit)):
        with pytest.raises(ConfigError, match="40-digit commit"):
            read(write(folder, "", dataset_path=source, dataset_kwargs={"revision": revision}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"class": "os.system"}, "class would run code"),
        ({"use_prompt": "promptsource:x"}, "use_prompt would run code"),
        ({"process_docs": "mine.py"}, "process_docs would run code"),
        ({"process_results": "mine"}, "process_results would run code"),
        ({"unsafe_code": True}, "unsafe_code would run code"),
        ({"custom_dataset": "x"}, "custom_dataset would run code"),
        ({"fewshot_config": {"process_docs": "x"}}, "fewshot_config.process_docs would run code"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "hf_evaluate would run code"),
        ({"filter_list": [{"name": "a", "filter": [{"function": "custom"}]}]}, "custom would run code"),
        ({"group": "mine", "task": ["a", "b"]}, "`group` stands for several tasks"),
        ({"dataset_kwargs": {"trust_remote_code": True}}, "trust_remote_code is refused"),
        ({"dataset_kwargs": {"data_dir": "/etc"}}, "data_dir is refused"),
        ({"dataset_kwargs": {"data_files": "https://example.org/a.jsonl"}}, "no file https://example.org/a.jsonl"),
        ({"dataset_kwargs": {"data_files": {"test": ["choice.jsonl", "gone.jsonl"]}}}, "no file gone.jsonl, seen from"),
        ({"dataset_kwargs": None}, "needs dataset_kwargs.data_files"),
        ({"dataset_path": None}, "dataset_path is missing"),
        ({"dataset_path": "jsonl"}, "no folder here; did you mean json?"),
        ({"dataset_kwargs": "x"}, "dataset_kwargs must be a mapping"),
        ({"metric_list": ["acc"]}, "metric_list must be a list of mappings"),
        ({"filter_list": [{"name": "a", "filter": "x"}]}, "filter must be a list of mappings"),
        ({"task": "a b"}, "`task` is the name"),
        ({"task": None}, "`task` is the name"),
    ],
)  # fmt: skip
def test_what_runs_code_or_is_not_fixed_is_refused(folder, keys, message):
    with pytest.raises(ConfigError, match="own.yaml: .*" + message):
        read(write(folder, "", **keys))


def test_a_function_is_refused_with_its_line_and_never_imported(folder):
    (folder / "utils.py").write_text("raise SystemExit('run')\n")
    tasks = write(folder, "task: own\ndataset_path: json\ndoc_to_text: !function utils.text\n")
    with pytest.raises(ConfigError, match=r"own.yaml, line 3: !function would run code"):
        read(tasks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [a\n", "own.yaml, line 2: not valid YAML"),
        ("- a\n", "is a mapping of keys"),
        ("task: !!python/object/apply:os.system ['x']\n", "line 1: not valid YAML"),
        ("include: own.yaml\n", "include one another in a circle"),
        ("include: gone.yaml\n", "gone.yaml: No such file"),
    ],
)
def test_a_broken_file_is_told_by_its_line(folder, text, message):
    with pytest.raises(ConfigError, match=message):
        read(write(folder, text))


def test_what_is_not_there_is_said_so(folder):
    with pytest.raises(ConfigError, match="no such file or folder, seen from"):
        read("./gone.yaml")
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match="no YAML file in this folder has a key `task`"):
        read("./empty")
    write(folder / "tasks", "", name="again.yaml")
    with pytest.raises(ConfigError, match=r"choice\.yaml: the task mine_choice is in another file"):
        read("tasks/")
