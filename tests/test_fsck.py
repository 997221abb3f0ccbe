"""A check of the whole store: what it finds, what it repairs, and what it leaves alone."""

import shutil

import pytest
from store_toys import build

import pipeline.pins as pins
from pipeline.fsck import fsck
from pipeline.manifest import write_json
from pipeline.store import Store


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "store")
    found.prepare()
    return found


def codes(found):
    return [(finding.level, finding.code) for finding in found.findings]


def again(store):
    """A look by another process: nothing is taken as verified."""
    return Store(store.root)


def test_a_sound_store_is_clean_and_counted(store):
    base = build(store, 1)
    build(store, 2, inputs={"policy": base.reference()})
    found = fsck(again(store))
    assert (found.attempts, found.files, found.bytes, codes(found)) == (2, 2, 2 * len("weights"), [])
    assert not found.damaged and fsck(Store(store.root / "nothing here")).attempts == 0


def test_a_damaged_attempt_goes_to_the_trash_and_an_older_whole_one_counts_again(store):
    first, second = build(store, text="first"), build(store, text="second")
    (second.path / "model" / "w").write_text("sEcond")
    found = fsck(again(store))
    assert codes(found) == [("error", "damaged"), ("error", "pointer")] and found.damaged
    assert "model/w does not match" in found.findings[0].what and second.path.exists()
    repaired = fsck(again(store), repair=True)
    assert not repaired.damaged and all(finding.repaired for finding in repaired.findings)
    assert store.current("toy", first.id).path == first.path and not second.path.exists()
    assert len(list((store.root / "trash").iterdir())) == 1
    assert codes(fsck(again(store))) == []


def test_without_a_whole_attempt_the_artifact_is_simply_not_built(store):
    stored = build(store)
    (stored.path / "manifest.json").write_text("{")
    assert codes(fsck(again(store), repair=True)) == [("error", "damaged"), ("error", "pointer")]
    assert store.current("toy", stored.id) is None and codes(fsck(again(store))) == []


@pytest.mark.parametrize("text", ["nonsense", "", None])
def test_current_is_repaired_from_the_newest_whole_attempt(store, text):
    build(store, text="first")
    newest = build(store, text="second")
    pointer = newest.path.parent / "CURRENT"
    pointer.unlink()
    if text is not None:
        pointer.write_text(text)
    found = fsck(again(store), repair=True)
    assert codes(found) == [("note", "orphan") if text is None else ("error", "pointer")]
    assert store.current("toy", newest.id).path == newest.path


def test_an_attempt_whose_publisher_died_is_a_note_and_is_repaired(store):
    first, second = build(store, text="first"), build(store, text="second")
    store.point(first)
    found = fsck(again(store))
    assert codes(found) == [("note", "orphan")] and not found.damaged
    fsck(again(store), repair=True)
    assert store.current("toy", first.id).path == second.path


def test_what_no_manifest_knows_is_found_also_a_link(store):
    stored = build(store)
    (stored.path / "model" / "extra").write_text("x")
    (stored.path / "link").symlink_to("/etc/hostname")
    assert codes(fsck(again(store))) == [("error", "foreign")] * 2
    fsck(again(store), repair=True)
    assert codes(fsck(again(store))) == [] and store.current("toy", stored.id).path == stored.path


def test_a_file_replaced_by_a_link_to_the_same_bytes_is_damage(store, tmp_path):
    stored = build(store)
    shutil.move(stored.path / "model" / "w", tmp_path / "elsewhere")
    (stored.path / "model" / "w").symlink_to(tmp_path / "elsewhere")
    assert ("error", "damaged") in codes(fsck(again(store)))


def test_an_attempt_in_another_attempt_s_place_is_damage(store):
    stored = build(store)
    shutil.copytree(stored.path, stored.path.parent / "20990101T000000000000Z-abcdef")
    found = fsck(again(store))
    assert codes(found) == [("error", "damaged")] and "another place" in found.findings[0].what


def test_leftovers_of_kills_are_notes_and_are_deleted(store):
    stored = build(store)
    (stored.path.parent / ".CURRENT.123").write_text("")
    store.work("abcd").mkdir(parents=True)
    (store.work("abcd") / ".spec.json.123").write_text("{")
    found = fsck(again(store))
    assert codes(found) == [("note", "leftover")] * 2 and not found.damaged
    fsck(again(store), repair=True)
    assert codes(fsck(again(store))) == []


def test_pins_inputs_and_runs_that_lead_nowhere_are_named(store):
    base = build(store, 1)
    made = build(store, 2, inputs={"policy": base.reference()})
    pins.set_pin(store, "best", base)
    run = store.new_run("chain")
    write_json(run / "run.json", {"stages": {}})
    store.make_latest(store.new_run("chain"))
    (store.runs("chain") / "latest").resolve().rmdir()
    shutil.rmtree(base.path.parent)
    found = fsck(again(store), repair=True)
    assert codes(found) == [("note", "input"), ("error", "pin"), ("note", "run")]
    assert found.findings[0].place == store.relative(made.path) and "policy" in found.findings[0].what
    assert found.damaged  # nobody but a person knows what the pin should name
    assert (store.runs("chain") / "latest").resolve() == run


def test_what_another_process_builds_is_left_alone(store):
    stored = build(store)
    (stored.path.parent / "CURRENT").write_text("nonsense")
    with store.lock(stored.id):
        found = fsck(again(store), repair=True)
    assert found.damaged and (stored.path.parent / "CURRENT").read_text() == "nonsense"


def test_the_command_says_clean_or_damaged_and_ends_with_5(journeyman, project):
    assert journeyman("run", "--until", "first").code == 0
    clean = journeyman("store", "fsck", "--json", experiment=None)
    assert clean.code == 0 and clean.json["damaged"] is False and clean.json["attempts"] == 3
    (file,) = project.store.glob("artifacts/toy/*/2*/model.txt")
    file.write_text("5.0")
    damaged = journeyman("store", "fsck", experiment=None)
    assert damaged.code == 5 and "damaged" in damaged.out and "--repair mends" in damaged.out
    assert journeyman("store", "fsck", "--repair", experiment=None).code == 0
    built = journeyman("run", "--until", "first", "--json")
    assert built.json["stages"]["first"]["status"] == "BUILT" and built.code == 0
    assert "store fsck [--repair]" in journeyman("store", "check", experiment=None).err
