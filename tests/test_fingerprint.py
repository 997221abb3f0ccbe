"""Digests of files, folders, packages, hub references and code."""

import json
import os
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest

import pipeline.fingerprint as fingerprint
from pipeline.errors import ConfigError


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(fingerprint, "_known", {})
    monkeypatch.setattr(fingerprint, "_cache", None)
    fingerprint._module.cache_clear()


def test_file_digest_is_its_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert fingerprint.digest_file(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.jsonl"):
        fingerprint.digest_file(tmp_path / "nothing.jsonl")


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_text("x")
    os.utime(file, (1, 1))
    fingerprint.use_cache(tmp_path / "cache" / "files.json")
    first = fingerprint.digest_file(file)
    fingerprint.save_cache()
    monkeypatch.setattr(fingerprint, "_known", {})
    fingerprint.use_cache(tmp_path / "cache" / "files.json")
    monkeypatch.setattr(fingerprint, "sha256", lambda path: pytest.fail("read again"))
    assert fingerprint.digest_file(file) == first


def test_a_file_changed_just_now_is_not_remembered(tmp_path):
    (tmp_path / "a").write_text("x")
    fingerprint.digest_file(tmp_path / "a")
    assert fingerprint._known == {}


def test_folder_digest_follows_names_and_contents_but_not_hidden_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("1")
    first = fingerprint.digest_path(tmp_path)
    (tmp_path / ".DS_Store").write_text("x")
    assert fingerprint.digest_path(tmp_path) == first
    (tmp_path / "sub" / "a").rename(tmp_path / "sub" / "b")
    assert fingerprint.digest_path(tmp_path) != first
    with pytest.raises(ConfigError, match="empty or does not exist"):
        fingerprint.digest_folder(tmp_path / "none")


def test_package_digest_names_the_version():
    assert fingerprint.digest_package("hydra-core").startswith(f"hydra-core=={version('hydra-core')}@")
    with pytest.raises(ConfigError, match="not installed"):
        fingerprint.digest_package("no-such-package-here")


def test_package_digest_ignores_what_pip_writes_and_sees_content(monkeypatch):
    def found(record):
        monkeypatch.setattr(
            fingerprint, "distribution", lambda name: SimpleNamespace(version="1", read_text=lambda _: record)
        )
        return fingerprint.digest_package("p")

    first = found("p/a.py,sha256=x,1\np/__pycache__/a.cpython-311.pyc,,\np-1.dist-info/INSTALLER,sha256=y,4")
    assert found("p/a.py,sha256=x,1\np-1.dist-info/INSTALLER,sha256=z,4") == first
    assert found("p/a.py,sha256=w,1") != first


def test_a_pinned_hub_reference_needs_no_network(tmp_path):
    assert fingerprint.hub_commit("org/name", "a" * 40, lock=tmp_path / "hub.lock") == "a" * 40


def test_an_unpinned_hub_reference_is_resolved_once_and_locked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fingerprint, "_resolve", lambda name, revision, kind: "b" * 40)
    lock = tmp_path / "hub.lock"
    assert fingerprint.hub_commit("org/name", lock=lock) == "b" * 40
    assert "is pinned to commit bbbb" in capsys.readouterr().err
    monkeypatch.setattr(fingerprint, "_resolve", lambda *_: pytest.fail("asked again"))
    assert fingerprint.hub_commit("org/name", lock=lock) == "b" * 40
    assert json.loads(lock.read_text()) == {"model:org/name@main": "b" * 40}


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    class Offline:
        def repo_info(self, *_, **__):
            raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=Offline))
    with pytest.raises(ConfigError, match="give its 40-digit commit as `revision`"):
        fingerprint.hub_commit("org/name", lock=tmp_path / "hub.lock")


def test_code_digest_sees_code_and_not_comments(tmp_path, monkeypatch):
    package = tmp_path / "codepack"
    package.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    (package / "__init__.py").write_text("")

    def digest(main, part="x = 1\n"):
        (package / "main.py").write_text(main)
        (package / "part.py").write_text(part)
        fingerprint._module.cache_clear()
        return fingerprint.digest_code("codepack.main")

    first = digest("def f():\n    from codepack.part import x\n    return x\n")
    assert digest('"""Doc."""\ndef f():\n    # why\n    from codepack.part import x\n    return x\n') == first
    assert digest("def f():\n    from codepack.part import x\n    return x\n", "x = 2\n") != first
    assert digest("def f():\n    from codepack.part import x\n    return x + 1\n") != first


def test_unchanged_code_is_parsed_once(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "codemodule.py").write_text("x = 1\n")
    os.utime(tmp_path / "codemodule.py", (1, 1))
    first = fingerprint.digest_code("codemodule")
    fingerprint._module.cache_clear()
    monkeypatch.setattr(fingerprint.ast, "parse", lambda text: pytest.fail("parsed again"))
    assert fingerprint.digest_code("codemodule") == first


def test_code_is_read_and_never_imported(tmp_path, monkeypatch):
    package = tmp_path / "codepack2"
    package.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    (package / "__init__.py").write_text("")
    (package / "main.py").write_text("def f():\n    from codepack2.heavy import Thing\n    return Thing\n")
    (package / "heavy.py").write_text("raise RuntimeError('imported')\n")
    assert fingerprint.digest_code("codepack2.main")
    assert fingerprint._module("codepack2.heavy")[0] and not fingerprint._module("codepack2.heavy.Thing")[0]
