"""Stage kinds: registration, look-up, entry points."""

import importlib

import pytest

import pipeline.registry as registry
from pipeline.errors import ConfigError
from pipeline.registry import Stage, register
from pipeline.schema import StageConfig


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(registry, "_kinds", {})


class Point:
    def __init__(self, load):
        self.name, self.dist, self.load = "rerank", type("D", (), {"name": "acme-stages"}), load


def test_a_registered_class_is_found_by_its_kind():
    @register("rerank", config=StageConfig)
    class Rerank(Stage):
        pass

    assert registry.kind("rerank").stage is Rerank and registry.kind("rerank").config is StageConfig


def test_an_unknown_kind_lists_the_known(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    register("rerank", config=StageConfig)(Stage)
    with pytest.raises(ConfigError, match=r"unknown stage kind 'rerankk'.*known: rerank"):
        registry.kind("rerankk")


def test_two_modules_cannot_share_a_name():
    register("rerank", config=StageConfig)(type("A", (Stage,), {"__module__": "one"}))
    with pytest.raises(ConfigError, match=r"registered by one and two"):
        register("rerank", config=StageConfig)(type("B", (Stage,), {"__module__": "two"}))


def test_plug_ins_are_loaded_through_entry_points(monkeypatch):
    def load():
        register("rerank", config=StageConfig)(Stage)

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point(load)])
    assert registry.kind("rerank").name == "rerank"


def test_a_plug_in_that_cannot_be_imported_names_its_distribution(monkeypatch):
    def load():
        raise ImportError("No module named 'acme'")

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point(load)])
    with pytest.raises(ConfigError, match=r"'rerank' of distribution 'acme-stages'.*No module named 'acme'"):
        registry.load_kinds()


def test_an_entry_point_may_name_a_package_and_a_new_file_is_a_new_stage(monkeypatch, tmp_path):
    package = tmp_path / "acme_stages"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "parts" / "__init__.py").write_text("raise RuntimeError('not a stage')")
    (package / "warm.py").write_text("raise RuntimeError('heavy')")
    (package / "rerank.py").write_text(
        "from pipeline.registry import Stage, register\n"
        "from pipeline.schema import StageConfig\n"
        "@register('rerank', config=StageConfig)\n"
        "class Rerank(Stage):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    point = Point(lambda: importlib.import_module("acme_stages"))
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert registry.kind("rerank").stage.__module__ == "acme_stages.rerank"
