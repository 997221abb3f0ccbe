"""What a user can get wrong: one clear message, the right exit code, no traceback, nothing half-written."""

import json
import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest

DATA = """# @package _global_
defaults:
  - override /tracker: none
  - _self_
name: rows
budget: none
data:
  mine: {format: text, files: [mine.jsonl]}
"""
WHOLE = '{"text": "Keep the notice."}\n'


@pytest.fixture
def user(tmp_path, monkeypatch, capfd):
    """A user's folder with the experiment `rows`; user(...) gives a command in this process -> .code, .err, .text."""
    from pipeline.cli import main

    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "rows.yaml").write_text(DATA)
    (tmp_path / "mine.jsonl").write_text(WHOLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def call(*words):
        code = main(list(words))
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return SimpleNamespace(code=code, out=out, err=err, text=" ".join((out + err).split()))

    call.path, call.store = tmp_path, tmp_path / "store"
    return call


def published(store):
    """Every file of the store that another run could take for a result."""
    return sorted(str(path.relative_to(store)) for path in (store / "artifacts").rglob("*") if path.is_file())


# -- the command line and the config ------------------------------------------------------------------------------
WRONG = {
    "experiment=smokee": "unknown experiment 'smokee' (did you mean 'smoke'?)",
    "experiment=null": "`~GROUP` takes a group out",
    "stages.sft.batchsize=4": "stages.sft.batchsize: unknown key (did you mean 'batch_size'?)",
    "stages.sft.batch_size=four": "stages.sft.batch_size",
    "stages.stf.seed=1": "stf",
    "+stages.sft.train.learning_rat=1e-3": "stages.sft: train.learning_rat: SFTConfig has no such field; "
    "did you mean train.learning_rate?",
    "+stages.dpo.train.bet=1": "stages.dpo: train.bet: DPOConfig has no such field; did you mean train.beta?",
    "stages.sft.train.learning_rate=fast": "stages.sft: train.learning_rate='fast': expected float",
    "+stages.domain.train.save_steps=5": "stages.domain: train.save_steps is not yours to set: "
    "set `runtime.save_steps`",
    "stages.domain.rehearsal.share=1.5": "stages.domain: rehearsal: share=1.5",
    "stages.sft.peft.method=lorra": "stages.sft: peft.method='lorra' is unknown",
    "stages.domain.inputs.policy=sfd": "there is no stage 'sfd' (did you mean 'sft'?)",
    "stages.sft.data.train=smoke_chats": "there is no data set 'smoke_chats'",
    "model.source=hub:org/no-such-model": "hub:org/no-such-model has no pinned commit and the hub cannot be asked "
    "(HF_HUB_OFFLINE is set)",
    "model.source=no/such/folder": "model.source=no/such/folder: no such folder or file",
    "tracker.kind=wandbb": "tracker.kind",
    "tracker.mode=onlin": "tracker.mode",
    "identity.code=strct": "identity.code",
    "gates.text_improves.action=blokc": "gates.text_improves",
    "gates.text_improves.rule=improve": "gates.text_improves",
    "eval.suites.text.measure=perplexty": "did you mean perplexity",
    "+eval.suites.text.params.max_len=3": "did you mean max_length",
    "+eval.runtime.save_steps=3": "eval.runtime.save_steps",
    "eval.runtime.dequant_cache_gib=-1": "error: eval.runtime.dequant_cache_gib=-1.0: at least 0",
    "eval.suites.text.data=smoke_txt": "eval.suites.text.data: there is no data set 'smoke_txt' (did you mean "
    "'smoke_text'?)",
    "+gates.mine.suite=text": "+gates.mine.suite=text: a new gate cannot be made on the command line; write it under "
    "`gates` of the experiment, or in a file of conf/gates",
    "+eval.suites.mine={measure: perplexity, data: smoke_text}": "a new suite cannot be made on the command line",
    "data.smoke_text.builder=smoke_txt": "unknown data builder 'smoke_txt'",
    "data.smoke_text.runtime.threads=3": "data.smoke_text: a data set is made on the CPU",
}


@pytest.mark.parametrize("word", WRONG)
def test_wrong_settings_are_refused_before_anything_runs(user, word):
    done = user("run", "experiment=smoke", word) if not word.startswith("experiment=") else user("run", word)
    assert done.code == 2 and WRONG[word] in done.text
    assert not (user.store / "artifacts").exists() and not (user.store / "runs").exists()
    assert not (user.path / "hub.lock").exists()


TOLD = "+stages.told={kind: baseline, inputs: {model: base}, system: Be brief.}"


def test_a_prompt_before_a_model_is_no_start_for_training(user):
    done = user("run", "experiment=smoke", TOLD, "stages.sft.inputs.policy=told")
    assert done.code == 2 and "Traceback" not in done.text
    assert (
        "stages.sft.inputs.policy: 'told' is a prompt before a model, which only evaluation reads; name a model: sft, "
        "domain, dpo, base" in done.text
    )
    assert not (user.store / "artifacts").exists()


def test_a_gate_on_a_suite_that_its_stage_is_not_measured_on_names_those_it_is(user):
    """No prompt changes perplexity, so no baseline is measured on it."""
    done = user("run", "experiment=smoke", TOLD, "gates.text_improves.stage=told")
    assert done.code == 2 and not (user.store / "artifacts").exists()
    assert (
        "gates.text_improves.suite=text: 'told' is not measured on it, but on preference, refusal, consistency, "
        "robustness, calibration: name one of these, or another stage" in done.text
    )


def test_all_mistakes_are_told_at_once(user):
    done = user("run", "experiment=smoke", "+stages.sft.train.a_b=1", "+stages.dpo.train.c_d=1")
    assert done.code == 2 and "train.a_b" in done.text and "train.c_d" in done.text


# -- the user's rows ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WHOLE.encode() + b'{"text": "broken\n' + WHOLE.encode(), "mine.jsonl, line 2: not valid JSON"),
        (WHOLE.encode() + b'{"txt": "no such field"}\n', "mine.jsonl, line 2: has no field 'text' (it has: txt)"),
        (b"", "mine.jsonl: the file is empty"),
        (b"\n\n", "mine.jsonl: the file is empty"),
        (WHOLE.encode() + b'{"text": "caf\xe9"}\n', "mine.jsonl, line 2: byte 42 (0xe9) is not UTF-8"),
        (WHOLE.encode() + b"[1, 2]\n", "mine.jsonl, line 2: is a JSON list"),
        (b'{"text": ""}\n', "mine.jsonl, line 1: 'text' is empty"),
    ],
    ids=["broken line", "missing field", "empty", "blank", "not UTF-8", "no object", "empty text"],
)
def test_wrong_rows_are_refused_with_their_line(user, content, said):
    (user.path / "mine.jsonl").write_bytes(content)
    done = user("run", "experiment=rows")
    assert done.code == 4 and said in done.text and "data.mine" in done.text
    assert published(user.store) == []
    (user.path / "mine.jsonl").write_text(WHOLE)
    assert user("run", "experiment=rows").code == 0  # mended, the same command works
    assert len(published(user.store)) > 1


def test_missing_file_is_a_mistake_in_the_config(user):
    (user.path / "mine.jsonl").unlink()
    done = user("run", "experiment=rows")
    assert done.code == 2 and "mine.jsonl: No such file or directory" in done.text
    assert not (user.store / "artifacts").exists()


# -- the store ----------------------------------------------------------------------------------------------------
@pytest.fixture
def mounted(tmp_path):
    """mounted(options) -> a small file system of its own; skips where one may not be mounted."""
    made = []

    def mount(options):
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("this user may not mount a file system")
        made.append(folder)
        return folder

    try:
        yield mount
    finally:
        for folder in made:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def test_store_on_a_read_only_disk(user, mounted):
    disk = mounted("ro,size=1m")
    done = user("run", "experiment=rows", f"store.root={disk}/store")
    assert done.code == 5 and f"the store {disk}/store cannot be written: Read-only file system" in done.text
    assert "store.root=FOLDER or JOURNEYMAN_STORE" in done.text and not any(disk.iterdir())


def test_store_below_a_file(user):
    done = user("run", "experiment=rows", "store.root=mine.jsonl/store")
    assert done.code == 5 and "cannot be written: Not a directory" in done.text
    assert (user.path / "mine.jsonl").read_text() == WHOLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in any folder")
def test_store_in_a_folder_without_permission(user):
    (user.path / "locked").mkdir(mode=0o500)
    done = user("run", "experiment=rows", "store.root=locked/store")
    assert done.code == 5 and "cannot be written: Permission denied" in done.text


def test_full_disk_publishes_nothing_and_goes_on_when_there_is_room(user, mounted):
    disk = mounted("size=2m")
    rows = "".join(json.dumps({"text": f"{i} " + "keep the notice " * 60}) + "\n" for i in range(3000))
    (user.path / "mine.jsonl").write_text(rows)
    done = user("run", "experiment=rows", f"store.root={disk}/store")
    assert done.code == 5 and "the disk is full" in done.text and "Free some space" in done.text
    assert published(disk / "store") == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert user("run", "experiment=rows", f"store.root={disk}/store").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["changed", "shortened", "missing"])
def test_damaged_artifact_is_refused_and_can_be_rebuilt(smoke, user, harm):
    """Slow: needs the built smoke chain. Hashes are checked before anything is made from an artifact or reported."""
    shutil.copytree(smoke.store, user.store, symlinks=True)
    stage = smoke.first.json["stages"]["sft"]
    weights = user.store / stage["path"] / "model" / "adapter" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    if harm == "missing":
        weights.unlink()
    else:
        data[-1] ^= 1
        weights.write_bytes(data if harm == "changed" else data[:-1])
    before = published(user.store)
    done = user("run", "experiment=smoke", "tracker=none", "stages.domain.seed=2", "--until", "domain")
    assert done.code == 5 and "the artifact of 'sft' is damaged" in done.text
    assert "--force sft` rebuilds it" in done.text and published(user.store) == before
    assert user("plan", "experiment=smoke", "--force", "sft").code == 0
