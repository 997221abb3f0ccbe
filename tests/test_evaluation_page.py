"""docs/evaluation.md and docs/constraints.md: what they show is run, what they list is complete."""

import dataclasses
import inspect
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.errors import DataError
from pipeline.schema import Runtime, Suite
from stages.evaluate import Evaluate, EvaluateConfig
from stages.evaluation import MEASUREMENTS, own_checks
from stages.evaluation.checks import RULES, passes, problem
from stages.evaluation.constraints import TYPES

DOCS = Path(__file__).parent.parent / "docs"
PAGE, CONSTRAINTS = ((DOCS / f"{name}.md").read_text() for name in ("evaluation", "constraints"))
FENCE = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.M | re.S)
FILES = {name: text for _, name, text in FENCE.findall(PAGE) if name}  # the last one of a name is the good one
BROKEN = re.findall(r"^```jsonl (\S+)\n(.*?)^```\n```text\n(.*?)^```$", PAGE, re.M | re.S)


def rows(text, heading):
    """Cells of the table under this line."""
    table = text.partition(heading)[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


@pytest.fixture
def exam(tmp_path, monkeypatch):
    """exam() -> the page's experiment, in a folder with the page's files."""
    from pipeline.config.load import load

    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))
    return lambda: load(["experiment=exam", "model.source=toy"]).experiment


def evaluated(bench, base, experiment):
    """The summary of the experiment's suites on the toy model."""
    sets = {}
    for name, config in experiment.data.items():
        sets[name] = bench.run(bench.context(name, config, {}, {})).artifact
    config = EvaluateConfig(kind="evaluate", suites=experiment.eval.suites, runtime=Runtime(device="cpu", threads=1))
    Evaluate().validate(config)
    made = bench.run(bench.context("eval_base", config, {"model": base}, sets)).artifact
    return json.loads((made.path / "results" / "summary.json").read_text())


def test_the_suites_of_the_page_are_measured(exam, bench, base):
    found = evaluated(bench, base, exam())
    assert {suite["measure"] for suite in found.values()} == {
        "perplexity", "choice", "generate", "constraints", "classification", "overlap",
    }  # fmt: skip
    lines = {name: text.count("\n") for name, text in FILES.items()}
    assert all(suite["n"] == lines[f"data/{name.partition('_')[0]}.jsonl"] for name, suite in found.items())
    assert found["quiz"]["slices"].keys() >= {"level=easy", "level=hard"}
    assert "bits_per_byte" in found["manual"]["details"]["metrics"]
    assert found["orders"]["details"]["metrics"].keys() == {"instruction_strict", "prompt_loose", "instruction_loose"}
    assert {"f1_macro", "f1_weighted", "recall invoice"} <= found["mail"]["details"]["metrics"].keys()
    assert {"corpus_bleu", "corpus_chrf", "rougeL"} <= found["phrases"]["details"]["metrics"].keys()


def test_a_broken_item_prints_what_the_page_says(exam):
    from stages.prepare import collect

    ((file, text, message),) = BROKEN
    experiment = exam()
    Path(file).write_text(text)
    with pytest.raises(DataError) as caught:
        collect(experiment.data["tasks"])
    assert f"error: data.tasks: {str(caught.value).splitlines()[0]}" == message.strip()


def test_every_measurement_is_in_the_table_with_what_its_items_need():
    listed = {}
    for _, names, needs, metric in rows(PAGE, "and gates and the report follow from those.\n\n"):
        for name in re.findall(r"`(\w+)`", names):
            listed[name] = (set(re.findall(r"`(\w+)`", needs)), set(re.findall(r"`(\w+)`", metric)))
    assert listed.keys() == MEASUREMENTS.keys()
    for name, (needs, metrics) in listed.items():
        # Some ask through another one, the harness brings its items itself.
        if name not in ("consistency", "robustness", "calibration", "harness"):
            assert needs == set(MEASUREMENTS[name].fields), name
            assert MEASUREMENTS[name].metric(MEASUREMENTS[name].params())[0] in metrics, name


def test_every_check_is_in_the_table_with_its_keys():
    listed = {}
    for names, keys, _ in rows(PAGE, "says whether that is right.\n\n"):
        for name in re.findall(r"`(\w+)`", names):
            listed[name] = set(re.findall(r"`(\w+)", keys))
    assert listed.pop("contains") == listed.pop("contains_any") == {"all", "any", "ignore_case"}
    assert listed == {name: {*rule.required, *rule.optional} for name, rule in RULES.items() if "contains" not in name}


def test_every_constraint_is_in_the_table_as_its_docstring_says():
    listed = {kind.strip("`"): (keys, told) for kind, keys, told in rows(CONSTRAINTS, "keeps to nothing.\n\n")}
    assert list(listed) == list(TYPES)
    for name, (keys, told) in listed.items():
        kind = TYPES[name]
        assert re.findall(r"`(\w+)", keys) == [field.name for field in dataclasses.fields(kind)], name
        assert told == " ".join(inspect.cleandoc(kind.__doc__).split()), name


def test_the_number_of_types_that_are_held_against_the_papers_code():
    text = (Path(__file__).parent / "stages" / "evaluation" / "test_constraints_reference.py").read_text()
    same = text.partition("SAME = [")[2].partition("def test_where_we_differ")[0]
    compared = set(re.findall(r'"type": "(\w+)"', same))
    assert f"On random texts {len(compared)} of them" in CONSTRAINTS


def test_the_checker_of_the_page_works(monkeypatch):
    (declared,) = [text for kind, _, text in FENCE.findall(PAGE) if kind == "toml"]
    points = tomllib.loads(declared)["project"]["entry-points"]["journeyman.checks"]
    (item,) = [json.loads(text) for kind, _, text in FENCE.findall(PAGE) if kind == "json"]
    scope = {}
    exec(FILES["acme/checks.py"], scope)
    own_checks.found.cache_clear()
    installed = [Point(name, scope[target.partition(":")[2]]) for name, target in points.items()]
    monkeypatch.setattr(own_checks, "entry_points", lambda group: installed)
    assert problem(item["check"]) == ""
    assert passes(item["check"], "f(g(x))") and not passes(item["check"], "f(g(x)")
    own_checks.found.cache_clear()


class Point:
    """An installed entry point."""

    dist = None

    def __init__(self, name, function):
        self.name, self.load = name, lambda: function


def test_the_measurement_of_the_page_works(exam, bench, base, monkeypatch):
    module = ModuleType("brevity")
    monkeypatch.setitem(sys.modules, "brevity", module)  # where a dataclass looks for the names of its types
    exec(FILES["stages/evaluation/brevity.py"], vars(module))
    monkeypatch.setitem(MEASUREMENTS, "brevity", module.Brevity())
    experiment = exam()
    experiment.eval.suites = {"short": Suite("brevity", "tasks", params={"max_new_tokens": 4})}
    found = evaluated(bench, base, experiment)["short"]
    assert (found["metric"], found["higher_is_better"], found["n"]) == ("words", False, 3) and found["value"] <= 4
