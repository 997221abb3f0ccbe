"""`sweeper=optuna`: what is searched, repeated, pruned and told. The toy's suite `quiz` scores what its stages add."""

import pytest

from pipeline.folds import Chain
from pipeline.sweeps import study

SEARCH = ["sweeper=optuna", "sweeper.metric=eval_second.quiz", "sweeper.direction=maximize", "sweeper.startup=3"]
ADD = "stages.second.add=int(interval(0, 20))"


@pytest.fixture
def search(journeyman):
    """search(words...) -> the command's answer on `experiment=chain`."""
    return lambda *words: journeyman("run", "-m", *SEARCH, *words, "--json")


@pytest.fixture
def quick(search, monkeypatch):
    """The same without building anything: `quiz` is what the overrides add, times four."""

    def measured(chain, node):
        added = [word.partition("=")[2] for word in chain.overrides if ".add=" in word]
        return {"quiz": 4 * sum(map(float, added))}

    def run_cells(options, screen, swept, cells, first, bars):
        return [Chain(cell) for cell in cells]

    monkeypatch.setattr("pipeline.sweeps.study.run_cells", run_cells)
    monkeypatch.setattr("pipeline.sweeps.study._metrics", measured)
    return search


def values(found):
    return [trial["value"] for trial in found.json["study"]["trials"]]


def asked(trial):
    return dict(word.split("=", 1) for word in trial["overrides"] if word.startswith("stages."))


def test_the_best_trial_is_the_one_with_the_best_metric_and_again_builds_nothing(search):
    found = search(ADD, "sweeper.trials=3")
    assert found.code == 0, found.err
    study = found.json["study"]
    best = study["trials"][study["best"] - 1]
    assert best["value"] == max(values(found)) and best["state"] == "complete" and "best: trial" in found.err
    assert values(found) == [4 + 4 * int(asked(trial)["stages.second.add"]) for trial in study["trials"]]
    assert set(found.json) == {"runs", "exit", "study"} and len(found.json["runs"]) == 3
    again = search(ADD, "sweeper.trials=3")
    assert [asked(trial) for trial in again.json["study"]["trials"]] == [asked(trial) for trial in study["trials"]]
    assert {stage["status"] for run in again.json["runs"] for stage in run["stages"].values()} == {"HIT"}


def test_later_trials_learn_from_earlier_ones(quick):
    found = values(quick("stages.second.add=interval(0, 1)", "sweeper.trials=14"))
    assert sum(found[-4:]) / 4 > sum(found[:3]) / 3 + 0.5


def test_more_trials_begin_with_the_same_ones_and_another_seed_with_others(quick):
    few = values(quick(ADD, "sweeper.trials=5"))
    assert values(quick(ADD, "sweeper.trials=9"))[:5] == few
    assert values(quick(ADD, "sweeper.trials=5", "sweeper.seed=1")) != few


def test_trials_at_a_time_are_chosen_together(quick, monkeypatch):
    sizes = []
    inner = study.run_cells
    monkeypatch.setattr("pipeline.sweeps.study.run_cells", lambda *given: sizes.append(len(given[3])) or inner(*given))
    found = quick(ADD, "sweeper.trials=7", "launcher=local", "launcher.workers=3")
    assert sizes == [3, 3, 1] and len(values(found)) == 7


def test_choices_params_and_intervals_are_searched(quick):
    found = quick(
        "stages.second.train.beta=choice(0.1, 0.2)",
        "+sweeper.params={stages.second.add: 'tag(log, interval(0.01, 10))', stages.first.add: 'range(1, 4)'}",
        "sweeper.trials=12",
    )
    assert found.code == 0, found.err
    trials = [asked(trial) for trial in found.json["study"]["trials"]]
    assert {trial["stages.second.train.beta"] for trial in trials} == {"0.1", "0.2"}
    assert {trial["stages.first.add"] for trial in trials} == {"1", "2", "3"}
    assert all(0.01 <= float(trial["stages.second.add"]) <= 10 for trial in trials)


# -- pruning ------------------------------------------------------------------------------------------------------
def test_a_trial_below_the_median_of_an_earlier_evaluation_goes_no_further(search):
    found = search("stages.first.add=int(interval(0, 20))", "sweeper.prune=[eval_first.quiz]", "sweeper.trials=6")
    assert found.code == 0, found.err  # that a bar stops a trial is no failure
    trials = found.json["study"]["trials"]
    assert [trial["state"] for trial in trials[:3]] == ["complete"] * 3
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    assert pruned
    for trial in pruned:
        before = sorted(
            t["measured"]["eval_first.quiz"] for t in trials[: trial["number"] - 1] if t["state"] == "complete"
        )
        middle = (before[(len(before) - 1) // 2] + before[len(before) // 2]) / 2
        assert trial["measured"]["eval_first.quiz"] < middle and trial["value"] is None
    runs = {run["run_id"]: run for run in found.json["runs"]}
    assert {runs[name]["stages"]["second"]["status"] for trial in pruned for name in trial["runs"]} == {"GATED"}


def test_what_does_not_differ_prunes_nothing(search):
    found = search(ADD, "sweeper.prune=[eval_first.quiz]", "sweeper.trials=4")
    assert {trial["state"] for trial in found.json["study"]["trials"]} == {"complete"}


def test_a_gate_of_the_experiment_still_refuses(search, project):
    with (project.path / "conf" / "experiment" / "chain.yaml").open("a") as file:
        file.write("gates: {high: {stage: second, suite: quiz, rule: at_least, value: 1000}}\n")
    found = search(ADD, "sweeper.trials=2")
    assert found.code == 3 and {trial["state"] for trial in found.json["study"]["trials"]} == {"pruned"}
    assert found.json["study"]["best"] is None


def test_a_failed_trial_does_not_lose_the_others(search, project):
    (project.path / "trouble.txt").write_text("data")
    trouble, add = "stages.first.trouble=choice(trouble.txt, none.txt)", "stages.first.add=int(interval(0, 20))"
    found = search(trouble, add, "sweeper.trials=4", "sweeper.seed=1")
    states = [trial["state"] for trial in found.json["study"]["trials"]]
    assert found.code == 4 and set(states) == {"failed", "complete"}


# -- folds --------------------------------------------------------------------------------------------------------
def test_the_value_of_a_trial_over_open_folds_is_their_mean(search):
    found = search(ADD, "sweeper.trials=2", "+data.facts.split={method: kfold, k: 2}")
    assert found.code == 0 and len(found.json["runs"]) == 4, found.err
    for trial in found.json["study"]["trials"]:
        add = int(next(word for word in trial["overrides"] if "second.add" in word).partition("=")[2])
        assert trial["value"] == 4 + 4 * add + 0.5 and len(trial["runs"]) == 2  # fold 1 adds one to the chain


# -- mistakes -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([ADD, "sweeper.metric=null"], "needs sweeper.metric"),
        ([ADD, "sweeper.direction=null"], "sweeper.direction=maximize or minimize"),
        ([ADD, "sweeper.direction=up"], "sweeper.direction=up: use maximize or minimize"),
        ([ADD, "sweeper.metric=eval_secnd.quiz"], "no stage 'secnd' (did you mean 'second'?)"),
        ([ADD, "sweeper.metric=eval_second.quizz"], "no suite 'quizz' (did you mean 'quiz'?)"),
        ([ADD, "sweeper.metric=second"], "give NODE.METRIC"),
        ([ADD, "sweeper.prune=[first.loss]"], "eval_first.SUITE"),
        ([ADD, "sweeper.trials=0"], "sweeper.trials=0: at least 1"),
        ([], "nothing to search"),
        (["stages.second.ad=interval(0, 1)"], "did you mean 'add'?"),
        (["stages.second.add=interval(2, 1)"], "stages.second.add=interval(2, 1)"),
    ],
)
def test_a_mistake_is_said_before_the_first_trial(search, project, words, message):
    wrong = search(*words)
    assert wrong.code == 2 and message in wrong.err and "Traceback" not in wrong.err
    assert not (project.store / "runs").exists()
