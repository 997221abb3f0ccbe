"""`retrain` and `promote` as a user and a CI job see them, on toy stages."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_cli import reach

from pipeline.pins import set_pin
from pipeline.store import Store

BETTER, WORSE = "stages.second.add=2.0", "stages.second.add=0.5"
COMMAND = Path(__file__).parent.parent / "toy_command.py"


def statuses(learner):
    """name -> status, of the last run."""
    record = json.loads((learner.store / "runs/learner/latest/run.json").read_text())
    return {name: stage["status"] for name, stage in record["stages"].items()}


def runs(learner):
    return len(list((learner.store / "runs" / "learner").glob("2*")))


def told(out, trigger):
    """What the command says of a trigger."""
    return next(" ".join(line.split()[1:]) for line in out.splitlines() if line.split()[:1] == [trigger])


# -- the four stories ---------------------------------------------------------------------------------------------
def test_the_first_model_is_promoted_by_the_gates_without_champion(call, champion, learner):
    done = call("retrain")
    assert done.code == 0, done.err
    assert champion()["stage"] == "second"
    assert f"second {champion()['id']} is the champion (learner-champion), the first one." in done.out
    assert "there is no champion yet" in done.out


def test_unchanged_ends_at_once_and_says_so(call, learner):
    call("retrain")
    again = call("retrain")
    assert again.code == 0 and again.out.startswith("Nothing new since 20")
    assert "second was judged: promoted" in again.out
    assert runs(learner) == 1


def test_new_feedback_retrains_only_what_depends_on_it(call, learner, champion):
    call("retrain")
    before = champion()["id"]
    learner.write("votes.jsonl", 5)
    done = call("retrain")
    assert done.code == 0 and told(done.out, "data") == "fires votes changed"
    built = {name for name, status in statuses(learner).items() if status == "BUILT"}
    assert built == {"votes", "second", "eval_second"}
    assert champion()["id"] != before


def test_a_worse_model_is_refused_and_the_champion_stays(call, champion, learner):
    call("retrain")
    before = champion()
    done = call("retrain", WORSE)
    assert done.code == 3
    assert "champion_quiz refused: accuracy of `second` on quiz is 6.000 against 8.000 of `champion`" in done.out
    assert f"second is refused, the champion stays {before['id']}." in done.out
    assert champion() == before


def test_a_better_model_is_promoted_and_the_one_before_is_kept_for_a_way_back(call, champion, learner):
    call("retrain")
    before = champion()
    done = call("retrain", BETTER)
    assert done.code == 0 and champion()["id"] != before["id"]
    assert json.loads((learner.store / "pins" / "learner-previous").read_text())["id"] == before["id"]
    assert f"after {before['id']}, which is learner-previous now" in done.out


# -- the same question gets the same answer -----------------------------------------------------------------------
def test_a_refused_model_stays_refused_without_being_built_again(call, learner):
    call("retrain")
    call("retrain", WORSE)
    again = call("retrain", WORSE)
    assert again.code == 3 and again.out.startswith("Nothing new since") and "champion_quiz refused" in again.out
    assert runs(learner) == 2


def test_a_refused_model_is_judged_again_when_the_champion_is_another(call, learner, execute):
    call("retrain")
    call("retrain", WORSE)
    store = Store(learner.store)
    worse = json.loads((learner.home / "state.json").read_text())["last"]["candidate"]
    set_pin(store, "learner-champion", store.read(store.root / worse["path"]))
    done = call("retrain", WORSE)
    assert done.code == 0 and told(done.out, "champion").startswith("fires the pin names another model")
    assert "is the champion already, and passes" in done.out


def test_a_lost_state_costs_one_judgement(call, champion, learner):
    """As after a crash between the promotion and the note of it: nothing is trained, the champion stays."""
    call("retrain")
    before = champion()
    (learner.home / "state.json").unlink()
    done = call("retrain")
    assert done.code == 0 and "is the champion already, and passes its gates" in done.out
    assert champion() == before and "BUILT" not in statuses(learner).values()


def test_a_champion_that_fails_a_new_gate_is_said_to_fail_it(call, champion, learner):
    call("retrain")
    before = champion()
    gates = learner.path / "conf" / "gates"
    gates.mkdir()
    (gates / "high.yaml").write_text("high: {stage: second, suite: quiz, rule: at_least, value: 9.0}\n")
    done = call("retrain", "gates=high")
    assert done.code == 3 and "high refused" in done.out and champion() == before


def test_the_history_has_every_judgement(call, state):
    for word in ("stages.second.add=1.0", WORSE, BETTER):
        call("retrain", word)
    assert [entry["verdict"] for entry in state()["history"]] == ["promoted", "refused", "promoted"]
    assert state()["history"][0]["against"]["id"] == state()["history"][2]["candidate"]["id"]


# -- what goes wrong ----------------------------------------------------------------------------------------------
def test_a_stage_that_fails_leaves_the_champion_and_is_tried_again(call, champion, learner):
    call("retrain")
    before = champion()
    (learner.path / "trouble.txt").write_text("bug")
    failed = call("retrain", "stages.first.add=2.0")
    assert failed.code == 5 and "Nothing was judged, the champion stays." in failed.out and champion() == before
    (learner.path / "trouble.txt").unlink()
    assert call("retrain", "stages.first.add=2.0").code == 0 and champion() != before


def test_data_that_breaks_its_contract_ends_with_4(call, champion, learner):
    done = call("retrain", "+stages.first.contract={finds: error}")
    assert done.code == 4 and champion() is None
    assert "check\\_first: facts: too\\_plain: A row is plain." in (learner.home / "summary.md").read_text()


def test_a_mistake_is_told_before_anything_runs(call, learner):
    assert call("retrain", "--until", "first").code == 2
    wrong = call("retrain", "retrain.stage=secnod")
    assert wrong.code == 2 and "retrain.stage=secnod" in wrong.err and "did you mean 'second'" in wrong.err
    assert not (learner.store / "runs").exists()


def test_a_model_that_nobody_measures_is_not_promoted(call):
    done = call("retrain", "eval.models=[base,first]")
    assert done.code == 2 and "second is not evaluated" in done.err


def test_whoever_changes_the_pin_meanwhile_is_not_overruled(call, learner, monkeypatch, champion):
    """The champion is another one at the end of the run than at its start."""
    import pipeline.runner as runner

    call("retrain")
    store, execute = Store(learner.store), runner.execute

    def and_meanwhile(run):
        code = execute(run)
        set_pin(store, "learner-champion", run.plan.nodes["first"].stored)
        return code

    monkeypatch.setattr(runner, "execute", and_meanwhile)
    done = call("retrain", BETTER)
    assert done.code == 6 and "was changed while the new model was being judged" in done.err
    assert champion()["stage"] == "first"


# -- two at once --------------------------------------------------------------------------------------------------
def test_of_two_retrains_one_wins_and_the_other_says_so(learner):
    """The first one waits in its stage, on a pipe, until the second has had its answer."""
    os.mkfifo(learner.path / "pipe")
    (learner.path / "trouble.txt").write_text("wait")
    line = [sys.executable, str(COMMAND), "retrain", "experiment=learner"]
    options = {"cwd": learner.path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(line, **options)
    try:
        with reach(learner):
            second = subprocess.run(line, **options)
        out, err = first.communicate(timeout=60)
    finally:
        first.kill()
    assert first.returncode == 0, err
    assert second.returncode == 6
    assert f"process {first.pid} on " in second.stderr and "This command has done nothing" in second.stderr
    assert "is the champion (learner-champion), the first one" in out


def test_the_lock_is_free_after_a_failure(call, learner):
    (learner.path / "trouble.txt").write_text("bug")
    assert call("retrain").code == 5
    (learner.path / "trouble.txt").unlink()
    assert call("retrain").code == 0


# -- dry run ------------------------------------------------------------------------------------------------------
def test_a_dry_run_says_which_trigger_fires_and_builds_nothing(call, learner):
    first = call("retrain", "--dry-run", "--json")
    assert first.code == 0 and first.json["acts"] and not (learner.store / "artifacts").exists()
    assert {trigger["name"]: trigger["fired"] for trigger in first.json["triggers"]} == {"first": True}
    call("retrain")
    changed = call("retrain", "--dry-run", BETTER)
    assert told(changed.out, "config") == "fires second changed" and "would train: second, eval_second" in changed.out
    assert "would do nothing: judged already" in call("retrain", "--dry-run").out
    assert runs(learner) == 1


# -- promote ------------------------------------------------------------------------------------------------------
def test_promote_takes_a_model_that_run_has_built(call, champion):
    call("run")
    done = call("promote")
    assert done.code == 0 and champion()["stage"] == "second"
    assert call("retrain").out.startswith("Nothing new since")


def test_promote_takes_another_stage_by_name(call, champion):
    call("run")
    assert call("promote", "first").code == 0 and champion()["stage"] == "first"
    assert "trains no model" in call("promote", "votes").err


def test_promote_builds_nothing(call):
    done = call("promote")
    assert done.code == 2 and "not built yet: base, " in done.err


def test_promote_refuses_like_retrain(call, champion):
    call("retrain")
    before = champion()
    call("run", WORSE)
    done = call("promote", WORSE)
    assert done.code == 3 and "champion_quiz refused" in done.out and champion() == before


def test_a_person_may_promote_whatever_the_gates_say_with_a_reason(call, champion, state):
    call("retrain")
    call("retrain", WORSE)
    done = call("promote", WORSE, "--because", "the suite is outdated")
    assert done.code == 0 and champion()["id"] == state()["last"]["candidate"]["id"]
    assert state()["last"]["because"] == state()["history"][0]["because"] == "the suite is outdated"
    assert "Promoted by a person because: the suite is outdated." in done.out
    assert call("retrain", WORSE).code == 0


# -- for CI -------------------------------------------------------------------------------------------------------
def test_every_outcome_leaves_a_summary_and_junit(call, learner, monkeypatch, tmp_path):
    page = tmp_path / "step-summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    for words, title, failures in [((), "promoted", "0"), ((WORSE,), "refused", "2"), ((WORSE,), "nothing new", "1")]:
        call("retrain", *words)
        summary = (learner.home / "summary.md").read_text()
        assert f"## Retraining `learner`: {title}" in summary and page.read_text().endswith(summary + "\n")
        assert ElementTree.parse(learner.home / "retrain.xml").getroot().attrib["failures"] == failures
    assert page.read_text().count("## Retraining `learner`") == 3


def test_json_is_the_outcome(call):
    found = call("retrain", "--json")
    assert found.code == found.json["exit"] == 0 and found.json["verdict"] == "promoted"
    assert found.json["candidate"]["stage"] == "second" and found.json["champion"] is None
    refused = call("retrain", WORSE, "--json").json
    assert refused["exit"] == 3 and refused["champion"]["id"] == found.json["candidate"]["id"]


@pytest.mark.parametrize("word", ["--from", "--force"])
def test_stages_are_not_chosen(call, word):
    done = call("retrain", word, "second")
    assert done.code == 2 and f"{word}: `retrain` takes the whole experiment" in done.err
