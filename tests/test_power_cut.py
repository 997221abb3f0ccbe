"""A power cut at any moment of a build: what is published is whole, and what was said to be published stays."""

import os
import shutil

import pytest
from power_cut import Trace
from store_toys import build

import pipeline.manifest
import pipeline.store
import pipeline.worker as worker
from pipeline.config.load import Loaded
from pipeline.display import Screen
from pipeline.errors import StoreError
from pipeline.manifest import describe, write_json
from pipeline.planner import make_plan
from pipeline.runner import Run, _finished_before, _spec
from pipeline.store import Store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the model's disk counts, not this machine's
    found = Store(tmp_path / "store")
    found.prepare()
    return found


@pytest.fixture
def after(tmp_path):
    """after(disk) -> the store as it is found after a power cut."""

    def make(disk):
        shutil.rmtree(tmp_path / "after", ignore_errors=True)
        disk.write(tmp_path / "after")
        return Store(tmp_path / "after")

    return make


def content(store, id):
    """What CURRENT leads to, every byte of it verified; None if the artifact is not there."""
    stored = store.current("toy", id)
    if stored is None:
        return None
    store.verify(stored)
    return (stored.path / "model" / "w").read_text()


def broken(store, id):
    try:
        return content(store, id) not in ("old", "new")
    except StoreError:
        return True


def states(trace, after, id):
    """(whether everything had happened, content) after every power cut, and what it leaves in the next run's way."""
    for end, disk in trace.cuts():
        found = after(disk)
        orphan = found.orphan("toy", id, {})
        yield end == len(trace.events), content(found, id), orphan


def test_publish_shows_old_or_new_and_new_once_it_has_returned(store, after, monkeypatch):
    old = build(store, text="old")
    trace = Trace(store.root)
    with trace.recording(monkeypatch):
        build(store, text="new")
    seen = list(states(trace, after, old.id))
    assert len(seen) > 60 and {text for _, text, _ in seen} == {"old", "new"}
    assert {text for done, text, _ in seen if done} == {"new"}
    assert {(orphan.path / "model" / "w").read_text() for _, _, orphan in seen if orphan} == {"new"}


def test_the_first_publish_of_a_store_shows_nothing_or_all(store, after, monkeypatch):
    """The folders of the kind and the id are new, too, and have to outlive the cut."""
    trace = Trace(store.root)
    with trace.recording(monkeypatch):
        id = build(store, text="new").id
    seen = list(states(trace, after, id))
    assert {text for _, text, _ in seen} == {None, "new"}
    assert {text for done, text, _ in seen if done} == {"new"}


@pytest.mark.parametrize("name", ["sync_tree", "sync"])
def test_without_its_fsyncs_publish_would_lose_content(store, after, monkeypatch, name):
    """The model sees what the fsyncs are for."""
    old = build(store, text="old")
    monkeypatch.setattr(pipeline.store, name, lambda path: None)
    monkeypatch.setattr(pipeline.manifest, "sync", lambda path: None)
    trace = Trace(store.root)
    with trace.recording(monkeypatch):
        build(store, text="new")
    assert any(broken(after(disk), old.id) for _, disk in trace.cuts())


def test_a_result_that_waits_for_its_publish_is_whole(store, after, monkeypatch, chain):
    """The child wrote result.json and its parent never published: the next run takes it, so it has to be complete."""
    run = Run(make_plan(chain(), store, until="base"), store, Loaded(chain(), [], {}), Screen())
    node = run.plan.nodes["base"]
    work, spec = store.work(node.id), _spec(run, node)
    for name in ("out", "ckpt"):
        (work / name).mkdir(parents=True)
    monkeypatch.setattr(worker, "write_to", lambda log: None)
    trace = Trace(store.root)
    with trace.recording(monkeypatch):
        write_json(work / "spec.json", spec)
        with pytest.raises(SystemExit):
            worker.build(str(work / "spec.json"), None, type("Pipe", (), {"send": lambda *_: None})(), False)
    whole, taken = describe(work / "out"), 0
    for _, disk in trace.cuts():
        found = after(disk)
        try:
            outcome = _finished_before(found.work(node.id), spec)
        except StoreError:  # half a result.json: impossible, it is replaced at once
            pytest.fail("result.json is torn")
        if outcome:
            taken += 1
            assert describe(found.work(node.id) / "out") == whole
    assert taken
