"""`store.remote`, `push` and `pull` as the command shows them: reading through, mirroring, failures, dry lists."""

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.config.load import Loaded
from pipeline.display import Screen
from pipeline.planner import make_plan
from pipeline.remote import open_remote, push_all
from pipeline.runner import Run
from pipeline.runner import execute as run_plan
from pipeline.store import Store


def test_a_run_takes_from_the_remote_what_is_not_here(journeyman, project, monkeypatch):
    url = f"store.remote=file://{project.path}/mirror"
    assert journeyman("run", url, "store.push=true").code == 0
    monkeypatch.setenv("JOURNEYMAN_STORE", str(project.path / "other"))
    plan = journeyman("plan", url, "--json").json["stages"]
    assert {row["status"] for row in plan.values()} == {"HIT"}
    assert {row["reason"] for row in plan.values()} == {f"from file://{project.path}/mirror"}
    assert not list((project.path / "other").glob("artifacts/*/*"))  # plan fetches nothing
    record = journeyman("run", url, "--json").json
    assert {stage["status"] for stage in record["stages"].values()} == {"HIT"}
    assert journeyman("store", "fsck", experiment=None).code == 0
    again = journeyman("plan", "--json").json["stages"]  # without a remote
    assert {row["reason"] for row in again.values()} == {"up to date"}


def test_only_what_changed_is_built_and_pushed(journeyman, project, monkeypatch, s3):
    url = f"store.remote={s3}"
    journeyman("run", url, "store.push=true")
    monkeypatch.setenv("JOURNEYMAN_STORE", str(project.path / "other"))
    record = journeyman("run", url, "store.push=true", "stages.second.train.beta=0.2", "--json")
    status = {name: stage["status"] for name, stage in record.json["stages"].items()}
    assert (status["first"], status["second"]) == ("HIT", "BUILT")
    assert record.err.count("pushed second ") == 1 and "pushed first " not in record.err


def test_a_remote_that_cannot_be_written_never_costs_the_run(journeyman, monkeypatch):
    def refused(*_, **__):
        raise PermissionError("access denied")

    monkeypatch.setattr(MemoryFileSystem, "put_file", refused)
    done = journeyman("run", "store.remote=memory://mirror", "store.push=true", "--json")
    assert done.code == 0 and done.json["exit"] == 0
    assert "not everything was pushed" in done.err and "access denied" in done.err and "journeyman push" in done.err


def test_a_remote_that_does_not_answer_ends_the_plan_with_a_sentence(journeyman, monkeypatch):
    def silent(*_, **__):
        raise TimeoutError("no answer")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", silent)
    done = journeyman("plan", "store.remote=memory://mirror")
    assert done.code == 5 and "store.remote=null" in done.err and "Traceback" not in done.err
    assert journeyman("plan").code == 0


def test_push_and_pull_list_first_and_take_stages_and_ids(journeyman, project, monkeypatch):
    url = f"store.remote=file://{project.path}/mirror"
    journeyman("run")
    dry = journeyman("push", "first", url, "--dry-run", "--json").json
    assert dry["dry_run"] and not (project.path / "mirror").exists()
    sent = journeyman("push", "first", url, "--json").json
    names = [one["stage"] for one in sent["artifacts"]]
    assert sent["artifacts"] == dry["artifacts"] and {"base", "first"} <= set(names) and "second" not in names
    assert journeyman("push", "first", url, "--json").json["artifacts"] == []
    monkeypatch.setenv("JOURNEYMAN_STORE", str(project.path / "other"))
    id = next(one["id"] for one in sent["artifacts"] if one["stage"] == "first")
    assert not list((project.path / "other").glob("artifacts/*/*"))
    pulled = journeyman("pull", id[:6], url, "--json", experiment=None).json
    assert {one["stage"] for one in pulled["artifacts"]} == set(names)
    plan = journeyman("plan", "--json").json["stages"]
    assert plan["first"]["status"] == "HIT" and plan["second"]["status"] == "BUILD"


@pytest.mark.parametrize("words", [("push",), ("pull",), ("push", "second", "store.remote=memory://m")])
def test_push_and_pull_say_what_is_missing(journeyman, words):
    done = journeyman(*words)
    assert done.code == 2 and ("store.remote" in done.err or "not built yet" in done.err)


def test_what_another_machine_pushed_meanwhile_is_not_built_again(execute, chain, project):
    done = execute(chain())
    remote = open_remote(f"file://{project.path}/mirror")
    store = Store(project.path / "other")
    plan = make_plan(chain(), store, remote=remote)
    assert {node.status for node in plan.nodes.values()} == {"BUILD"}
    push_all(remote, done.store, [node.stored for node in done.plan.nodes.values()], lambda _: None)
    run = Run(plan, store, Loaded(chain(), [], {}), Screen())
    assert run_plan(run) == 0
    assert {(row["status"], row["reason"]) for row in run.record["stages"].values()} == {("HIT", f"from {remote.url}")}


def test_a_damaged_remote_ends_the_run_before_anything_is_built(journeyman, project, monkeypatch):
    url = f"store.remote=file://{project.path}/mirror"
    journeyman("run", url, "store.push=true")
    monkeypatch.setenv("JOURNEYMAN_STORE", str(project.path / "other"))
    for file in (project.path / "mirror").glob("artifacts/toy/*/2*/model.txt"):
        file.write_text("?")
    done = journeyman("run", url)
    assert done.code == 5 and "does not match its recorded hash" in done.err
    assert not list((project.path / "other").glob("artifacts/toy/*/CURRENT"))
