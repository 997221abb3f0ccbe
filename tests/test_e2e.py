"""The experiment smoke through the command, as a user gives it: built, hit, explained, killed, resumed, swept."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from pipeline.checkpoints import checkpoint_step

TRAINING = ("sft", "domain", "dpo")
pytestmark = pytest.mark.slow  # whole chains in processes of their own, about half a minute each


def statuses(record):
    return {name: stage["status"] for name, stage in record["stages"].items()}


def adapter(store, stage):
    return (store / stage["path"] / "model" / "adapter" / "adapter_model.safetensors").read_bytes()


def manifest(store, stage):
    return json.loads((store / stage["path"] / "manifest.json").read_text())


@pytest.fixture
def copy(smoke, tmp_path):
    """A copy of the built store, to be changed."""
    shutil.copytree(smoke.store, tmp_path / "store", symlinks=True)
    return tmp_path / "store"


# -- the run ------------------------------------------------------------------------------------------------------
def test_first_run_builds_everything_and_leaves_a_report(smoke):
    record = smoke.first.json
    assert record["exit"] == 0 and set(statuses(record).values()) == {"BUILT"}
    assert list(record["stages"]) == [
        "base", "smoke_chat", "smoke_text", "smoke_pairs", "smoke_refusals", "paraphrases", "check_sft", "check_domain",
        "check_dpo", "eval_base", "sft", "eval_sft", "domain", "eval_domain", "dpo", "eval_dpo",
    ]  # fmt: skip
    assert {"text_improves", "text_is_kept", "safety_dpo_refusal"} <= {gate["name"] for gate in record["gates"]}
    assert all(gate["passed"] for gate in record["gates"])
    latest = smoke.store / "runs" / "smoke" / "latest"
    assert (latest / "report.html").is_file() and (latest / "report.md").is_file()
    assert json.loads((latest.parent / record["run_id"] / "run.json").read_text())["stages"] == record["stages"]


def test_second_run_hits_everything_and_trains_nothing(smoke, command, copy):
    before = set(copy.rglob("manifest.json"))
    again = command("run", "experiment=smoke", "tracker=none", "--json", store=copy, cwd=smoke.cwd)
    assert again.code == 0 and set(statuses(again.json).values()) == {"HIT"}
    assert set(copy.rglob("manifest.json")) == before
    assert "step 1/" not in again.err and "'loss':" not in again.err
    for name in TRAINING:
        assert again.json["stages"][name]["digest"] == smoke.first.json["stages"][name]["digest"]


def test_every_verb_prints_one_json_document(smoke, command):
    plan = command("plan", "experiment=smoke", "--json", store=smoke.store, cwd=smoke.cwd).json
    assert {stage["status"] for stage in plan["stages"].values()} == {"HIT"}
    status = command("status", "experiment=smoke", "--json", store=smoke.store, cwd=smoke.cwd).json
    assert {name: s["digest"] for name, s in status["stages"].items()} == {
        name: s["digest"] for name, s in smoke.first.json["stages"].items()
    }
    explained = command("explain", "dpo", "experiment=smoke", "--json", store=smoke.store, cwd=smoke.cwd).json
    assert explained["causes"] == []
    shown = command("show", "dpo", "experiment=smoke", "--json", store=smoke.store, cwd=smoke.cwd).json
    assert shown["id"] == plan["stages"]["dpo"]["id"] and shown["payload"]["config"]["train"]["beta"] == 0.1


def test_manifests_record_what_the_stages_did(smoke):
    record = smoke.first.json
    for name in TRAINING:
        made = manifest(smoke.store, record["stages"][name])
        assert all(probe["passed"] for probe in made["probes"]) and len(made["probes"]) == 7
        assert made["tracking"]["group"] == record["run_id"] and made["tracking"]["mode"] == "offline"
        assert made["data"]["rows_kept"] > 0 and made["resumed_from_step"] is None
    mixture = manifest(smoke.store, record["stages"]["domain"])["data"]["mixture"]
    assert all(abs(part["realised"] - part["asked"]) <= 0.005 for part in mixture.values())
    assert mixture["rehearsal:safety"]["asked"] == 0.05
    chain = json.loads((smoke.store / record["stages"]["dpo"]["path"] / "model" / "model.json").read_text())
    assert [ref["stage"] for ref in chain["adapters"]] == list(TRAINING)
    assert [ref["artifact"] for ref in chain["adapters"]] == [record["stages"][name]["id"] for name in TRAINING]


def test_tracker_leaves_one_run_for_each_training_stage_and_no_key(smoke, secret):
    folder = smoke.store / "runs" / "smoke" / smoke.first.json["run_id"] / "wandb"
    runs = {manifest(smoke.store, smoke.first.json["stages"][name])["tracking"]["run"] for name in TRAINING}
    found = [path.name for path in folder.iterdir() if path.is_dir() and path.name.startswith("offline-run")]
    assert len(found) == 3 and {name.rpartition("-")[2] for name in found} == runs
    grep = subprocess.run(["grep", "-rlF", secret, str(smoke.cwd)], capture_output=True, text=True)
    assert grep.stdout == "" and secret not in smoke.first.out + smoke.first.err


# -- one change ---------------------------------------------------------------------------------------------------
def test_beta_rebuilds_dpo_and_its_evaluation_only(smoke, command, copy):
    change = ("experiment=smoke", "tracker=none", "stages.dpo.train.beta=0.3")
    explained = command("explain", "dpo", *change, "--json", store=copy, cwd=smoke.cwd).json
    assert explained["causes"] == [{"stage": "dpo", "key": "train.beta", "old": 0.1, "new": 0.3}]
    said = command("explain", "dpo", *change, store=copy, cwd=smoke.cwd)
    assert "train.beta: 0.1 -> 0.3" in said.out + said.err
    done = command("run", *change, "--json", store=copy, cwd=smoke.cwd)
    assert done.code == 0
    assert [name for name, status in statuses(done.json).items() if status != "HIT"] == ["dpo", "eval_dpo"]
    assert done.json["stages"]["dpo"]["reason"] == "train.beta: 0.1 -> 0.3"
    assert adapter(copy, done.json["stages"]["dpo"]) != adapter(smoke.store, smoke.first.json["stages"]["dpo"])


OWN = """# @package _global_
defaults:
  - smoke
  - _self_
name: own
budget: smoke
data:
  smoke_text: {builder: null, files: [texts.jsonl]}
"""


def test_one_row_of_the_domain_data_rebuilds_domain_and_below(smoke, command, copy, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "own.yaml").write_text(OWN)
    rows = [{"id": f"t{i}", "text": f"Passage {i}: " + "keep the notice and share the work " * 6} for i in range(160)]

    def run(*verb):
        (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = command(*verb, "experiment=own", "tracker=none", "--json", store=copy, cwd=tmp_path)
        assert found.code == 0, found.err
        return found.json

    first = run("run")
    assert [first["stages"][name]["status"] for name in ("base", "smoke_chat", "sft")] == ["HIT"] * 3
    rows[7]["text"] += "today"
    second = run("plan")["stages"]
    changed = {name for name, stage in second.items() if stage["status"] != "HIT"}
    evaluations = {f"eval_{name}" for name in ("base", "sft", "domain", "dpo")}  # its held-out rows are measured
    checks = {f"check_{name}" for name in ("sft", "domain", "dpo")}
    assert changed == {"smoke_text", "domain", "dpo"} | evaluations | checks
    assert "texts.jsonl changed" in second["smoke_text"]["reason"]
    assert second["domain"]["reason"].startswith("data set smoke_text changed: file:texts.jsonl changed")
    causes = run("explain", "dpo")["causes"]
    assert [(cause["stage"], cause["key"]) for cause in causes] == [("smoke_text", "data.file:texts.jsonl")]
    third = run("run", "--until", "domain")["stages"]
    assert (third["sft"]["status"], third["domain"]["status"]) == ("HIT", "BUILT")
    assert third["domain"]["digest"] != first["stages"]["domain"]["digest"]


# -- a kill -------------------------------------------------------------------------------------------------------
def kill_in(stage, store, process):
    """SIGKILL the process group as soon as the stage has a whole checkpoint."""
    states = store / "work" / stage["id"] / "ckpt"
    while not checkpoint_step(states):
        assert process.poll() is None, "the run ended before its stage had a checkpoint"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (store / "artifacts" / stage["kind"] / stage["id"] / "CURRENT").exists(), "the stage was done already"


def test_kill_in_every_training_stage_resumes_to_the_same_bytes(smoke, command, tmp_path):
    """Slow: one chain, whose process group is killed in the middle of sft, domain and dpo, and continued each time."""
    store, words = tmp_path / "store", ("run", "experiment=smoke", "tracker=none")
    for name in TRAINING:
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        process = command.start(*words, store=store, cwd=smoke.cwd, **options)
        try:
            kill_in(smoke.first.json["stages"][name], store, process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    last = command(*words, "--json", store=store, cwd=smoke.cwd)
    assert last.code == 0, last.err
    assert last.json["stages"]["dpo"]["status"] == "RESUMED"
    assert "resuming from step" in last.err
    for name in TRAINING:
        undisturbed, resumed = smoke.first.json["stages"][name], last.json["stages"][name]
        assert manifest(store, resumed)["resumed_from_step"] >= 1
        assert adapter(store, resumed) == adapter(smoke.store, undisturbed)
        assert resumed["digest"] == undisturbed["digest"]


# -- a sweep ------------------------------------------------------------------------------------------------------
def test_multirun_trains_what_its_cells_share_once(smoke, command, copy):
    """The ablation of rehearsal: another seed makes sft new, so the first cell trains it and the second one hits it."""
    words = ("stages.sft.seed=7", "stages.domain.rehearsal.share=0.2,0", "--until", "domain", "tracker=none")
    done = command("run", "-m", "experiment=smoke", *words, "--json", store=copy, cwd=smoke.cwd)
    assert done.code == 0, done.err
    first, second = (run["stages"] for run in done.json["runs"])
    assert (first["sft"]["status"], second["sft"]["status"]) == ("BUILT", "HIT")
    assert first["sft"]["id"] == second["sft"]["id"]
    attempts = [path for path in (copy / "artifacts" / "sft" / first["sft"]["id"]).iterdir() if path.is_dir()]
    assert len(attempts) == 1
    assert (first["domain"]["status"], second["domain"]["status"]) == ("BUILT", "BUILT")
    mixtures = [set(manifest(copy, stages["domain"])["data"]["mixture"]) for stages in (first, second)]
    assert mixtures == [{"smoke_text", "rehearsal:replay", "rehearsal:safety"}, {"smoke_text"}]


# -- folds --------------------------------------------------------------------------------------------------------
FOLDED = """# @package _global_
defaults:
  - /stage@stages.dpo: dpo
  - override /model: toy
  - override /tracker: none
  - _self_
name: folded
budget: smoke
data:
  pairs: {format: preference, files: [pairs.jsonl], split: {method: kfold, k: 2}}
stages:
  dpo: {inputs: {policy: base}, data: {train: pairs}, train: {num_train_epochs: 1}}
eval:
  suites:
    pairs: {measure: preference, data: pairs}
"""


def test_kfold_trains_a_chain_for_each_fold_and_sums_them_up(command, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "folded.yaml").write_text(FOLDED)
    rows = [
        {"id": f"p{i}", "cluster": f"c{i // 2}", "prompt": f"Who signs sheet {i}?",
         "chosen": f"Clerk {i}, then the desk.", "rejected": f"Nobody signs {i} sheets."} for i in range(12)
    ]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = command("run", "experiment=folded", "--json", store=tmp_path / "store", cwd=tmp_path)
    assert done.code == 0, done.err
    summary, runs = done.json["summary"], done.json["runs"]
    assert statuses(runs[1])["base"] == "HIT" and statuses(runs[1])["dpo"] == "BUILT"
    held = [heldout(tmp_path / "store", run["stages"]["pairs"]) for run in runs]
    assert not held[0] & held[1] and held[0] | held[1] == {row["id"] for row in rows}
    (row,) = [row for row in summary["suites"] if row["model"] == "dpo"]
    measured = [
        json.loads((tmp_path / "store" / run["stages"]["eval_dpo"]["path"] / "results" / "summary.json").read_text())
        for run in runs
    ]
    assert row["values"] == [one["pairs"]["value"] for one in measured]
    assert row["mean"] == pytest.approx(sum(row["values"]) / 2) and row["sd"] is not None
    losses = [manifest(tmp_path / "store", run["stages"]["dpo"])["metrics"]["final_loss"] for run in runs]
    assert summary["losses"][0]["values"] == losses and losses[0] != losses[1]


def heldout(store, stage):
    lines = (store / stage["path"] / "data" / "heldout.jsonl").read_text().splitlines()
    return {json.loads(line)["id"] for line in lines}
