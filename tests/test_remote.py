"""The mirror of a store: order of uploads, stopped ones, two writers, damage, hostile content; on three protocols."""

import json
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import fsspec
import pytest
from store_toys import build

from pipeline.errors import ConfigError, StoreError
from pipeline.fsck import fsck
from pipeline.manifest import tree_digest
from pipeline.remote import Unreachable, check_url, fetch, open_remote, push_all
from pipeline.store import Store


class Stopping:
    """A file system whose n-th call fails before or after it took effect, as a killed or cut-off client sees it."""

    CALLS = ("cat_file", "put_file", "pipe_file", "find", "mv")

    def __init__(self, files, n, late):
        self.files, self.left, self.late = files, n, late

    def __getattr__(self, name):
        found = getattr(self.files, name)
        return self.counted(found) if name in self.CALLS else found

    def counted(self, call):
        def counting(*args, **options):
            self.left -= 1
            if self.left == 0 and not self.late:
                raise ConnectionError("cut off")
            try:
                return call(*args, **options)
            finally:
                if self.left == 0:
                    raise ConnectionError("cut off")

        return counting


@pytest.fixture(params=["memory", "file", "s3"])
def remote(request, tmp_path):
    fsspec.filesystem("memory").store.clear()
    if request.param == "s3":
        return open_remote(request.getfixturevalue("s3"))
    return open_remote("memory://mirror/a" if request.param == "memory" else f"file://{tmp_path}/mirror")


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "store")
    found.prepare()
    return found


@pytest.fixture
def other(tmp_path):
    """The store of another machine."""
    found = Store(tmp_path / "other")
    found.prepare()
    return found


@pytest.fixture
def stored(store):
    """An artifact of three files: 7, 1000 and 2 bytes."""
    return build(store, more={"model/adapter.bin": "x" * 1000, "history.jsonl": "{}"})


def place(remote, stored, path):
    return f"{remote.root}/artifacts/{stored.kind}/{stored.id}/{stored.attempt}/{path}"


def quiet(_):
    pass


def test_what_is_pushed_is_pulled_byte_for_byte(remote, store, stored, other):
    child = build(store, 1, inputs={"policy": stored.reference()})
    assert push_all(remote, store, [stored, child], quiet) == [stored, child]
    assert push_all(remote, store, [stored, child], quiet) == []
    assert remote.kinds() == {stored.id: "toy", child.id: "toy"}
    for one in (stored, child):
        pulled = fetch(remote, other, remote.current(other, "toy", one.id), quiet)
        assert other.current("toy", one.id).path == pulled.path
        for path in ("manifest.json", *(item["path"] for item in one.manifest["outputs"])):
            assert (pulled.path / path).read_bytes() == (one.path / path).read_bytes()
    found = fsck(Store(other.root))
    assert found.findings == [] and found.attempts == 2


@pytest.mark.parametrize("late", [False, True])
def test_an_upload_stopped_anywhere_shows_nothing_half_and_the_next_one_completes(remote, store, stored, other, late):
    steps = 0
    for n in range(1, 20):
        if remote.files.exists(remote.root):
            remote.files.rm(remote.root, recursive=True)
        try:
            push_all(replace(remote, files=Stopping(remote.files, n, late)), store, [stored], quiet)
            break
        except Unreachable:
            steps += 1
        named = remote.current(other, "toy", stored.id)  # refuses a CURRENT without its manifest
        remote.files.invalidate_cache()
        if remote.files.exists(place(remote, stored, "manifest.json")):
            assert remote.push(stored, check=True) == 0  # then all of it is there, with its hashes
        else:
            assert named is None
        push_all(remote, store, [stored], quiet)
        assert remote.current(other, "toy", stored.id).manifest == stored.manifest
    assert steps >= 7  # look, list, three files, manifest, CURRENT


def test_a_second_push_sends_only_what_is_missing(remote, stored):
    assert remote.push(stored) > 1009
    assert remote.push(stored) == 0
    remote.files.rm(place(remote, stored, "model/adapter.bin"))
    assert remote.push(stored) == 1000


def test_of_two_writers_of_one_id_either_wins_and_both_attempts_are_whole(remote, store, other):
    attempts = [build(store, text="one"), build(store, text="two")]
    assert attempts[0].id == attempts[1].id
    for _ in range(5):
        start = threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda one, start=start: (start.wait(), remote.push(one)), attempts))
        winner = remote.current(other, "toy", attempts[0].id)
        assert winner.attempt in [one.attempt for one in attempts]
        for one in attempts:
            assert remote.attempt(other, "toy", one.id, one.attempt).manifest == one.manifest
        assert [remote.push(one, check=True) for one in attempts] == [0, 0]
        remote.files.rm(remote.root, recursive=True)


def test_two_processes_that_write_one_id_to_s3_leave_two_whole_attempts(s3, store, other):
    attempts = [build(store, text=text, more={"big": text * 100_000}) for text in ("one", "two")]
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    writers = [context.Process(target=write, args=(start, s3, one.path)) for one in attempts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    remote = open_remote(s3)
    assert remote.current(other, "toy", attempts[0].id).attempt in [one.attempt for one in attempts]
    assert [remote.push(one, check=True) for one in attempts] == [0, 0]


def write(start, url, folder):
    """What each of those processes does."""
    found = Store(folder.parents[3]).read(folder)
    start.wait()
    open_remote(url).push(found)


@pytest.mark.parametrize("call", ["create_multipart_upload", "upload_part", "complete_multipart_upload"])
def test_a_large_file_whose_upload_stops_between_its_parts_is_not_there(s3, store, other, monkeypatch, call):
    stored = build(store, more={"large": "x" * (11 * 2**20)})
    remote = open_remote(s3)
    ask = remote.files._call_s3

    async def cut(method, *args, **options):
        if method == call and options.get("PartNumber") != 1:
            raise ConnectionError("cut off")
        return await ask(method, *args, **options)

    monkeypatch.setattr(remote.files, "put_file", partial(remote.files.put_file, chunksize=5 * 2**20))
    with monkeypatch.context() as while_cut:
        while_cut.setattr(remote.files, "_call_s3", cut)
        with pytest.raises(Unreachable, match="cut off"):
            remote.push(stored)
    assert not remote.files.exists(place(remote, stored, "large"))
    assert remote.current(other, "toy", stored.id) is None
    remote.push(stored)
    assert fetch(remote, other, remote.current(other, "toy", stored.id), quiet).digest == stored.digest


def test_a_damaged_file_is_refused_and_a_push_with_check_mends_it(remote, store, stored, other):
    remote.push(stored)
    remote.files.pipe_file(place(remote, stored, "model/adapter.bin"), b"y" * 1000)
    found = remote.current(other, "toy", stored.id)
    with pytest.raises(StoreError, match=r"adapter.bin is missing or does not match its .*push first --check"):
        fetch(remote, other, found, quiet)
    assert other.current("toy", stored.id) is None and not found.path.exists()
    push_all(remote, store, [stored], quiet, check=True)
    assert fetch(remote, other, found, quiet).digest == stored.digest


def test_a_damaged_manifest_is_refused_and_sent_again(remote, store, stored, other):
    remote.push(stored)
    remote.files.pipe_file(place(remote, stored, "manifest.json"), b"{")
    with pytest.raises(StoreError, match="missing or damaged"):
        remote.current(other, "toy", stored.id)
    push_all(remote, store, [stored], quiet)
    assert remote.current(other, "toy", stored.id).digest == stored.digest


def test_a_file_of_another_size_is_not_even_downloaded(remote, stored, other, monkeypatch):
    remote.push(stored)
    remote.files.pipe_file(place(remote, stored, "history.jsonl"), b"endless")
    fetched = []
    get_file = remote.files.get_file
    monkeypatch.setattr(remote.files, "get_file", lambda *names: (fetched.append(names[0]), get_file(*names)))
    with pytest.raises(StoreError, match=r"history\.jsonl is missing or does not match"):
        fetch(remote, other, remote.current(other, "toy", stored.id), quiet)
    assert not [name for name in fetched if name.endswith("history.jsonl")]


def test_a_stopped_pull_continues(remote, stored, other):
    remote.push(stored)
    remote.files.rm(place(remote, stored, "model/w"))
    found = remote.current(other, "toy", stored.id)
    with pytest.raises(StoreError, match="model/w is missing"):
        fetch(remote, other, found, quiet)
    remote.files.pipe_file(place(remote, stored, "model/w"), b"weights")
    remote.files.rm(place(remote, stored, "history.jsonl"))  # it is here already
    assert fetch(remote, other, found, quiet).digest == stored.digest
    assert not (other.work(stored.id) / "pull").exists()


@pytest.mark.parametrize("path", ["../../../escape", "/etc/escape", "a/../../escape", "manifest.json", "a\\..\\b"])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(remote, stored, other, path):
    remote.push(stored)
    manifest = json.loads(json.dumps(stored.manifest))
    manifest["outputs"][0]["path"] = path
    manifest["digest"] = tree_digest(manifest["outputs"])
    remote.files.pipe_file(place(remote, stored, "manifest.json"), json.dumps(manifest).encode())
    with pytest.raises(StoreError, match="not written by Journeyman"):
        remote.current(other, "toy", stored.id)


@pytest.mark.parametrize("text", ["../../../elsewhere", " ", "CURRENT", "20260101T000000000000Z-abcdef/..", "\0"])
def test_a_current_that_names_no_attempt_is_refused(remote, stored, other, text):
    remote.push(stored)
    remote.files.pipe_file(f"{remote.root}/artifacts/toy/{stored.id}/CURRENT", text.encode())
    with pytest.raises(StoreError, match="not written by Journeyman"):
        remote.current(other, "toy", stored.id)


def test_a_manifest_of_another_artifact_is_refused(remote, store, stored, other):
    remote.push(stored)
    foreign = build(store, 1).path / "manifest.json"
    remote.files.pipe_file(place(remote, stored, "manifest.json"), foreign.read_bytes())
    with pytest.raises(StoreError, match="of another place"):
        remote.current(other, "toy", stored.id)


def test_a_bucket_that_is_not_there_is_no_empty_remote(s3, other):
    with pytest.raises(Unreachable, match="bucket does not exist"):
        open_remote("s3://buckett/team").current(other, "toy", "0" * 16)


REFUSED = ["s3://key:secret@bucket/x", "s3://user@bucket", "file:///a?password=x", "s3://", "http://host/x"]


@pytest.mark.parametrize("url", [*REFUSED, "/folder", "memory://", "file:///a/../b", "file://host/a"])
def test_urls_that_hold_credentials_or_are_no_place_are_refused(url):
    with pytest.raises(ConfigError, match=r"store\.remote"):
        check_url(url)
