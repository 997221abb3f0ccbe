"""Runs with toy stages in real child processes: statuses, failures, resume, gates, and what run.json says."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

import pipeline.runner as runner
from pipeline.errors import ConfigError, DataError
from pipeline.manifest import write_json
from pipeline.schema import Gate


@pytest.fixture
def short(chain):
    """The chain without evaluation: base, facts, first, second."""
    return lambda **parts: chain(suites=False, **parts)


def trouble(project, word):
    (project.path / "trouble.txt").write_text(word)


def calm(project):
    (project.path / "trouble.txt").unlink()


def times_run(result, name):
    """How often a stage's code ran, since its work folder was made."""
    return len((result.store.work(result.plan.nodes[name].id) / "runs.txt").read_text().splitlines())


def test_builds_once_then_hits(chain, execute, project):
    first = execute(chain())
    assert first.code == 0 and set(first.statuses.values()) == {"BUILT"}
    second = execute(chain())
    assert second.code == 0 and set(second.statuses.values()) == {"HIT"}
    assert (second.store.root / second.record["stages"]["second"]["path"] / "model.txt").read_text() == "8.0"


def test_run_json_says_what_happened(chain, execute, project):
    result = execute(chain())
    saved = json.loads((project.store / "runs" / "chain" / "latest" / "run.json").read_text())
    assert saved == result.record
    assert set(saved) == {
        "run_id", "experiment", "overrides", "sweep", "resolved_config", "folds", "process", "started", "finished",
        "seconds", "engine_seconds", "exit", "stages", "gates",
    }  # fmt: skip
    entry = saved["stages"]["first"]
    assert set(entry) == {"kind", "id", "attempt", "digest", "status", "reason", "path", "seconds", "produces"}
    assert (project.store / entry["path"] / "manifest.json").exists()
    assert 0 < saved["engine_seconds"] <= saved["seconds"]


def test_what_was_ready_is_on_record_while_the_next_stage_works(short, execute, project, monkeypatch):
    """So that a run that is killed there has told it; ready stages alone do not each write the record."""
    execute(short(), until="first")
    real, seen = runner._build, []

    def build(run, node, lock):
        seen.append(json.loads((run.folder / "run.json").read_text())["stages"])
        return real(run, node, lock)

    monkeypatch.setattr(runner, "_build", build)
    result = execute(short())
    assert [entry["digest"] is not None for entry in seen[0].values()] == [True, True, True, False]
    assert seen[0]["first"] == result.record["stages"]["first"]


def test_the_manifest_is_complete(short, execute, project):
    result = execute(short())
    manifest = json.loads((project.store / result.record["stages"]["first"]["path"] / "manifest.json").read_text())
    wanted = (
        "schema id attempt kind stage payload inputs outputs digest metrics data gates seed env code_digest argv "
        "started finished seconds resumed_from_step"
    )
    assert set(wanted.split()) <= set(manifest)
    assert set(manifest["inputs"]) == {"policy", "data.train"}
    assert set(manifest["inputs"]["policy"]) == {"id", "attempt", "digest"}
    assert manifest["metrics"] == {"value": 4.0, "loss": 0.25, "final_loss": 0.0}
    assert manifest["training"] == {"start_step": 0, "end_step": 4, "max_steps": 4}
    assert set(manifest["env"]) == {"git", "dirty", "packages", "python", "platform", "hardware"}


def test_only_what_changed_is_built(chain, execute):
    execute(chain())
    changed = execute(chain(beta=0.2))
    built = {name for name, status in changed.statuses.items() if status == "BUILT"}
    assert built == {"second", "eval_second"}


def test_a_forced_stage_with_the_same_content_leaves_what_follows_alone(short, execute):
    execute(short())
    forced = execute(short(), force=["first"])
    assert forced.statuses == {"base": "HIT", "facts": "HIT", "first": "BUILT", "second": "HIT"}
    assert forced.record["stages"]["second"]["reason"] == "its inputs came out the same"


def test_from_rebuilds_everything_below(short, execute):
    execute(short())
    again = execute(short(), start="first")
    assert again.statuses == {"base": "HIT", "facts": "HIT", "first": "BUILT", "second": "BUILT"}


# -- failures -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "code", "message"),
    [
        ("bug", 5, "KeyError: 'no such thing' (the whole story: "),
        ("data", 4, "3 rows have no answer"),
        ("full", 5, "the disk is full"),
        ("memory", 5, "runtime.micro_batch"),
        ("nan", 5, "metrics.loss is nan"),
        ("kill", 5, "killed by SIGKILL"),
        ("interrupt", 130, "interrupted"),
        ("idle", 0, ""),
    ],
)
def test_failures_have_a_message_and_an_exit_code(short, execute, project, capfd, word, code, message):
    trouble(project, word)
    result = execute(short())
    shown = capfd.readouterr()
    assert result.code == code and result.record["exit"] == code
    assert message in shown.err and "Traceback" not in shown.out
    if code:
        assert result.statuses == {"base": "BUILT", "facts": "BUILT", "first": "FAILED", "second": "SKIPPED"}
        assert message in result.record["stages"]["first"]["reason"] or code == 130
        assert not (project.store / "artifacts" / "toy").exists()


def test_a_bug_leaves_its_traceback_in_the_log(short, execute, project):
    trouble(project, "bug")
    result = execute(short())
    log = result.store.work(result.plan.nodes["first"].id) / "log.txt"
    assert "Traceback" in log.read_text() and str(log) in result.record["stages"]["first"]["reason"]


@pytest.mark.parametrize("word", ["kill", "bug", "interrupt"])
def test_a_stopped_stage_resumes_and_comes_out_the_same(short, execute, project, word):
    trouble(project, word)
    stopped = execute(short())
    calm(project)
    resumed = execute(short())
    assert resumed.code == 0 and resumed.statuses["first"] == "RESUMED" and times_run(resumed, "first") == 2
    manifest = resumed.plan.nodes["first"].stored.manifest
    assert manifest["resumed_from_step"] == 2
    assert (resumed.plan.nodes["first"].stored.path / "model.txt").read_text() == "4.0"
    assert not (resumed.store.work(stopped.plan.nodes["first"].id) / "ckpt").exists()


def test_a_resume_that_trains_nothing_is_a_failure(short, execute, project, capfd):
    trouble(project, "kill")
    execute(short())
    trouble(project, "idle")
    result = execute(short())
    assert result.code == 5 and "trained no step although 4 were asked for" in capfd.readouterr().err


def test_a_torn_checkpoint_is_not_continued(short, execute, project):
    trouble(project, "kill")
    stopped = execute(short())
    newest = stopped.store.work(stopped.plan.nodes["first"].id) / "ckpt" / "checkpoint-2"
    (newest / "trainer_state.json").unlink()
    calm(project)
    resumed = execute(short())
    assert resumed.plan.nodes["first"].stored.manifest["resumed_from_step"] == 1


def test_checkpoints_of_other_inputs_and_before_a_force_are_not_continued(short, execute, project):
    trouble(project, "kill")
    execute(short())
    calm(project)
    forced = execute(short(), force=["first"])
    assert forced.statuses["first"] == "BUILT"
    assert forced.plan.nodes["first"].stored.manifest["resumed_from_step"] is None


def test_a_finished_child_whose_parent_died_is_published_and_not_run_again(short, execute, project, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "manifest.json")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.store.sync_tree", full)
        failed = execute(short(), until="base")
    assert failed.code == 5 and failed.statuses["base"] == "FAILED"
    stages = project.store / "work" / failed.plan.nodes["base"].id
    before = os.stat(stages / "out" / "model.txt").st_ino
    result = execute(short(), until="base")
    assert result.code == 0
    assert os.stat(result.plan.nodes["base"].stored.path / "model.txt").st_ino == before


def test_an_attempt_whose_publisher_died_is_adopted(short, execute):
    built = execute(short())
    (built.plan.nodes["first"].stored.path.parent / "CURRENT").unlink()
    again = execute(short())
    assert again.statuses["first"] == "HIT" and "stopped while publishing" in again.record["stages"]["first"]["reason"]
    assert times_run(again, "first") == 1


def test_a_damaged_input_is_refused_with_the_remedy(short, execute, project, capfd):
    built = execute(short())
    file = built.plan.nodes["first"].stored.path / "model.txt"
    stat = file.stat()
    file.write_text("5.0")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # only reading it can tell
    result = execute(short(beta=0.3))
    assert result.code == 5 and result.statuses["second"] == "FAILED"
    assert "--force first" in capfd.readouterr().err
    assert execute(short(beta=0.3), force=["first"]).code == 0


def test_a_full_disk_while_the_record_is_written_is_exit_5(short, execute, capfd, monkeypatch):
    real = write_json

    def full(path, value):
        if path.name == "run.json" and value["exit"] is not None:
            raise OSError(28, "No space left on device", str(path))
        real(path, value)

    monkeypatch.setattr(runner, "write_json", full)
    assert execute(short(), until="base").code == 5
    assert "the disk is full" in capfd.readouterr().err


# -- validation ---------------------------------------------------------------------------------------------------
def test_all_configs_are_validated_before_the_first_stage_runs(short, execute, project):
    experiment = short()
    for stage in experiment.stages.values():
        stage.train = {"max_steps": 4}
    with pytest.raises(ConfigError) as error:
        execute(experiment)
    assert str(error.value).splitlines() == [
        "stages.first: train.lr is missing",
        "stages.second: train.lr is missing",
    ]
    assert not (project.store / "runs").exists()


# -- gates --------------------------------------------------------------------------------------------------------
@pytest.fixture
def judged(monkeypatch):
    """Gates that compare the number in summary.json with `value`; the real ones have tests of their own."""
    import pipeline.judging.gates as gates

    def judge(asked, results, inputs, prompts):
        found = []
        for name, gate in asked.items():
            value = json.loads((Path(results[gate.stage]) / "results" / "summary.json").read_text())[gate.suite][
                "value"
            ]
            passed = value >= gate.value
            sentence = f"{name}: {value} on {gate.suite}"
            fields = dict.fromkeys(gates.GateResult.__dataclass_fields__, 0.0)
            fields |= {key: item for key, item in asdict(gate).items() if key in fields}
            found.append(
                gates.GateResult(**{**fields, "name": name, "passed": passed, "sentence": sentence, "value": value})
            )
        return found

    monkeypatch.setattr(gates, "judge", judge)


def gate(value, stage="first", action="block"):
    return {"g": Gate(stage=stage, suite="quiz", rule="at_least", value=value, action=action)}


def test_a_refusing_gate_stops_what_follows_and_keeps_artifacts(chain, execute, judged, capfd):
    result = execute(chain(gates=gate(9.0)))
    assert result.code == 3 and "g: 4.0 on quiz" in capfd.readouterr().err
    assert result.statuses["first"] == "BUILT"
    assert result.statuses["second"] == result.statuses["eval_second"] == "GATED"
    assert result.record["gates"][0]["passed"] is False
    again = execute(chain(gates=gate(9.0)))
    assert again.code == 3 and again.statuses["first"] == "HIT"
    assert execute(chain(gates=gate(4.0))).code == 0


def test_a_refusal_is_the_same_whether_results_are_built_or_found(chain, execute, judged):
    """A stricter gate on results that the store has: what it refuses is still measured, what follows is not judged."""
    later = {"later": Gate(stage="second", suite="quiz", rule="at_least", value=1.0)}
    execute(chain(gates=gate(4.0)))
    found = execute(chain(gates={**gate(9.0), **later}))
    assert (found.statuses["eval_first"], found.statuses["second"]) == ("HIT", "GATED")
    assert [one["name"] for one in found.record["gates"]] == ["g"]


def test_a_gate_that_only_warns_stops_nothing(chain, execute, judged):
    result = execute(chain(gates=gate(9.0, action="warn")))
    assert result.code == 0 and result.statuses["second"] == "BUILT" and not result.record["gates"][0]["passed"]


def test_a_gate_on_the_last_stage_refuses_too(chain, execute, judged):
    result = execute(chain(gates=gate(9.0, stage="second")))
    assert result.code == 3 and set(result.statuses.values()) == {"BUILT"}


# -- the report ---------------------------------------------------------------------------------------------------
def test_the_report_is_written_also_after_a_failure(short, execute, project, monkeypatch, capfd):
    seen = []
    monkeypatch.setattr("pipeline.report.write_report", lambda run, store: seen.append((run, store)) or run / "r.html")
    trouble(project, "data")
    result = execute(short())
    assert seen == [(result.store.runs("chain") / result.record["run_id"], result.store.root)]
    assert "r.html" in capfd.readouterr().out


def test_a_report_that_breaks_costs_nothing(short, execute, monkeypatch, capfd):
    monkeypatch.setattr("pipeline.report.write_report", lambda *_: 1 / 0)
    assert execute(short(), until="base").code == 0
    assert "the report could not be written: ZeroDivisionError" in capfd.readouterr().out


# -- two at a time ------------------------------------------------------------------------------------------------
def test_a_stage_that_another_run_built_meanwhile_is_taken_from_there(short, execute, project):
    from pipeline.planner import make_plan
    from pipeline.store import Store

    early = make_plan(short(), Store(project.store))
    execute(short())
    from pipeline.config.load import Loaded
    from pipeline.display import Screen

    late = runner.Run(early, Store(project.store), Loaded(short(), [], {}), Screen())
    assert runner.execute(late) == 0
    assert {entry["status"] for entry in late.record["stages"].values()} == {"HIT"}
    assert late.record["stages"]["first"]["reason"] == "built by another run"


def test_errors_keep_their_kind():
    assert isinstance(runner._named(DataError("x"), type("N", (), {"name": "base"})()), DataError)
