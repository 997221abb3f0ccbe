"""What asks for training: changes, feedback by its rows, production that drifted, time; each with its numbers."""

import json
from datetime import UTC, datetime, timedelta

import pytest

COUNTED = ("retrain.feedback.data=[votes]", "retrain.feedback.rows=3")
DRIFT = ("retrain.drift.sample=asked", "retrain.drift.psi=0.25")


@pytest.fixture
def asked(call):
    """asked(...) -> the triggers of a dry run, by name, and whether it would act and what it would build."""

    def look(*words):
        done = call("retrain", "--dry-run", "--json", *words)
        assert done.code == 0, done.err
        return {one["name"]: one for one in done.json["triggers"]}, done.json["acts"], done.json["builds"]

    return look


# -- changes ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "trigger"),
    [
        ("stages.first.add=2.0", "config"),
        ("model.revision=abc", "base"),
        ("retrain.margin=0.1", "config"),
        ("eval.suites.quiz.limit=3", "config"),
    ],
)
def test_a_change_is_told_from_what_follows_from_it(call, asked, word, trigger):
    call("retrain")
    found, acts, _ = asked(word)
    assert [name for name, one in found.items() if one["fired"]] == [trigger] and acts


def test_changed_data_is_named(call, asked, learner):
    call("retrain")
    learner.write("facts.jsonl", 5)
    found, acts, builds = asked()
    assert found["data"]["said"] == "facts changed" and acts
    assert builds == ["facts", "first", "eval_first", "second", "eval_second"]


def test_only_changes_that_are_asked_for_start_training(call, learner):
    call("retrain")
    learner.write("facts.jsonl", 5)
    waiting = call("retrain", "retrain.on=[base]")
    assert waiting.code == 0 and "No trigger fires, so nothing is trained and the champion stays." in waiting.out
    assert "## Retraining `learner`: no trigger fires" in (learner.home / "summary.md").read_text()
    assert "first" in call("retrain").out


def test_a_change_is_measured_against_what_was_judged_last_refused_or_not(call, asked):
    call("retrain")
    call("retrain", "stages.second.add=0.5")
    found, acts, _ = asked("stages.second.add=0.5")
    assert not found["config"]["fired"] and not acts
    assert asked("stages.second.add=0.6")[0]["config"]["said"] == "second changed"


# -- feedback -----------------------------------------------------------------------------------------------------
def test_feedback_waits_until_there_are_enough_new_rows(call, asked, learner):
    call("retrain", *COUNTED)
    learner.write("votes.jsonl", 6)
    found, acts, _ = asked(*COUNTED)
    assert not acts and (found["feedback"]["value"], found["feedback"]["threshold"]) == (2, 3)
    assert found["feedback"]["said"].startswith("2 new rows since 20") and not found["data"]["fired"]
    learner.write("votes.jsonl", 7)
    found, acts, builds = asked(*COUNTED)
    assert acts and found["feedback"]["fired"] and builds == ["votes", "second", "eval_second"]


def test_a_row_that_only_moved_is_not_new(call, asked, learner):
    call("retrain", *COUNTED)
    learner.write("votes.jsonl", [3, 2, 1, 0, 0])
    assert asked(*COUNTED)[0]["feedback"]["value"] == 0


def test_counting_begins_again_after_each_judgement(call, asked, learner):
    call("retrain", *COUNTED)
    learner.write("votes.jsonl", 8)
    assert call("retrain", *COUNTED).code == 0
    learner.write("votes.jsonl", 9)
    assert asked(*COUNTED)[0]["feedback"]["value"] == 1


def test_promote_remembers_the_rows_as_well(call, asked, learner):
    call("run", *COUNTED)
    call("promote", *COUNTED)
    learner.write("votes.jsonl", 5)
    assert asked(*COUNTED)[0]["feedback"]["value"] == 1


# -- drift --------------------------------------------------------------------------------------------------------
def test_drift_is_measured_against_what_the_champion_was_trained_on(call, asked, learner):
    call("retrain", *DRIFT)
    assert not asked(*DRIFT)[0]["drift"]["fired"]
    learner.write("asked.jsonl", 8)
    drift = asked(*DRIFT)[0]["drift"]
    assert drift["fired"] and drift["value"] == 1.0
    assert drift["said"] == "PSI of topic is 1.00 (chance: 0.10), asked is 0.25; length 0.00, topic 1.00"


def test_a_shift_that_chance_explains_starts_nothing(call, asked, learner):
    """The toys' chance is 0.1, and one row in 21 is unknown."""
    learner.write("facts.jsonl", 20)
    call("retrain")
    (learner.path / "asked.jsonl").write_text((learner.path / "facts.jsonl").read_text() + '{"id": "new"}\n')
    drift = asked("retrain.drift.sample=asked", "retrain.drift.psi=0.01")[0]["drift"]
    assert 0.01 < drift["value"] < 0.1 and not drift["fired"]


def test_drift_without_anything_new_to_train_on_is_said_and_starts_nothing(call, learner):
    call("retrain", *DRIFT)
    learner.write("asked.jsonl", 8)
    done = call("retrain", *DRIFT)
    assert done.code == 0 and "drift: PSI of topic is 1.00" in done.out
    assert "but there is nothing new to train on" in done.out


def test_drift_is_measured_once_for_the_same_sample(call, learner, monkeypatch, toys):
    call("retrain", *DRIFT)
    learner.write("asked.jsonl", 8)
    call("retrain", *DRIFT)
    monkeypatch.setattr(toys.Prepare, "drift", lambda *_: pytest.fail("measured again"))
    call("retrain", *DRIFT)


# -- time ---------------------------------------------------------------------------------------------------------
def test_time_lets_waiting_changes_through(call, asked, learner):
    words = (*COUNTED, "retrain.days=7")
    call("retrain", *words)
    learner.write("votes.jsonl", 5)
    assert not asked(*words)[1]
    age(learner, days=8)
    found, acts, _ = asked(*words)
    assert acts and found["days"]["fired"]
    assert found["days"]["said"] == "8.0 days since the last judgement, of 7; 1 change waits"


def test_time_alone_starts_nothing(call, asked, learner):
    call("retrain", "retrain.days=7")
    age(learner, days=8)
    found, acts, _ = asked("retrain.days=7")
    assert not acts and not found["days"]["fired"]


def age(learner, days):
    """The last judgement becomes so many days old."""
    file = learner.home / "state.json"
    plain = json.loads(file.read_text())
    plain["last"]["judged"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    file.write_text(json.dumps(plain))


# -- mistakes -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("retrain.on=[dta]", "retrain.on=dta: known: base, config, data (did you mean 'data'?)"),
        ("retrain.feedback.data=[vote]", "retrain.feedback.data=vote: known: facts, votes, quiz, asked"),
        ("retrain.drift.sample=ask", "retrain.drift.sample=ask: known: facts, votes, quiz, asked"),
        ("retrain.feedback.rows=0", "retrain.feedback.rows=0: at least 1"),
        ("retrain.days=-1", "retrain.days=-1.0: at least 0"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_every_verb(call, word, message):
    for verb in ("plan", "retrain"):
        done = call(verb, word)
        assert done.code == 2 and message in done.err
