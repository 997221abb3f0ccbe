"""Stores of every release since the first: they are read and built in; one of a newer version is refused.

tests/data/store-1 is what the first release wrote: two artifacts, one made from the other, a run, a pin, and no
store.json. A release that changes the form adds a folder of its own beside it and reads all of them.
"""

import shutil
from pathlib import Path

import pytest
from store_toys import build

import pipeline.pins as pins
from pipeline.errors import StoreError
from pipeline.fsck import fsck
from pipeline.identity import artifact_id
from pipeline.manifest import read_json, write_json
from pipeline.store import STORE_SCHEMA, Store

RELEASES = sorted((Path(__file__).parent / "data").glob("store-*"))


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def old(request, tmp_path):
    """A copy of the store of a release."""
    return Store(shutil.copytree(request.param, tmp_path / "store", symlinks=True))


def test_there_is_one_for_every_schema():
    assert [folder.name for folder in RELEASES] == [f"store-{number}" for number in range(1, STORE_SCHEMA + 1)]


def test_every_part_is_read(old):
    champion = old.pinned("chain-champion")
    assert (champion.path / "model" / "w").read_text() == "the first release's model"
    assert old.current(champion.kind, champion.id).path == champion.path
    assert [stored.stage for stored in old.models_before(champion)] == ["base"]
    assert old.last_built("chain", "first").path == champion.path
    assert old.find(champion.id[:6])[0].path == champion.path
    assert next(old.past_runs("chain"))["exit"] == 0 and (old.runs("chain") / "latest" / "run.json").exists()


def test_every_byte_is_whole_and_every_id_is_still_that_of_its_payload(old):
    found = fsck(old)
    assert (found.findings, found.attempts) == ([], 2)
    manifests = [read_json(path) for path in old.root.glob("artifacts/*/*/2*/manifest.json")]
    folders = {path.name for path in old.root.glob("artifacts/*/*")}
    assert {artifact_id(manifest["payload"]) for manifest in manifests} == folders


def test_gc_keeps_what_its_pin_and_its_run_name(old):
    assert pins.plan_gc(old, 0).attempts == []
    pins.remove_pin(old, "chain-champion")
    assert len(pins.plan_gc(old, -1).attempts) == 2


def test_a_store_is_built_in_and_says_its_schema_from_then_on(old):
    before = old.pinned("chain-champion")
    old.prepare()
    again = build(old, 2, "made by this version", before.manifest["inputs"])
    assert again.id == before.id and again.attempt > before.attempt
    assert old.current("toy", again.id).path == again.path and before.path.is_dir()
    assert read_json(old.root / "store.json") == {"schema": STORE_SCHEMA}
    assert fsck(Store(old.root)).findings == []


@pytest.mark.parametrize("verb", ["status", "run", "gc", "store"])
def test_a_newer_store_is_refused_by_every_verb_and_left_alone(journeyman, project, verb):
    project.store.mkdir()
    write_json(project.store / "store.json", {"schema": STORE_SCHEMA + 1})
    words, experiment = (["fsck"], None) if verb == "store" else ([], None if verb == "gc" else "chain")
    wrong = journeyman(verb, *words, experiment=experiment)
    assert wrong.code == 5 and "written by a newer version of Journeyman" in wrong.err and "Traceback" not in wrong.err
    assert [path.name for path in project.store.iterdir() if path.name != "cache"] == ["store.json"]


def test_a_newer_manifest_is_not_taken_for_damage(tmp_path):
    store = Store(tmp_path)
    stored = build(store)
    write_json(stored.path / "manifest.json", {**stored.manifest, "schema": 2})
    with pytest.raises(StoreError, match="newer version"):
        store.current("toy", stored.id)


@pytest.mark.parametrize("text", ["{", '{"schema": "x"}', "{}", "[]"])
def test_a_damaged_store_json_says_what_it_should_hold(tmp_path, text):
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store\.json is damaged"):
        Store(tmp_path)
