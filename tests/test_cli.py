"""The command as a user sees it: verbs, exit codes, messages, sweeps, interrupts and kills."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def edit(project, old, new):
    file = project.path / "conf" / "experiment" / "chain.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


# -- verbs --------------------------------------------------------------------------------------------------------
def test_plan_shows_reasons_and_builds_nothing(journeyman, project):
    shown = journeyman("plan")
    assert shown.code == 0 and "BUILD   second       toy" in shown.out and "nothing built yet" in shown.out
    assert not (project.store / "artifacts").exists() and not (project.store / "runs").exists()
    assert not (project.path / "outputs").exists() and not (project.path / "multirun").exists()


def test_plan_json_has_exactly_the_agreed_keys(journeyman):
    document = journeyman("plan", "--json").json
    assert set(document) == {"experiment", "stages"} and document["experiment"] == "chain"
    assert set(document["stages"]["first"]) == {"kind", "id", "status", "reason"}


def test_run_then_status_show_explain_and_nothing_to_do(journeyman):
    done = journeyman("run")
    assert done.code == 0 and "BUILT   second" in done.out and "report: " in done.out
    status = journeyman("status", "--json").json["stages"]["second"]
    assert set(status) == {"kind", "id", "status", "reason", "attempt", "digest"}
    assert status["status"] == "HIT" and len(status["digest"]) == 64
    assert "value         8" in journeyman("show", "second").out
    assert journeyman("show", "second", "--json").json["id"] == status["id"]
    assert "├─ model: second  toy  HIT" in journeyman("show").out
    explained = journeyman("explain", "second", "stages.second.train.beta=0.2")
    assert "first cause: second: train.beta: 0.1 -> 0.2" in explained.out
    causes = journeyman("explain", "second", "stages.second.train.beta=0.2", "--json").json["causes"]
    assert causes == [{"stage": "second", "key": "train.beta", "old": 0.1, "new": 0.2}]
    again = journeyman("run", "--json")
    assert again.code == 0 and {entry["status"] for entry in again.json["stages"].values()} == {"HIT"}


def test_json_is_one_document_also_for_a_mistake(journeyman):
    wrong = journeyman("run", "stages.frist.seed=1", "--json")
    assert wrong.code == 2 and wrong.json["exit"] == 2 and "first" in wrong.json["error"]


def test_pins_are_set_by_stage_and_by_id(journeyman):
    journeyman("run", "--until", "first")
    assert journeyman("pins", "set", "best", "first").code == 0
    found = journeyman("pins", "--json", experiment=None).json["pins"]["best"]
    assert found["stage"] == "first"
    assert journeyman("pins", "set", "same", found["id"][:8], experiment=None).code == 0
    assert journeyman("pins", "rm", "best", experiment=None).code == 0
    assert list(journeyman("pins", "--json", experiment=None).json["pins"]) == ["same"]
    wrong = journeyman("pins", "set", "x", "second")
    assert wrong.code == 2 and "not built" in wrong.err
    assert "add experiment=NAME" in journeyman("pins", "set", "x", "second", experiment=None).err
    assert "pins set NAME" in journeyman("pins", "what", experiment=None).err


def test_gc_is_dry_unless_told(journeyman, project):
    journeyman("run", "--until", "first")
    journeyman("run", "--until", "first", "--force", "first")
    dry = journeyman("gc", "--json", experiment=None)
    assert dry.json["applied"] is False and dry.json["attempts"] == []
    old = journeyman("gc", "--days", "-1", "--json", experiment=None).json
    assert len(old["attempts"]) == 4
    assert journeyman("gc", "--days", "-1", "--apply", experiment=None).code == 0
    assert list((project.store / "artifacts").glob("*/*/2*")) == []
    assert journeyman("run", "--until", "first").code == 0


# -- sweeps -------------------------------------------------------------------------------------------------------
def test_a_sweep_shares_what_is_equal(journeyman, project):
    swept = journeyman("run", "-m", "stages.second.train.beta=0.2,0.3", "--json")
    assert swept.code == 0 and swept.json["exit"] == 0
    one, two = swept.json["runs"]
    assert one["stages"]["first"]["status"] == "BUILT" and two["stages"]["first"]["status"] == "HIT"
    assert two["stages"]["second"]["status"] == "BUILT"
    assert one["stages"]["second"]["id"] != two["stages"]["second"]["id"]
    assert sorted(path.name for path in project.path.iterdir() if path.is_dir()) == ["conf", "store"]


def test_a_failed_cell_does_not_lose_the_others(journeyman, project):
    (project.path / "trouble.txt").write_text("data")
    swept = journeyman("run", "-m", "stages.first.trouble=trouble.txt,none.txt", "--json")
    assert swept.code == 4 and [run["exit"] for run in swept.json["runs"]] == [4, 0]
    mixed = journeyman("run", "-m", "stages.second.inputs.policy=frist,first", "--json")
    assert mixed.code == 2 and mixed.json["runs"][0]["error"].startswith("stages.second.inputs.policy")
    assert mixed.json["runs"][1]["exit"] == 0


def test_a_mistake_in_a_sweep_is_found_before_its_first_cell(journeyman, project):
    wrong = journeyman("run", "-m", "stages.second.sed=1,2")
    assert wrong.code == 2 and "did you mean 'seed'" in wrong.err and not (project.store / "runs").exists()


# -- mistakes -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stages.first.trian.lr=1"], "stages.first.trian: unknown key (did you mean 'train'?)"),
        (["stages.first.train.lrr=1"], "stages.first.train.lrr: unknown key (did you mean 'lr'?)"),
        (["+stages.first.trian=1"], "stages.first.trian: unknown key (did you mean 'train'?)"),
        (["stages.frist.seed=1"], "stages.frist: unknown key (did you mean 'first'?)"),
        (["stages.first.add=abc"], "stages.first.add: Value 'abc' of type 'str' could not be converted to Float"),
        (["stages.first.train.lr=0.1,0.2"], "`run -m` goes through them"),
        (["stages.first.train.lr=[0.1"], "cannot read the override 'stages.first.train.lr=[0.1'"),
        (["modle.source=toy"], "modle: unknown key (did you mean 'model'?)"),
        (["budget=tiny"], "unknown budget 'tiny'"),
        (
            ["tracker=wandbb"],
            "unknown tracker 'wandbb' (did you mean 'wandb'?); known: mlflow, none, tensorboard, ",
        ),
        (["model.source=???"], "model.source: a value is required"),
        (["stages.second.inputs.policy=frist"], "there is no stage 'frist' (did you mean 'first'?)"),
        (["stages.first.inputs.policy=second"], "form a circle"),
        (["stages.first.kind=toyy"], "unknown stage kind 'toyy'"),
        (["+stages.first.train._target_=os.system"], "_target_ is refused"),
        (["stages.first.train.lr=${now:%H}"], "would change from run to run"),
        (["stages.first.train.lr=${oc.env:HOME}"], "would change from run to run"),
        (["stages.first.train.lr=${store.root}"], "stages.first.train.lr"),
        (["stages.first.train.lr=nan"], "nan is not allowed in a config"),
        (["data.facts.files=[gone.jsonl]"], "gone.jsonl"),
        (["--until", "frist"], "did you mean 'first'"),
        (["--config-dir", "nowhere"], "nowhere: no such folder"),
        (["identity.code=strickt"], "identity.code"),
        (["~name"], "experiment"),
    ],
)
def test_a_mistake_is_one_clear_message(journeyman, project, words, message):
    wrong = journeyman("run", *words)
    assert wrong.code == 2, wrong.out + wrong.err
    assert message in wrong.err and "Traceback" not in wrong.err
    assert not (project.store / "artifacts").exists() and not (project.store / "runs").exists()


def test_an_unknown_experiment_lists_the_known(journeyman):
    wrong = journeyman("run", experiment="chian")
    assert wrong.code == 2 and "unknown experiment 'chian' (did you mean 'chain'?); known: chain" in wrong.err
    none = journeyman("run", experiment=None)
    assert none.code == 2 and "give experiment=NAME (known: " in none.err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: toy, inputs: {policy: first}", "inputs: {policy: first}", "stages.second: `kind` is missing"),
        ("trouble: trouble.txt", "truoble: x", "stages.first.truoble: unknown key (did you mean 'trouble'?)"),
        ("name: chain", "nmae: chain", "In 'experiment/chain': nmae: "),
        ("  source: toy", "  source: [toy", "chain.yaml, line "),
        ("/tracker: none", "/tracker: wandbb", "unknown tracker 'wandbb'"),
        ("files: [facts.jsonl]", "file: facts.jsonl", "data.facts.file: unknown key (did you mean 'files'?)"),
        ("eval:", "gates: {g: {suite: quiz}}\neval:", "gates.g.rule: a value is required"),
        ("first: {kind", "first-: 3\n  first: {kind", "stages.first-: expected a mapping with `kind`, found 3"),
    ],
)
def test_a_mistake_in_an_experiment_s_file_names_the_place(journeyman, project, old, new, message):
    edit(project, old, new)
    wrong = journeyman("run")
    assert wrong.code == 2 and message in wrong.err and "Traceback" not in wrong.err


def test_debug_shows_the_traceback(journeyman):
    wrong = journeyman("run", "stages.frist.seed=1", "--debug")
    assert wrong.code == 2 and "Traceback" in wrong.err


@pytest.mark.parametrize("words", [["rnu"], ["run", "legal"], ["explain", "a", "b"], ["run", "--nope"]])
def test_a_wrong_command_line_is_exit_2(project, words, capfd):
    from pipeline.cli import main

    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2 and "error: " in capfd.readouterr().err


# -- experiments of one's own -------------------------------------------------------------------------------------
def test_a_config_dir_adds_experiments_and_groups(journeyman, project):
    other = project.path / "mine" / "experiment"
    other.mkdir(parents=True)
    (other / "own.yaml").write_text(
        (project.path / "conf" / "experiment" / "chain.yaml").read_text().replace("chain", "own")
    )
    shown = journeyman("plan", "--config-dir", "mine", "--json", experiment="own")
    assert shown.code == 0 and shown.json["experiment"] == "own"
    assert journeyman("run", "-m", "-cd", "mine", "stages.first.seed=1,2", experiment="own").code == 0


def test_a_budget_comes_after_the_experiment_and_before_the_command_line(journeyman, project):
    (project.path / "conf" / "budget").mkdir()
    (project.path / "conf" / "budget" / "tiny.yaml").write_text(
        "# @package _global_\nstages:\n  first: {train: {max_steps: 2}}\n  other: {seed: 3}\n"
    )
    edit(project, "budget: none", "budget: tiny")
    shown = journeyman("run", "--until", "first", "--json")
    assert shown.json["resolved_config"]["stages"]["first"]["train"]["max_steps"] == 2
    assert "other" not in shown.json["resolved_config"]["stages"]  # a stage of another experiment
    assert shown.json["overrides"][-1] == "budget=tiny" and "this experiment's own" in shown.err
    own = journeyman("run", "--until", "first", "--json", "budget=tiny", "stages.first.train.max_steps=3")
    assert own.json["resolved_config"]["stages"]["first"]["train"]["max_steps"] == 3
    off = journeyman("run", "--until", "first", "--json", "budget=none")
    assert off.json["resolved_config"]["stages"]["first"]["train"]["max_steps"] == 4


def test_the_command_chooses_a_budget_and_says_so(journeyman, project, monkeypatch):
    edit(project, "budget: none\n", "")
    for name in ("cpu", "gpu"):
        (project.path / "conf" / "budget").mkdir(exist_ok=True)
        (project.path / "conf" / "budget" / f"{name}.yaml").write_text("# @package _global_\ndescription: " + name)
        for module in ("config.load", "config.search"):
            monkeypatch.setattr(f"pipeline.{module}.has_cuda", lambda name=name: name == "gpu")
        shown = journeyman("run", "--until", "base", "--json")
        assert f"budget={name}" in shown.json["overrides"] and f"budget={name} (" in shown.err


# -- places that cannot be written --------------------------------------------------------------------------------
@contextmanager
def mounted(folder, *options):
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_store_that_cannot_be_written_is_exit_5(journeyman, project):
    (project.path / "file").write_text("")
    wrong = journeyman("run", "store.root=file/store")
    assert wrong.code == 5 and "store.root=FOLDER" in wrong.err and "Traceback" not in wrong.err


def test_a_read_only_store_can_be_read_and_not_built_in(journeyman, project):
    with mounted(project.path / "ro"):
        assert journeyman("run", "store.root=ro/store", "--until", "first").code == 0
        subprocess.run(["mount", "-o", "remount,ro", project.path / "ro"], check=True)
        assert journeyman("status", "store.root=ro/store").code == 0
        wrong = journeyman("run", "store.root=ro/store", "--force", "first")
        assert wrong.code == 5 and "JOURNEYMAN_STORE" in wrong.err and "Traceback" not in wrong.err


def test_a_full_disk_publishes_nothing_half_made(journeyman, project):
    with mounted(project.path / "small", "-o", "size=400k"):
        (project.path / "facts.jsonl").write_text('{"id": "%s"}\n' % ("x" * 500_000))
        wrong = journeyman("run", "store.root=small/store")
        assert wrong.code == 5 and "disk is full" in wrong.err and "Traceback" not in wrong.err
        assert not list((project.path / "small" / "store" / "artifacts").glob("prepare/*/2*"))
        (project.path / "facts.jsonl").write_text('{"id": "a"}\n')
        subprocess.run(["mount", "-o", "remount,size=8m", project.path / "small"], check=True)
        assert journeyman("run", "store.root=small/store", "--until", "first").code == 0


# -- speed --------------------------------------------------------------------------------------------------------
def test_a_run_with_nothing_to_do_loads_no_heavy_library(journeyman, project):
    """Seconds depend on the machine; what costs them does not."""
    journeyman("run")
    command = [sys.executable, "-X", "importtime", str(HERE / "toy_command.py"), "run", "experiment=chain"]
    for _ in range(2):  # the first one composes for itself: this process and that know other modules
        again = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(HERE)}, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.count("HIT") == 8
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in again.stderr.splitlines()}
    assert loaded & {"torch", "transformers", "trl", "hydra", "matplotlib"} == set()
    assert not {"multiprocessing.forkserver"} & {line.rpartition("|")[2].strip() for line in again.stderr.splitlines()}


# -- signals, with the command as a process of its own ------------------------------------------------------------
@pytest.fixture
def process(project):
    """process(*words) starts the command in a process group of its own; the stage `first` waits on ./pipe."""
    os.mkfifo(project.path / "pipe")
    started = []

    def start(*words):
        child = subprocess.Popen(
            [sys.executable, str(HERE / "toy_command.py"), "run", "experiment=chain", "--until", "first", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
        )  # fmt: skip
        started.append(child)
        return child

    (project.path / "trouble.txt").write_text("wait")
    yield start
    for child in started:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()


def reach(project):
    """Blocks until the stage waits, and holds it until the returned file is closed."""

    def never(*_):
        pytest.fail("the stage was not reached within two minutes")

    before = signal.signal(signal.SIGALRM, never)
    signal.alarm(120)
    try:
        return (project.path / "pipe").open("w")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def runs(project):
    (file,) = project.store.glob("work/*/runs.txt")
    return len(file.read_text().splitlines())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_exit_130_and_resumes(process, project, sent):
    child = process()
    with reach(project):
        os.killpg(child.pid, sent) if sent == signal.SIGINT else os.kill(child.pid, sent)
        out, _ = child.communicate(timeout=30)
    assert child.returncode == 130 and "the same command continues" in out and "Traceback" not in out
    record = json.loads((project.store / "runs" / "chain" / "latest" / "run.json").read_text())
    assert record["exit"] == 130 and record["stages"]["first"]["status"] == "FAILED"
    (project.path / "trouble.txt").unlink()
    again = process()
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0 and "RESUMED first" in out


def test_a_kill_of_the_whole_group_resumes(process, project):
    child = process()
    with reach(project):
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    (project.path / "trouble.txt").unlink()
    again = process()
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0 and "RESUMED first" in out and runs(project) == 2


def test_an_orphan_keeps_the_lock_and_its_work_is_not_lost(process, project, journeyman):
    """Only the command is killed: its stage goes on; the same command queues behind it and publishes what it made."""
    child = process()
    with reach(project):
        child.kill()
        child.wait()
        assert journeyman("status", "--json").json["stages"]["first"]["status"] == "RUNNING"
        (project.path / "trouble.txt").unlink()
        again = process()
        for line in again.stdout:
            if "waiting: another process builds first" in line:
                break
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0 and "BUILT   first" in out and runs(project) == 1
