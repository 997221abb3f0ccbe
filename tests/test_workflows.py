"""CI files: pinned, with the least rights, and every command of theirs run through make on toy stages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_make import checkout, script  # noqa: F401 (a fixture)

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
PINNED = re.compile(r"^[\w-]+/[\w/-]+@[0-9a-f]{40} +# v\d+\.\d+\.\d+$")
EXPERIMENT = "learner"
LEARNER = """# @package _global_
defaults:
  - override /tracker: none
  - override /contract: null
  - _self_
name: learner
budget: none
model: {source: toy}
data:
  quiz: {files: [quiz.jsonl]}
stages:
  second: {kind: toy, inputs: {policy: base}, add: 1.0}
eval:
  suites:
    quiz: {measure: choice, data: quiz}
"""


def workflow(name):
    """The file; YAML 1.1 reads the key `on` as true."""
    return {"on" if key is True else key: value for key, value in yaml.safe_load((FOLDER / name).read_text()).items()}


def steps(name):
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def gitlab():
    return yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())


def commands():
    """(file, command) of every command of every CI file."""
    found = [(file.name, step["run"]) for file in FILES for step in steps(file.name) if "run" in step]
    jobs = [job for job in gitlab().values() if isinstance(job, dict) and "script" in job]
    return found + [(".gitlab-ci.yml", line) for job in jobs for line in job["script"]]


# -- what they may do -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_actions_are_pinned_to_a_commit_with_its_version_beside(file):
    used = re.findall(r"uses: (.*)$", file.read_text(), re.M)
    assert used and [line for line in used if not PINNED.match(line)] == []


def test_an_action_has_one_commit_in_all_files():
    used = {line for file in FILES for line in re.findall(r"uses: (.*)$", file.read_text(), re.M)}
    owners = [re.match(r"([\w-]+/[\w-]+)[/\w-]*@([0-9a-f]+)", line).groups() for line in used]
    assert len({name for name, _ in owners}) == len(set(owners))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_rights_are_none_but_reading_the_repository(file):
    found = workflow(file.name)
    assert found["permissions"] == {}
    assert all(job["permissions"] == {"contents": "read"} for job in found["jobs"].values())
    assert "pull_request_target" not in found["on"] and "secrets." not in file.read_text()
    checkouts = [step for step in steps(file.name) if step.get("uses", "").startswith("actions/checkout")]
    assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_job_ends_by_itself_and_no_two_are_at_the_same_work(file):
    found = workflow(file.name)
    assert all(job["timeout-minutes"] for job in found["jobs"].values())
    assert "github.ref" in found["concurrency"]["group"]


def test_a_retraining_that_is_at_work_is_left_to_finish():
    assert workflow("retrain.yml")["concurrency"]["cancel-in-progress"] is False
    assert "inputs.experiment" in workflow("retrain.yml")["concurrency"]["group"]
    assert gitlab()["retrain"]["resource_group"] == "retrain-$EXPERIMENT"
    assert gitlab()["retrain"]["interruptible"] is False


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_text_from_outside_becomes_part_of_a_command(file):
    """What a person chooses reaches the shell as a variable, and is one of a list."""
    assert [step["run"] for step in steps(file.name) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_that_others_write_is_read_at_all(file):
    """Titles, branch names and comments: neither in commands nor in keys, names and conditions."""
    used = set(re.findall(r"github\.[\w.]+", re.sub(r"#.*", "", file.read_text())))
    assert used <= {"github.ref", "github.sha", "github.event_name", "github.run_id", "github.run_attempt"}


@pytest.mark.parametrize(("experiment", "runs"), [("legal", True), ("legal; id", False), ("$(id)", False), ("", False)])
def test_gitlab_runs_no_experiment_that_is_more_than_a_name(experiment, runs):
    """Its list of experiments is a proposal: a pipeline may be started with any text."""
    (guard, *_) = gitlab()["retrain"]["rules"]
    pattern = re.fullmatch(r"\$EXPERIMENT !~ /(.*)/", guard["if"])[1]
    assert guard["when"] == "never" and bool(re.match(pattern, experiment)) is runs


def test_only_newer_commits_of_a_pull_request_end_a_check():
    found = workflow("ci.yml")["concurrency"]
    assert found["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
    assert found["group"].endswith("|| github.sha }}")  # each commit of main is at its own work


def test_the_experiments_to_choose_from_are_there():
    chosen = workflow("retrain.yml")["on"]["workflow_dispatch"]["inputs"]["experiment"]
    known = {file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml")}
    assert chosen["type"] == "choice" and set(chosen["options"]) <= known
    assert set(gitlab()["variables"]["EXPERIMENT"]["options"]) == set(chosen["options"])


def test_the_store_is_kept_whatever_the_verdict_and_found_again():
    (restore,) = [step for step in steps("retrain.yml") if "cache/restore@" in step.get("uses", "")]
    (save,) = [step for step in steps("retrain.yml") if "cache/save@" in step.get("uses", "")]
    assert "always()" in save["if"] and save["with"]["key"] == restore["with"]["key"]
    assert save["with"]["key"].startswith(restore["with"]["restore-keys"])
    assert restore["with"]["path"] == save["with"]["path"] == workflow("retrain.yml")["env"]["JOURNEYMAN_STORE"]
    assert gitlab()["retrain"]["cache"][1]["when"] == "always"


def test_a_store_that_was_not_asked_for_is_not_saved():
    """It would stand before the one with the champion in the next night's search."""
    (restore,) = [step for step in steps("retrain.yml") if "cache/restore@" in step.get("uses", "")]
    (save,) = [step for step in steps("retrain.yml") if "cache/save@" in step.get("uses", "")]
    assert f"steps.{restore['id']}.outcome == 'success'" in save["if"]


@pytest.mark.parametrize("branch", ["main", "other"])
def test_no_merge_request_writes_the_store_of_the_main_branch(branch):
    """Not even one from a fork whose branch has the same name."""
    kept = gitlab()["retrain"]["cache"][1]

    def filled(text, number):
        values = {"$EXPERIMENT": "legal", "$CI_COMMIT_REF_SLUG": branch, "$CI_DEFAULT_BRANCH": "main"}
        for name, value in {**values, "$CI_MERGE_REQUEST_IID": number}.items():
            text = text.replace(name, value)
        return text

    ours = filled(kept["fallback_keys"][0], "")
    assert filled(kept["key"], "17") != ours
    assert (filled(kept["key"], "") == ours) is (branch == "main")


# -- what they do ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("file", "command"), commands())
def test_every_command_is_a_target_of_make(file, command):
    assert command.split()[0] == "make" and command.split()[1] in TARGETS, f"{file}: {command}"


@pytest.fixture
def machine(checkout, tmp_path, monkeypatch):  # noqa: F811
    """A runner's checkout with toy stages: machine(command, ...) runs one as the runner does."""
    here = Path(__file__).parent
    script(checkout / ".venv/bin/journeyman", f'#!/bin/sh\nexec {sys.executable} {here / "toy_command.py"} "$@"\n')
    for tool in ("python", "ruff", "mypy"):
        script(checkout / ".venv/bin" / tool, f'#!/bin/sh\necho {tool} "$@" >> did\n')
    (checkout / "conf" / "experiment" / "learner.yaml").write_text(LEARNER)
    (checkout / "quiz.jsonl").write_text("".join(f'{{"id": "q{i}"}}\n' for i in range(40)))
    page = tmp_path / "page.md"
    own = ("MAKE", "MFLAGS", "ARGS", "JOURNEYMAN")
    outside = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    env = {**outside, "EXPERIMENT": EXPERIMENT, "JOURNEYMAN_STORE": "store", "GITHUB_STEP_SUMMARY": str(page)}

    def run(command, **changed):
        line = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
        return subprocess.run(line, cwd=checkout, env={**env, **changed}, capture_output=True, text=True)

    run.folder, run.page = checkout, page
    return run


def job(name):
    """The commands of one job, in order."""
    return [step["run"] for step in steps(name) if "run" in step]


def test_the_commands_of_ci_run_check_and_test(machine):
    for command in job("ci.yml"):
        done = machine(command)
        assert done.returncode == 0, done.stderr
    did = (machine.folder / "did").read_text().splitlines()
    assert {"ruff check .", "ruff format --check .", "mypy"} <= set(did) and did[-1].startswith("python -m pytest")


def test_gitlab_gives_the_same_commands():
    assert gitlab()["check"]["script"] == job("ci.yml") and gitlab()["retrain"]["script"] == job("retrain.yml")


@pytest.mark.slow
def test_the_commands_of_retrain_promote_then_do_nothing_then_refuse(machine):
    """Three nights on one store; the third night's change makes the model worse.

    Slow: six commands through make, each a process of its own that starts the stages' processes.
    """
    for title in ("promoted", "nothing new"):
        for command in job("retrain.yml"):
            done = machine(command)
            assert done.returncode == 0, done.stderr
        assert f"## Retraining `learner`: {title}" in machine.page.read_text()
    pin = (machine.folder / "store/pins/learner-champion").read_text()
    experiment = machine.folder / "conf/experiment/learner.yaml"
    experiment.write_text(experiment.read_text().replace("add: 1.0", "add: 0.5"))
    *before, last = [machine(command) for command in job("retrain.yml")]
    assert all(done.returncode == 0 for done in before) and last.returncode != 0
    assert "journeyman ended with exit code 3" in last.stderr
    assert "## Retraining `learner`: refused" in machine.page.read_text()
    assert (machine.folder / "store/pins/learner-champion").read_text() == pin
    assert [path for path in kept() if not (machine.folder / path).exists()] == []


def kept():
    """The paths that are uploaded, and GitLab's JUnit file."""
    (upload,) = [step for step in steps("retrain.yml") if "upload-artifact@" in step.get("uses", "")]
    paths = [line.replace("${{ env.EXPERIMENT }}", EXPERIMENT) for line in upload["with"]["path"].splitlines()]
    junit = gitlab()["retrain"]["artifacts"]["reports"]["junit"].replace("$EXPERIMENT", EXPERIMENT)
    return [*paths, junit]


def test_a_dry_run_trains_nothing(machine):
    (command,) = [command for command in job("retrain.yml") if "--dry-run" in command]
    assert "would train: base, quiz" in machine(command).stdout
    assert not (machine.folder / "store/artifacts").exists() and not machine.page.exists()
