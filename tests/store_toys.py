"""Artifacts for tests of the store: published as a runner does it under the lock, without a child."""

import shutil

from pipeline.identity import artifact_id, payload_of
from pipeline.schema import StageConfig


def payload(seed=0):
    return payload_of("toy", 1, StageConfig(kind="toy", seed=seed), {}, {})


def manifest(seed=0, inputs=None, stage="first"):
    recipe = payload(seed)
    return {"id": artifact_id(recipe), "kind": "toy", "stage": stage, "payload": recipe, "inputs": inputs or {}}


def write_out(store, id, text="weights", more=None):
    """What a stage leaves in its work folder."""
    out = store.work(id) / "out" / "model"
    shutil.rmtree(out.parent, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "w").write_text(text)
    for name, content in (more or {}).items():
        (out.parent / name).write_text(content)


def build(store, seed=0, text="weights", inputs=None, stage="first", more=None):
    """The artifact of `seed`, with `text` as its content, and `more`: path -> text of further files."""
    entry = manifest(seed, inputs, stage)
    write_out(store, entry["id"], text, more)
    return store.publish("toy", entry["id"], entry)
