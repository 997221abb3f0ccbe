"""`journeyman compare`: what can be named, what is said of the differences, sweeps, the page, and mistakes."""

import json
from pathlib import Path

import pytest
from pyarrow import parquet
from report_fixture import SECONDS, whole_run
from test_report import EVIL, Nesting

from pipeline.compare import compare, find
from pipeline.judging.results import Results
from pipeline.judging.statistics import paired_change
from pipeline.report import write_comparison
from pipeline.store import Store


@pytest.fixture
def comparing(journeyman, project):
    """comparing("chain", "chain:first", ...) after one run of the experiment `chain`."""
    assert journeyman("run").code == 0
    return lambda *words: journeyman("compare", *words, experiment=None)


def stage(project, name):
    """What the latest run says about a stage."""
    return json.loads((project.store / "runs" / "chain" / "latest" / "run.json").read_text())["stages"][name]


# -- what can be named --------------------------------------------------------------------------------------------
def test_a_model_is_named_by_experiment_stage_run_folder_pin_or_id(comparing, journeyman, project):
    journeyman("pins", "set", "best", "second")
    latest = (project.store / "runs" / "chain" / "latest").resolve()
    second = stage(project, "second")["id"]
    named = ["chain:second", latest.name, latest.name[:-3], str(latest), f"{latest}:second", "best", second, second[:8]]
    found = comparing("chain", *named, "--json")
    assert found.code == 0
    assert [model["id"] for model in found.json["models"]] == [second] * 9
    assert {cell["change"]["change"] for suite in found.json["suites"] for cell in suite["cells"][1:]} == {0.0}


def test_terminal_shows_values_and_changes_against_the_first(comparing):
    found = comparing("chain:first", "chain")
    assert found.code == 0 and "quiz (higher is better;" in found.out
    assert "chain:first  400.0 %" in found.out and "+400.0 pts (+400.0 to +400.0) better" in found.out


def test_unknown_names_are_answered_with_the_nearest_and_with_what_there_is(comparing, journeyman):
    journeyman("pins", "set", "best", "second")
    wrong = comparing("chian", "chain")
    assert wrong.code == 2 and "did you mean 'chain'?" in wrong.err and "pins: best" in wrong.err
    assert "measured no 'secnd' (did you mean 'second'?)" in comparing("chain:secnd", "chain").err
    assert comparing("chain:secnd", "chain").code == 2


def test_mistakes_are_one_message(comparing, journeyman, project, tmp_path):
    assert "compare A B" in comparing("chain").err and comparing("chain").code == 2
    assert "compare takes names" in comparing("chain", "chain", "stages.second.add=2").err
    assert "no evaluation of it is in the store" in comparing(stage(project, "facts")["id"], "chain").err
    assert "a folder that exists" in comparing("chain", "chain", "--out", "nowhere/page.html").err
    assert "no such suite (did you mean 'quiz'?)" in comparing("chain", "chain", "--rank", "quizz").err
    assert "is of none" in comparing("chain", "--rank", "quiz").err
    journeyman("pins", "set", "chain", "first")
    assert "is a run or an experiment and a pin" in comparing("chain", "chain:first").err


def test_a_run_that_measured_nothing_cannot_be_compared(comparing, journeyman):
    assert journeyman("run", "eval.models=[]", "gates={}").code == 0
    wrong = comparing("chain", "chain:first")
    assert wrong.code == 2 and "measured no model" in wrong.err


# -- differences --------------------------------------------------------------------------------------------------
def test_intervals_are_those_of_the_paired_bootstrap(tmp_path):
    run_dir, store = whole_run(tmp_path), Store(tmp_path)
    models = [find(f"{run_dir}:{name}", store) for name in ("sft", "dpo", "base")]
    found = compare(models)
    read = [Results(model.node.evaluation.folder) for model in models]
    for suite in ("domain_perplexity", "preference"):
        metric = read[0].summary[suite]["metric"]
        for place in (1, 2):
            expected = paired_change(read[place].items(suite), read[0].items(suite), metric)
            assert found.suites[suite][place][1] == (expected.change, expected.low, expected.high)
    assert found.suites["preference"][0][1] is None
    again = compare(models)  # from the cache
    assert again.suites == found.suites


def test_wall_seconds_are_those_of_the_model_and_all_it_was_made_from(tmp_path):
    run_dir = whole_run(tmp_path)
    manifest = tmp_path / json.loads((run_dir / "run.json").read_text())["stages"]["sft"]["path"] / "manifest.json"
    read = json.loads(manifest.read_text())
    read["inputs"]["reference"] = read["inputs"]["policy"]  # it counts once
    manifest.write_text(json.dumps(read))
    sft = find(f"{run_dir}:sft", Store(tmp_path)).json()
    assert sft["seconds"] == pytest.approx(SECONDS["base"] + SECONDS["legal_sft"] + SECONDS["sft"])
    assert sft["run_seconds"] == json.loads((run_dir / "run.json").read_text())["seconds"]


def test_a_cell_says_why_there_is_no_change(tmp_path):
    run_dir, store = whole_run(tmp_path), Store(tmp_path)
    sft, dpo = (find(f"{run_dir}:{name}", store) for name in ("sft", "dpo"))
    summary = dpo.node.evaluation.folder / "results" / "summary.json"
    changed = json.loads(summary.read_text())
    changed["new_suite"] = changed["refusal"]
    del changed["compatibility"]
    changed["preference"]["metric"] = "accuracy"
    summary.write_text(json.dumps(changed))
    items = dpo.node.evaluation.folder / "results" / "items.parquet"
    table = parquet.read_table(items)
    parquet.write_table(table.filter([item != "refusal-3" for item in table.column("item").to_pylist()]), items)
    cells = {one["suite"]: one["cells"][1] for one in compare([sft, dpo]).json()["suites"]}
    assert cells["compatibility"] is None
    assert cells["new_suite"]["reason"].endswith("sft was not measured on it")
    assert "measured by preference_accuracy, the other by accuracy" in cells["preference"]["reason"]
    assert "not measured on the same items" in cells["refusal"]["reason"] and cells["refusal"]["change"] is None
    assert cells["over_refusal"]["reason"] == "" and cells["over_refusal"]["change"]["low"] is not None


# -- sweeps -------------------------------------------------------------------------------------------------------
def test_runs_of_a_multirun_are_ranked_with_intervals_against_the_best(comparing, journeyman):
    assert journeyman("run", "-m", "stages.second.add=1,3,2").code == 0
    found = comparing("chain", "--rank", "quiz", "--json")
    assert [model["name"] for model in found.json["models"]] == [f"stages.second.add={n}" for n in (3, 2, 1)]
    (quiz,) = found.json["suites"]
    assert [cell["value"] for cell in quiz["cells"]] == [16.0, 12.0, 8.0]
    assert [cell["change"]["change"] for cell in quiz["cells"][1:]] == [-4.0, -8.0]
    assert "favoured by luck" in found.err  # people's text goes to stderr with --json


def test_runs_outside_the_multirun_are_left_out_and_cells_without_results_are_named(comparing, journeyman):
    assert journeyman("run", "-m", "gates={}", "eval.models=null,[]").code == 0
    found = comparing("chain", "--rank", "quiz", "--json").json
    assert [model["name"] for model in found["models"]] == ["eval.models=null"]
    assert list(found["without"]) == ["eval.models=[]"] and "measured no model" in found["without"]["eval.models=[]"]


def test_named_models_are_ranked_too(comparing):
    found = comparing("chain:first", "chain:base", "chain", "--rank", "quiz", "--json").json
    assert [model["name"] for model in found["models"]] == ["chain", "chain:first", "chain:base"]


# -- the page -----------------------------------------------------------------------------------------------------
def test_page_stands_alone_and_shows_what_the_terminal_shows(comparing, tmp_path):
    page = tmp_path / "comparison.html"
    assert comparing("chain:first", "chain", "--out", str(page)).code == 0
    parser = Nesting()
    parser.feed(page.read_text())
    assert parser.open == [] and not {"script", "link", "img"} & {tag for tag, _ in parser.seen}
    assert "+400.0 pts" in page.read_text() and "chain:first" in page.read_text()


def test_nothing_in_the_page_can_become_markup(tmp_path: Path) -> None:
    run_dir, store = whole_run(tmp_path), Store(tmp_path)
    record = json.loads((run_dir / "run.json").read_text())
    changed = {**record, "experiment": EVIL, "overrides": [EVIL], "run_id": EVIL}
    (run_dir / "run.json").write_text(json.dumps(changed).replace('"dpo"', json.dumps(EVIL)))
    renamed = run_dir.parent / EVIL.replace("/", "")
    run_dir.rename(renamed)
    models = [find(f"{renamed}{stage}", store) for stage in (":sft", "")]
    write_comparison(compare(models), "refusal", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "<script" not in html and "&lt;script&gt;" in html
