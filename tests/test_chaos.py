"""Kills and full disks at steps of the protocol, a short form of scripts/chaos.py: its runs, its faults, its checks."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "scripts" / "chaos.py"
OUT, MANIFEST = "work/<id>/out", "work/<id>/out/manifest.json"
STEPS = {  # what is in danger, and the step before which the fault comes
    "the result that a child leaves": ("child", "fsync work/<id>/.result.json.<pid>"),
    "the manifest in the folder of the stage": ("main", f"fsync {MANIFEST}"),
    "the attempt that CURRENT does not name yet": ("main", "open artifacts/toy/<id>/.CURRENT.<pid>"),
}


@pytest.fixture(scope="module")
def chaos(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("chaos", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos"] = module
    spec.loader.exec_module(module)
    return module.Chaos("toy", tmp_path_factory.mktemp("chaos"), words=("--until", "first"))


def test_the_trace_has_every_step_of_the_protocol(chaos):
    seen = chaos.reference.moments
    asked = [
        "main|open locks/<id>.lock", "main|rename work/<id>/.spec.json.<pid> -> work/<id>/spec.json",
        "child|open work/<id>/ckpt/checkpoint-<n>/trainer_state.json", "child|fsync work/<id>/out/model.txt",
        "child|rename work/<id>/.result.json.<pid> -> work/<id>/result.json", f"main|fsync {OUT}",
        f"main|rename {OUT} -> artifacts/toy/<id>/<attempt>", "main|fsync artifacts/toy/<id>",
        "main|rename artifacts/toy/<id>/.CURRENT.<pid> -> artifacts/toy/<id>/CURRENT",
        "main|rename runs/chain/<attempt>/.run.json.<pid> -> runs/chain/<attempt>/run.json",
    ]  # fmt: skip
    assert [step for step in asked if step not in seen] == []
    kills = chaos.kills(1000)
    assert len(kills) == 1000 and {kill.rpartition("|")[0] for kill in kills if kill != "random"} == set(seen)


@pytest.mark.parametrize("danger", STEPS)
def test_a_kill_is_followed_by_the_bytes_of_an_undisturbed_run(chaos, danger):
    step = "|".join(STEPS[danger])
    found = chaos.kill(f"{step}|{chaos.reference.moments[step]}", chaos.folder / "store")
    assert found.good, found.said


def test_a_full_disk_is_exit_5_in_one_sentence_and_the_next_run_is_whole(chaos):
    found = chaos.fill("child|open work/<id>/out/model.txt|1", chaos.folder / "store")
    assert found.good, found.said
