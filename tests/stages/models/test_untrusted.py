"""Model folders made to do harm are refused before the library opens them; templates and checkpoints run nothing.

The list is that of docs/security.md.
"""

import ast
import inspect
import json
import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

import pipeline
from pipeline.errors import ConfigError, StoreError
from pipeline.schema import ModelConfig
from stages.models import sources
from stages.models.chain import Chain
from stages.models.chat import prompt_ids


@pytest.fixture
def local(base, tmp_path):
    """The toy as a local folder, beside a file that is not part of it."""
    folder = tmp_path / "mine"
    shutil.copytree(base.path / "model", folder)
    (tmp_path / "private.json").write_text('{"key": "private"}')
    return folder


def settings(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def weights(folder):
    return next(folder.glob("*.safetensors"))


def header(folder, length=None, **entry):
    """Write the first tensor's entry of a safetensors header anew; `length`: what the file says of its header."""
    data = weights(folder).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    found = json.loads(data[8 : 8 + size])
    name = next(key for key in found if key != "__metadata__")
    found[name] |= entry
    text = json.dumps(found).encode()
    weights(folder).write_bytes(struct.pack("<Q", length or len(text)) + text + data[8 + size :])


def link(folder, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder.parent / "private.json")


def shard(folder, name):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))


HOSTILE = {
    "header without end": (lambda f: header(f, length=2**62), "no whole safetensors file"),
    "header of 10 GiB": (lambda f: header(f, length=10 * 2**30), "no whole safetensors file"),
    "offsets past the end": (lambda f: header(f, data_offsets=[0, 2**50]), "no whole safetensors file"),
    "offsets backwards": (lambda f: header(f, data_offsets=[512, 0]), "no whole safetensors file"),
    "shape that overflows": (lambda f: header(f, shape=[2**40, 2**40]), "no whole safetensors file"),
    "dtype that is too short": (lambda f: header(f, dtype="U8"), "no whole safetensors file"),
    "dtype that is none": (lambda f: header(f, dtype="PICKLE"), "no whole safetensors file"),
    "half of the weights": (lambda f: os.truncate(weights(f), 4096), "no whole safetensors file"),
    "a billion layers": (lambda f: settings(f / "config.json", num_hidden_layers=10**9), "more than its weights hold"),
    "a wide model": (lambda f: settings(f / "config.json", hidden_size=2**40), "more than its weights hold"),
    "many words": (lambda f: settings(f / "config.json", vocab_size=10**12), "more than its weights hold"),
    "layers that are text": (lambda f: settings(f / "config.json", num_hidden_layers="9" * 99), "whole numbers"),
    "config nested without end": (lambda f: (f / "config.json").write_text("[" * 10**5), "no readable JSON"),
    "own code": (
        lambda f: settings(f / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}), "trust_remote_code"
    ),
    "own code of the hub": (
        lambda f: settings(f / "config.json", auto_map={"AutoConfig": "evil/repo--evil.Config"}), "trust_remote_code"
    ),
    "tokenizer's own code": (
        lambda f: settings(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T"]}), "trust_remote_code"
    ),
    "kernels of the hub": (lambda f: settings(f / "config.json", attn_implementation="evil/kernels"), "from the hub"),
    "an adapter": (
        lambda f: (f / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/repo"}'), "an adapter"
    ),
    "shard above": (lambda f: shard(f, "../private.safetensors"), "no file of the folder"),
    "shard, absolute": (lambda f: shard(f, "/etc/private.safetensors"), "no file of the folder"),
    "template that is a link": (lambda f: link(f, "chat_template.jinja"), "outside the folder"),
    "tokenizer that is a link": (lambda f: link(f, "tokenizer.json"), "outside the folder"),
    "pickles instead": (lambda f: weights(f).rename(f / "pytorch_model.bin"), "no pickles are read"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_model_folder_is_refused_when_the_run_is_planned(local, case):
    harm, said = HOSTILE[case]
    harm(local)
    with pytest.raises(ConfigError, match=said):
        sources.fingerprint(ModelConfig(source=str(local)))


def test_a_model_that_was_changed_after_the_plan_is_refused_when_it_is_loaded(local):
    header(local, data_offsets=[0, 2**50])
    with pytest.raises(ConfigError, match="no whole safetensors file"):
        sources.load(ModelConfig(source=str(local)))


def test_code_may_come_with_a_model_that_a_person_trusts_by_name(local):
    settings(local / "config.json", auto_map={"AutoConfig": "own.Config"})
    assert sources.fingerprint(ModelConfig(source=str(local), trust_remote_code=True))


def test_links_into_the_hub_s_own_cache_are_its_way_of_keeping_files(local, tmp_path):
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    shutil.copytree(local, snapshot)
    shutil.move(snapshot / "config.json", blobs / "1")
    (snapshot / "config.json").symlink_to(blobs / "1")
    assert sources.fingerprint(ModelConfig(source=str(snapshot)))


# -- what a model artifact says of itself ---------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["../../elsewhere", "/etc", "model/../../x", ""])
def test_an_adapter_outside_its_artifact_is_refused(sft, tmp_path, path):
    shutil.copytree(sft.artifact.path, tmp_path / "copy")
    file = tmp_path / "copy" / "model" / "model.json"
    raw = json.loads(file.read_text())
    raw["adapters"][0]["path"] = path
    file.write_text(json.dumps(raw))
    with pytest.raises(StoreError, match="was not written by Journeyman"):
        Chain.read(replace(sft.artifact, path=tmp_path / "copy"))


# -- templates ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch executed.txt') }}",
        "{{ raise_exception.__globals__['__builtins__']['open']('executed.txt', 'w') }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ messages.append('more') }}",
    ],
)
def test_a_hostile_template_is_stopped_by_the_sandbox(template, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    tokenizer = sources.toy()[1]
    tokenizer.chat_template = template
    with pytest.raises(Exception, match=r"unsafe|Range too big|not safely callable"):
        prompt_ids(tokenizer, [{"role": "user", "content": "Hello"}])
    assert not list(tmp_path.iterdir())


# -- pickles --------------------------------------------------------------------------------------------------------
class Payload:
    def __reduce__(self):
        return Path.touch, (Path("executed.txt"),)


def test_the_trainer_reads_checkpoints_as_tensors_only(monkeypatch, tmp_path):
    """A file that would call something is refused, not executed; and the trainer reads in no other way."""
    monkeypatch.chdir(tmp_path)
    torch.save({"state": Payload()}, "optimizer.pt")
    with pytest.raises(Exception, match=r"Weights only"):
        torch.load("optimizer.pt", weights_only=True)
    assert not Path("executed.txt").exists()
    calls = [
        node for node in ast.walk(ast.parse(inspect.getsource(transformers.trainer))) if isinstance(node, ast.Call)
    ]
    loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    assert loads and all("weights_only=True" in ast.unparse(call) for call in loads)


READS_PICKLES = (
    "torch.load(",
    "pickle.load",
    "joblib",
    "allow_pickle=True",
    "weights_only=False",
    "dill",
    "cloudpickle",
)
OWN_SPOOL = ("stages/data/dedupe.py",)  # objects it wrote itself moments ago, in a folder that nobody else names


def test_no_code_of_ours_reads_a_pickle():
    root = Path(pipeline.__file__).parents[1]
    files = [file for part in ("pipeline", "stages") for file in (root / part).rglob("*.py")]
    found = [
        file.relative_to(root).as_posix() for file in files if any(word in file.read_text() for word in READS_PICKLES)
    ]
    assert [name for name in found if name not in OWN_SPOOL] == []
