"""`base`: the start model in the store, whatever it came from."""

import json
import shutil

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.schema import ModelConfig
from stages.base import Base, BaseConfig
from stages.models.chain import Chain, base_model, file_digest, load_policy, load_tokenizer
from stages.models.chat import render, template_digest, tokenizer_digest
from stages.models.sources import toy

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def imported(bench):
    """Imports a model: imported(source=..., dtype=...) -> artifact."""

    def make(**model):
        config = BaseConfig(kind="base", model=ModelConfig(**{"source": "toy", **model}))
        return bench.run(bench.context("base", config, {}, {})).artifact

    return make


@pytest.fixture
def local(base, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(base.path / "model", folder)
    (folder / "model.json").unlink()
    return folder


def test_the_imported_model_computes_what_the_source_does(base):
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected = toy()[0].eval()(ids).logits
        assert torch.equal(base_model(base.path / "model", "cpu")(ids).logits, expected)


def test_model_json_describes_the_base(base):
    chain, tokenizer = Chain.read(base), load_tokenizer(base.path / "model")
    assert chain.base["artifact"] == base.id and chain.adapters == [] and chain.heads == {}
    assert chain.tokenizer_digest == tokenizer_digest(tokenizer)
    assert chain.template_digest == template_digest(tokenizer)
    assert chain.special_tokens == {"bos": None, "eos": 2, "pad": 0}


def test_only_safetensors_are_written_and_no_path_of_this_machine(bench, local, imported):
    made = imported(source=str(local))
    names = {path.name for path in (made.path / "model").iterdir()}
    assert "model.safetensors" in names and not [n for n in names if n.endswith((".bin", ".pt", ".pkl"))]
    assert json.loads((made.path / "model" / "config.json").read_text()).get("_name_or_path", made.id) == made.id
    for path in {*(made.path / "model").iterdir()} - {made.path / "model" / "model.json"}:  # that names its source
        assert str(local).encode() not in path.read_bytes(), path.name


def test_a_local_folder_gives_the_weights_of_the_folder(base, local, imported):
    made = imported(source=str(local))
    names = [base.path / "model" / "model.safetensors", made.path / "model" / "model.safetensors"]
    assert file_digest(names[0]) == file_digest(names[1])


def test_dtype_is_that_of_the_stored_weights(imported):
    model = base_model(imported(dtype="bfloat16").path / "model", "cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_own_template_replaces_the_models(imported, tmp_path):
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    made = imported(chat_template=str(tmp_path / "chat.jinja"))
    policy = load_policy(made, {}, device="cpu")
    said = render(policy.tokenizer, [{"role": "user", "content": "Hi"}], generation_prompt=True)
    assert said == "[user] Hi<|im_end|>[assistant] "


def test_template_is_content_of_the_id(tmp_path):
    file = tmp_path / "chat.jinja"
    config = BaseConfig(kind="base", model=ModelConfig(source="toy", chat_template=str(file)))
    found = []
    for text in (TEMPLATE, TEMPLATE + " "):
        file.write_text(text)
        found.append(Base().fingerprints(config))
    assert found[0]["model"] == found[1]["model"] and found[0]["chat_template"] != found[1]["chat_template"]


def test_pad_falls_back_to_eos(local, imported):
    path = local / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "pad_token"}))
    assert Chain.read(imported(source=str(local))).special_tokens == {"bos": None, "eos": 2, "pad": 2}


@pytest.mark.parametrize(
    ("drop", "message"), [("chat_template", "no chat template"), ("eos_token", "has no EOS token")]
)
def test_a_model_without_template_or_eos_is_refused(local, imported, drop, message):
    path = local / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != drop}))
    if drop == "chat_template":
        (local / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match=message):
        imported(source=str(local))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"dtype": "float8"}, r"model\.dtype='float8': use one of float32"),
        ({"source": "hub:org/no-such-model"}, r"hub:org/no-such-model has no pinned commit"),
        ({"source": "hub:org/no-such-model", "revision": "0" * 40}, r"is not in the local cache"),
    ],
)
def test_what_cannot_work_is_found_before_anything_runs(model, message, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    config = BaseConfig(kind="base", model=ModelConfig(**{"source": "toy", **model}))
    with pytest.raises(ConfigError, match=message):
        Base().validate(config)


def test_missing_template_file_is_found_before_anything_runs():
    config = BaseConfig(kind="base", model=ModelConfig(source="toy", chat_template="no.jinja"))
    with pytest.raises(ConfigError, match=r"model\.chat_template=no\.jinja: no such file"):
        Base().fingerprints(config)
