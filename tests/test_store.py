"""The store: hits, verification, publish under kills at every step, racing builders, latest links, pins and gc."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from store_toys import build, manifest

import pipeline.pins as pins
import pipeline.store as module
from pipeline.errors import ConfigError, StoreError
from pipeline.locks import Lock
from pipeline.manifest import write_json
from pipeline.store import Store

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "store")
    found.prepare()
    return found


# -- publish and read ---------------------------------------------------------------------------------------------
def test_nothing_is_there_before_publish_and_all_of_it_after(store):
    id = manifest()["id"]
    assert store.current("toy", id) is None
    stored = build(store)
    found = store.current("toy", id)
    assert found.path == stored.path and found.digest == stored.digest
    assert (found.path / "model" / "w").read_text() == "weights"
    assert not (store.work(id) / "out").exists() and not (store.work(id) / "ckpt").exists()


def test_a_second_attempt_replaces_the_first_and_keeps_it(store):
    first, second = build(store, text="a"), build(store, text="b")
    assert store.current("toy", first.id).path == second.path
    assert (first.path / "model" / "w").read_text() == "a"


def test_equal_content_has_an_equal_digest(store):
    assert build(store, seed=1).digest == build(store, seed=2).digest


def test_a_deleted_artifact_folder_is_simply_not_there(store):
    stored = build(store)
    shutil.rmtree(stored.path)
    assert store.current("toy", stored.id) is None


@pytest.mark.parametrize("change", [{"payload": {}}, {"outputs": []}, {"digest": "0"}])
def test_an_edited_manifest_is_refused(store, change):
    stored = build(store)
    write_json(stored.path / "manifest.json", {**stored.manifest, **change})
    with pytest.raises(StoreError, match=r"manifest\.json"):
        store.current("toy", stored.id)


# -- verification -------------------------------------------------------------------------------------------------
def damage(stored, keep_times=False):
    file = stored.path / "model" / "w"
    stat = file.stat()
    file.write_text("wEights")
    if keep_times:
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("full", [True, False])
def test_damage_is_found_and_says_how_to_rebuild(store, full):
    stored = build(store)
    damage(stored)
    with pytest.raises(StoreError, match=r"model/w does not match its recorded hash.*--force first"):
        Store(store.root).verify(stored, full=full)


def test_full_verification_finds_damage_that_left_size_and_time_alone(store):
    stored = build(store)
    damage(stored, keep_times=True)
    with pytest.raises(StoreError, match="does not match"):
        Store(store.root).verify(stored, full=True)


def test_a_missing_file_is_named(store):
    stored = build(store)
    (stored.path / "model" / "w").unlink()
    with pytest.raises(StoreError, match="model/w is missing"):
        Store(store.root).verify(stored, full=False)


def test_unchanged_files_are_not_read_again(store, monkeypatch):
    stored = build(store)
    monkeypatch.setattr(module, "sha256", lambda path: pytest.fail("read again"))
    Store(store.root).verify(stored, full=False)


def test_without_the_cache_every_file_is_read(store):
    stored = build(store)
    shutil.rmtree(store.root / "cache")
    damage(stored, keep_times=True)
    with pytest.raises(StoreError):
        Store(store.root).verify(stored, full=False)


# -- kills --------------------------------------------------------------------------------------------------------
STEPS = ["describe", "write_json", "sync_tree", "os.rename", "sync", "write_text"]


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_of_publish_leaves_old_or_new(store, step, after):
    """In a forked builder one step of publish kills the process, before or after it did its work."""
    old = build(store, text="old")

    def builder():
        owner, name = (os, "rename") if step == "os.rename" else (module, step)
        real = getattr(owner, name)
        setattr(owner, name, lambda *a, **k: (real(*a, **k), die()) if after else die())
        build(store, text="new")

    process = FORK.Process(target=builder)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    fresh = Store(store.root)
    current = fresh.current("toy", old.id)
    fresh.verify(current)
    assert (current.path / "model" / "w").read_text() == ("new" if (step, after) == ("write_text", True) else "old")
    orphan = fresh.orphan("toy", old.id, {})
    renamed = STEPS.index(step) > 3 or (step == "os.rename" and after)
    assert (orphan is not None) == (renamed and (step, after) != ("write_text", True))
    assert build(fresh, text="next").path == fresh.current("toy", old.id).path


@pytest.mark.parametrize("step", ["write_json", "os.replace", "sync_tree", "os.rename"])
def test_what_a_stopped_publish_left_is_not_published(store, step):
    """The next run publishes the same folder; a manifest in it, whole or half, is none of the stage's files."""
    entry = manifest()

    def builder():
        owner, name = (os, step.removeprefix("os.")) if step.startswith("os.") else (module, step)
        setattr(owner, name, die)
        build(store)

    process = FORK.Process(target=builder)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    stored = Store(store.root).publish("toy", entry["id"], entry)
    assert [output["path"] for output in stored.manifest["outputs"]] == ["model/w"]
    assert sorted(path.name for path in stored.path.iterdir()) == ["manifest.json", "model"]
    Store(store.root).verify(stored)


def test_an_orphan_from_other_inputs_or_damaged_is_not_adopted(store):
    reference = {"policy": {"id": "a", "attempt": "1", "digest": "d1"}}
    stored = build(store, inputs=reference)
    (stored.path.parent / "CURRENT").unlink()
    assert store.orphan("toy", stored.id, {"policy": {**reference["policy"], "digest": "d2"}}) is None
    assert store.orphan("toy", stored.id, reference).path == stored.path
    damage(stored)
    assert Store(store.root).orphan("toy", stored.id, reference) is None


# -- locks --------------------------------------------------------------------------------------------------------
def test_racing_builders_build_once(store, tmp_path):
    def builder():
        id = manifest()["id"]
        with store.lock(id, lambda: None):
            if store.current("toy", id) is None:
                with (tmp_path / "built").open("a") as stream:
                    stream.write("x")
                build(store)

    processes = [FORK.Process(target=builder) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert (tmp_path / "built").read_text() == "x"


def test_a_lock_is_seen_by_others_and_ends_with_its_holder(store):
    ready, stop = FORK.Event(), FORK.Event()

    def hold():
        with store.lock("abcd"):
            ready.set()
            stop.wait(10)

    process = FORK.Process(target=hold)
    process.start()
    ready.wait(10)
    assert store.locked("abcd")
    process.kill()
    process.join()
    assert not store.locked("abcd")


def hold_on(lock: Lock, ready, stop):
    ready.send("holding")
    stop.recv()
    lock.__exit__()


def test_a_child_that_got_the_lock_keeps_it_when_its_parent_lets_go(store):
    """So a killed parent's orphan cannot be overtaken."""
    context = multiprocessing.get_context("spawn")
    (heard, ready), (stop, say) = context.Pipe(False), context.Pipe(False)
    with store.lock("abcd") as lock:
        process = context.Process(target=hold_on, args=(lock, ready, stop))
        process.start()
        assert heard.recv() == "holding"
    assert store.locked("abcd")
    say.send("stop")
    process.join()
    assert not store.locked("abcd")


# -- runs ---------------------------------------------------------------------------------------------------------
def test_latest_points_at_the_newest_run_and_history_is_read_backwards(store):
    stored = build(store)
    for i in range(3):
        run = store.new_run("chain")
        store.make_latest(run)
        stages = {"first": {"path": store.relative(stored.path) if i == 1 else None}}
        write_json(run / "run.json", {"run_id": i, "stages": stages})
    assert (store.runs("chain") / "latest").resolve() == run
    assert [entry["run_id"] for entry in store.past_runs("chain")] == [2, 1, 0]
    assert store.last_built("chain", "first").path == stored.path
    assert store.last_built("chain", "second") is None


@pytest.fixture
def clock(monkeypatch):
    """clock(days) puts the clock forward or back."""

    def put(days):
        class Clock(datetime):
            @classmethod
            def now(cls, zone=None):
                return datetime.now(zone) + timedelta(days=days)

        monkeypatch.setattr("pipeline.manifest.datetime", Clock)

    return put


def test_a_clock_that_is_put_back_changes_no_order(store, clock):
    """Attempts and runs made afterwards still are the newest, and an attempt that nobody pointed at is found."""
    clock(300)
    first = build(store, text="first")
    early = store.new_run("chain")
    write_json(early / "run.json", {"run_id": "early", "stages": {"first": {"path": store.relative(first.path)}}})
    clock(0)
    second = build(store, text="second")
    assert second.attempt > first.attempt and store.current("toy", first.id).path == second.path
    late = store.new_run("chain")
    write_json(late / "run.json", {"run_id": "late", "stages": {"first": {"path": store.relative(second.path)}}})
    store.make_latest(late)
    assert [run["run_id"] for run in store.past_runs("chain")] == ["late", "early"]
    assert store.last_built("chain", "first").path == second.path
    assert (store.runs("chain") / "latest").resolve() == late
    store.point(first)
    assert store.orphan("toy", first.id, {}).path == second.path


# -- pins and gc --------------------------------------------------------------------------------------------------
def test_pins_are_set_listed_and_removed(store):
    stored = build(store)
    pins.set_pin(store, "champion", stored)
    assert pins.pins(store)["champion"]["attempt"] == stored.attempt
    pins.remove_pin(store, "champion")
    with pytest.raises(ConfigError, match="no pin 'champion'"):
        pins.remove_pin(store, "champion")
    with pytest.raises(ConfigError, match="the pin"):
        pins.set_pin(store, "../../etc", stored)


def age(path: Path, days: float):
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def test_gc_keeps_pins_recent_runs_their_inputs_and_what_is_locked(store):
    base = build(store, 1)
    pinned = build(store, 2, inputs={"policy": base.reference()})
    used, old, locked = build(store, 3), build(store, 4), build(store, 5)
    superseded = build(store, 6)
    newest = build(store, 6, text="again")
    pins.set_pin(store, "keep", pinned)
    for name, stored, days in (("recent", used, 0), ("recent", newest, 0), ("past", old, 30)):
        run = store.new_run(name)
        write_json(run / "run.json", {"stages": {"s": {"path": store.relative(stored.path)}}})
        age(run / "run.json", days)
    held = store.lock(locked.id)
    sweep = pins.plan_gc(store, 14)
    assert set(sweep.attempts) == {old.path, superseded.path}
    assert old.path.exists()  # nothing happens before --apply
    pins.apply_gc(store, sweep)
    held.__exit__()
    assert store.current("toy", old.id) is None and store.current("toy", newest.id).path == newest.path
    assert len(list((store.root / "trash").iterdir())) == 2


def test_trash_has_a_day_of_grace(store):
    stored = build(store)
    pins.apply_gc(store, pins.plan_gc(store, 14))
    assert pins.plan_gc(store, 14).trash == []
    (folder,) = (store.root / "trash").iterdir()
    age(folder, 1.5)
    pins.apply_gc(store, pins.plan_gc(store, 14))
    assert not folder.exists() and not stored.path.exists()


# -- places that cannot be written --------------------------------------------------------------------------------
def test_a_store_that_is_a_file_says_so(tmp_path):
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(StoreError, match=r"cannot be written.*store\.root=FOLDER"):
        Store(tmp_path / "store").prepare()


def test_reading_works_where_nothing_can_be_written(store, monkeypatch):
    stored = build(store)
    shutil.rmtree(store.root / "cache")

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(module, "write_json", refuse)
    Store(store.root).verify(stored, full=False)
    assert json.loads((stored.path / "manifest.json").read_text())["id"] == stored.id
