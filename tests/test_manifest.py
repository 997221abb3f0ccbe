"""manifest.json's parts: durable writes, output lists, the environment."""

import os

import pytest

import pipeline.manifest as manifest
from pipeline.errors import StageFailed, StoreError


def test_names_sort_by_time_and_do_not_repeat():
    names = [manifest.stamp() for _ in range(50)]
    assert len(set(names)) == 50
    assert [name[:22] for name in names] == sorted(name[:22] for name in names)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "x.json"
    manifest.write_json(file, {"a": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        manifest.write_json(file, {"a": 2})
    assert manifest.read_json(file) == {"a": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_not_a_number_is_never_written(tmp_path):
    with pytest.raises(ValueError):
        manifest.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not os.listdir(tmp_path)


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(StoreError, match=r"x\.json is damaged"):
        manifest.read_json(tmp_path / "x.json")


def test_outputs_are_listed_with_size_and_hash(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w").write_bytes(b"abc")
    (listed,) = manifest.describe(tmp_path)
    assert listed == {
        "path": "model/w",
        "size": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }


def test_digest_follows_names_and_contents():
    one = {"path": "a", "size": 1, "sha256": "1"}
    assert manifest.tree_digest([one]) != manifest.tree_digest([{**one, "path": "b"}])
    assert manifest.tree_digest([one]) != manifest.tree_digest([{**one, "sha256": "2"}])


def test_links_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(StageFailed, match="wrote no file"):
        manifest.describe(tmp_path)
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(StageFailed, match="symbolic link"):
        manifest.describe(tmp_path)


def test_environment_has_versions_and_no_environment_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.chdir(tmp_path)  # no repository
    manifest.environment.cache_clear()
    found = manifest.environment()
    assert found["packages"]["journeyman"] and found["python"] and found["hardware"]["cores"]
    assert found["git"] is None
    assert "hunter2" not in str(found)
    manifest.environment.cache_clear()
