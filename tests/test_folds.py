"""Folds: a chain for each, what is shared is built once, and the summary says what the chains found together."""

import json
import re
import statistics
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import folds, pins
from pipeline.errors import ConfigError
from pipeline.report.folds import lines
from pipeline.schema import Experiment
from pipeline.store import Store

FACTS = "facts: {files: [facts.jsonl]"
QUIZ = ("data.quiz.split.method=kfold",)
SHORT = ("--until", "eval_first")
TABLE = r"first +quiz +566\.7 % +208\.2 % +400\.0 % +800\.0 % +3 +400\.0 % 500\.0 % 800\.0 %"


@pytest.fixture
def folded(journeyman, project):
    """The command on an experiment whose data set `facts` has three folds, none of them chosen."""
    file = project.path / "conf" / "experiment" / "chain.yaml"
    file.write_text(file.read_text().replace(FACTS, f"{FACTS}, split: {{method: kfold}}"))
    return journeyman


def without_runs(summary):
    chains = [{key: fold[key] for key in ("fold", "exit", "reason")} for fold in summary["folds"]]
    return {**summary, "folds": chains}


def row(summary, model, suite="quiz"):
    return next(one for one in summary["suites"] if (one["model"], one["suite"]) == (model, suite))


# -- the chains ---------------------------------------------------------------------------------------------------
def test_an_open_fold_runs_a_chain_for_each_and_shares_what_is_equal(folded):
    done = folded("run", *SHORT, "--json")
    assert done.code == 0 and "kfold: 3 folds of data set facts, 3 chains" in done.err
    assert [run["folds"] for run in done.json["runs"]] == [{"facts": {"fold": n, "k": 3}} for n in range(3)]
    for run in done.json["runs"][1:]:
        assert {name for name, stage in run["stages"].items() if stage["status"] == "HIT"} == {"base", "quiz"}
    assert len({run["stages"]["first"]["id"] for run in done.json["runs"]}) == 3


def test_the_summary_has_mean_and_deviation_of_every_suite_and_loss(folded):
    summary = folded("run", "--json").json["summary"]
    assert (summary["experiment"], summary["sets"], summary["finished"]) == ("chain", {"facts": 3}, 3)
    first = row(summary, "first")
    assert first["values"] == [4.0, 5.0, 8.0] and first["n"] == 3 and not first["same"]  # fold * fold on top of 4
    assert first["mean"] == pytest.approx(np.mean([4, 5, 8])) and first["sd"] == pytest.approx(
        np.std([4, 5, 8], ddof=1)
    )
    assert (first["min"], first["max"]) == (4.0, 8.0)
    assert row(summary, "second")["values"] == [8.0, 9.0, 12.0]
    assert row(summary, "base")["same"] and row(summary, "base")["sd"] == 0
    assert [loss["stage"] for loss in summary["losses"]] == ["first", "second"]
    assert summary["losses"][0]["values"] == [0.0, 0.25, 0.5]


def test_the_summary_is_printed_and_kept_beside_the_runs(folded, project):
    done = folded("run", *SHORT)
    assert "chain: 3 of 3 folds of facts (k = 3)" in done.out and re.search(TABLE, done.out)
    home = project.store / "runs" / "chain"
    kept = json.loads((home / "latest-folds" / "folds.json").read_text())
    assert [fold["exit"] for fold in kept["folds"]] == [0, 0, 0]
    for fold in kept["folds"]:
        assert f'href="../{fold["run"]}/report.html"' in (home / "latest-folds" / "folds.html").read_text()
        assert (home / fold["run"] / "run.json").is_file()
    assert "| **first** | quiz" in (home / "latest-folds" / "folds.md").read_text()
    assert json.loads((home / "latest" / "run.json").read_text())["run_id"] == kept["folds"][-1]["run"]


def test_again_everything_is_hit_and_gc_keeps_it(folded, project):
    one, two = (folded("run", *SHORT, "--json").json for _ in range(2))
    assert {stage["status"] for run in two["runs"] for stage in run["stages"].values()} == {"HIT"}
    assert without_runs(one["summary"]) == without_runs(two["summary"])
    store = Store(project.store)
    assert pins.plan_gc(store, 14).attempts == []
    assert next(store.past_runs("chain"))["folds"] == {"facts": {"fold": 2, "k": 3}}


def test_a_chosen_fold_is_one_chain_without_a_summary(folded, project):
    done = folded("run", "data.facts.split.fold=2", *SHORT, "--json")
    assert done.code == 0 and done.json["folds"] == {"facts": {"fold": 2, "k": 3}} and "summary" not in done.json
    assert not (project.store / "runs" / "chain" / "latest-folds").exists()


def test_folds_of_an_explicit_sweep_are_summarised(folded):
    done = folded("run", "-m", "data.facts.split.fold=0,2", *SHORT, "--json")
    assert len(done.json["runs"]) == 2 and row(done.json["summary"], "first")["values"] == [4.0, 8.0]
    assert [fold["fold"] for fold in done.json["summary"]["folds"]] == ["0", "2"]


def test_a_sweep_over_another_value_has_a_summary_for_each(folded):
    done = folded("run", "-m", "data.facts.split.k=2", "stages.first.add=1,2", *SHORT, "--json")
    assert "kfold: 2 folds of data set facts, 2 chains for each cell of the sweep" in done.err
    assert [row(summary, "first")["values"] for summary in done.json["summaries"]] == [[4, 5], [8, 9]]
    assert [summary["overrides"][-1][-1] for summary in done.json["summaries"]] == ["1", "2"]


def test_a_sweep_without_folds_has_no_summary(journeyman):
    assert set(journeyman("run", "-m", "stages.first.seed=1,2", "--until", "base", "--json").json) == {"runs", "exit"}


def test_a_failed_fold_does_not_lose_the_others(folded, project):
    (project.path / "trouble.txt").write_text("data in fold 1")
    done = folded("run", *SHORT, "--json")
    summary = done.json["summary"]
    assert done.code == summary["exit"] == 4 and [fold["exit"] for fold in summary["folds"]] == [0, 4, 0]
    assert summary["folds"][1]["reason"].startswith("first: 3 rows have no answer")
    assert row(summary, "first")["values"] == [4.0, None, 8.0] and row(summary, "first")["n"] == 2
    assert row(summary, "first")["sd"] == pytest.approx(statistics.stdev([4, 8]))
    assert "2 of 3 folds of facts (k = 3); 1 did not reach the end" in done.err
    assert "fold 1: first: 3 rows have no answer" in done.err


def test_what_no_fold_changes_is_forced_once(folded):
    done = folded("run", "--until", "first", "--force", "base", "--json")
    again = folded("run", "--until", "first", "--force", "base", "--json")
    for document in (done.json, again.json):
        assert [run["stages"]["base"]["status"] for run in document["runs"]] == ["BUILT", "HIT", "HIT"]


# -- several sets -------------------------------------------------------------------------------------------------
def test_folds_of_two_sets_are_paired(folded):
    done = folded("run", *QUIZ, "--until", "eval_base", "--json")
    assert done.code == 0 and "3 folds of data set quiz, 3 chains" in done.err  # facts is not needed up to here
    done = folded("run", *QUIZ, *SHORT, "--json")
    assert "3 folds of data sets facts, quiz (paired), 3 chains" in done.err
    numbers = [{name: split["fold"] for name, split in run["folds"].items()} for run in done.json["runs"]]
    assert numbers == [{"facts": n, "quiz": n} for n in range(3)]
    assert done.json["summary"]["sets"] == {"facts": 3, "quiz": 3}
    assert [fold["fold"] for fold in done.json["summary"]["folds"]] == ["0", "1", "2"]


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_sets_with_different_numbers_of_folds_are_refused(folded, verb, project):
    wrong = folded(verb, *QUIZ, "data.quiz.split.k=4")
    assert wrong.code == 2 and "data.facts.split.k=3, data.quiz.split.k=4: folds of several data sets" in wrong.err
    assert "choose a fold of all but one" in wrong.err and not (project.store / "runs").exists()


def test_one_set_may_be_at_a_fold_while_the_other_runs_through_its_own(folded):
    done = folded("run", *QUIZ, "data.quiz.split.k=4", "data.quiz.split.fold=3", *SHORT, "--json")
    assert [run["folds"]["quiz"]["fold"] for run in done.json["runs"]] == [3, 3, 3]
    assert done.json["summary"]["sets"] == {"facts": 3}
    assert [fold["fold"] for fold in done.json["summary"]["folds"]] == ["0", "1", "2"]


def test_a_set_that_is_not_read_makes_no_chains(folded):
    done = folded("run", "--until", "base", "--json")
    assert done.code == 0 and "run_id" in done.json and "fold" not in done.err


def test_a_cell_with_other_open_folds_than_the_first_is_refused(folded):
    done = folded("run", "-m", "data.facts.split.method=holdout,kfold", "--until", "first", "--json")
    assert [run["exit"] for run in done.json["runs"]] == [0, 2]
    assert "data.facts.split.fold: open in this cell" in done.json["runs"][1]["error"]


# -- other verbs --------------------------------------------------------------------------------------------------
def test_plan_shows_the_first_fold_and_what_the_others_build(folded):
    shown = folded("plan")
    assert "data.facts.split.fold=0 (the first of 3 folds; `run` makes a chain for each)" in shown.out
    assert "fold 1: builds facts, first, eval_first, second, eval_second" in shown.out
    folded("run", *SHORT)
    assert folded("plan", *SHORT).out.count("all up to date") == 2
    assert set(folded("plan", "--json").json) == {"experiment", "stages"}


def test_the_other_verbs_speak_of_the_first_fold_and_say_so(folded):
    first, _, last = folded("run", *SHORT, "--json").json["runs"]
    status = folded("status", "--json")
    assert status.json["stages"]["first"]["id"] == first["stages"]["first"]["id"] and "the first of 3" in status.err
    shown = folded("show", "first")
    assert "the first of 3" in shown.out and first["stages"]["first"]["id"] in shown.out
    other = folded("show", "first", "data.facts.split.fold=2")
    assert "the first of 3" not in other.out and last["stages"]["first"]["id"] in other.out


def test_a_change_is_explained_against_the_same_fold(folded):
    folded("run", *SHORT)  # the newest run is of fold 2
    explained = folded("explain", "first", "stages.first.train.lr=0.2")
    assert "the first of 3" in explained.out and "first: train.lr: 0.5 -> 0.2" in explained.out
    assert "facts" not in explained.out.partition("\n")[2]
    assert folded("explain", "first", "stages.first.train.lr=0.2", "--json").json["causes"] == [
        {"stage": "first", "key": "train.lr", "old": 0.5, "new": 0.2}
    ]


def test_data_check_looks_at_every_fold_and_tells_a_finding_once(folded):
    checked = folded("data", "check", "+stages.first.contract={finds: warning}")
    assert checked.code == 0 and "check_first: 1 finding\n" in checked.out
    assert checked.out.count("BUILT   check_first") == 3 and checked.out.count("too_plain") == 1
    again = folded("data", "check", "+stages.first.contract={finds: warning}", "--json")
    assert again.json["checks"]["check_first"][0]["folds"] == [0, 1, 2]


def test_findings_of_folds_are_told_apart_by_level_code_and_data():
    found = []
    folds.merge(found, [{"level": "error", "code": "a", "data": "x"}, {"level": "info", "code": "a", "data": "x"}], 0)
    folds.merge(found, [{"level": "error", "code": "a", "data": "x"}, {"level": "error", "code": "b", "data": "x"}], 1)
    assert [(one["level"], one["code"], one["folds"]) for one in found] == [
        ("error", "a", [0, 1]), ("info", "a", [0]), ("error", "b", [1]),
    ]  # fmt: skip


# -- parts --------------------------------------------------------------------------------------------------------
@dataclass
class Split:
    method: str = "kfold"
    k: int = 5
    fold: int | None = None


@dataclass
class Set:
    split: Split = field(default_factory=Split)


@dataclass
class Plain:
    files: str = ""


def test_only_kfold_without_a_fold_is_open():
    sets = {"a": Set(), "b": Set(Split(fold=1)), "c": Set(Split("holdout")), "d": Plain()}
    experiment = Experiment(name="x", data=sets)
    assert folds.left_open(experiment) == {"a": 5}
    assert folds.kfold(experiment) == {"a": {"fold": None, "k": 5}, "b": {"fold": 1, "k": 5}}


def test_a_sweep_names_each_fold_once_and_pairs_the_rest():
    assert folds.sweep({"a": 3}) == ["data.a.split.fold=0,1,2"]
    assert folds.sweep({"a": 2, "b-c": 2}) == ["data.a.split.fold=0,1"]
    words = ["x=1", "+data.a.split.fold=1"]
    assert folds.paired(words, {"a": 2, "b-c": 2}) == [*words, "data.b-c.split.fold=1"]
    assert folds.paired(words, {}) == words
    with pytest.raises(ConfigError, match="k must be the same"):
        folds.sweep({"a": 2, "b": 3})


def test_cells_are_grouped_by_everything_but_the_fold():
    made = [
        folds.Chain(["experiment=x", f"beta={beta}", f"+data.a.split.fold={fold}", *more], 0, {"run_id": "r"})
        for beta in (1, 2)
        for fold in (0, 1)
        for more in ([[f"data.b.split.fold={fold}"]] if beta == 1 else [[]])
    ]
    found = folds.groups([*made, folds.Chain(["experiment=x"], 0, {"run_id": "r"})])
    assert [[chain.others[-1] for chain in group] for group in found] == [["beta=1"] * 2, ["beta=2"] * 2]
    assert found[0][1].chosen == {"a": "1", "b": "1"}
    refused = [folds.Chain([f"data.a.split.fold={fold}"], 2, {"error": "no", "exit": 2}) for fold in (0, 1)]
    assert folds.groups(refused) == []


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=12))
def test_mean_and_deviation_are_numpy_s(values):
    found, there = folds.spread(values), [value for value in values if value is not None]
    assert found["values"] == values and found["n"] == len(there)
    if there:
        assert found["mean"] == pytest.approx(np.mean(there), abs=1e-6)
        assert (found["min"], found["max"]) == (min(there), max(there))
    if len(there) > 1:
        assert found["sd"] == pytest.approx(np.std(there, ddof=1), rel=1e-6, abs=1e-6)
    assert (found["sd"] is None) == (len(there) < 2) and (found["mean"] is None) == (not there)


def test_gates_are_counted_over_the_folds_that_judged_them(tmp_path):
    chains = [judged(tmp_path, 0, True), judged(tmp_path, 1, False), judged(tmp_path, 2, None)]
    summary = folds.summarise(chains, tmp_path)
    (gate,) = summary["gates"]
    assert (gate["passed"], gate["judged"], gate["values"]) == (1, 2, [True, False, None])
    assert summary["folds"][1]["reason"] == "keeps refused: too bad" and summary["finished"] == 1
    told = "\n".join(lines(summary))
    assert "gate keeps: passed in 1 of 3 folds, judged in 2, not in 1" in told
    assert "fold 1: keeps refused: too bad" in told and "fold 2: check_a: too_plain: A row is plain." in told


def judged(root, fold, passed):
    """A chain of which only the gate, or else a finding, is known."""
    name, check = f"run-{fold}", root / "check"
    check.mkdir(exist_ok=True)
    finding = {"level": "error", "code": "too_plain", "message": "A row is plain."}
    (check / "manifest.json").write_text(json.dumps({"findings": [finding]}))
    entry = {"kind": "contract", "produces": "findings", "path": "check", "status": "HIT"}
    record = {
        "experiment": "x", "run_id": name, "folds": {"a": {"fold": fold, "k": 3}},
        "gates": [] if passed is None else [{"name": "keeps", "passed": passed, "sentence": "keeps refused: too bad"}],
        "resolved_config": {"gates": {"keeps": {"stage": "s", "suite": "q", "rule": "at_least"}}},
        "stages": {"check_a": entry} if passed is None else {},
    }  # fmt: skip
    (root / "runs" / "x" / name).mkdir(parents=True)
    (root / "runs" / "x" / name / "run.json").write_text(json.dumps(record))
    return folds.Chain([f"data.a.split.fold={fold}"], {True: 0, False: 3, None: 4}[passed], record)
