"""`scripts/compare_steps.py`: two stores of one experiment, trained with another step, beside each other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "compare_steps.py"


@pytest.fixture
def store(tmp_path):
    """Makes a store with one run, whose stage `sft` was built by a step in so many seconds."""

    def made(name, step, seconds, status="BUILT"):
        root = tmp_path / name
        stages = {
            "sft": {"kind": "sft", "status": status, "digest": "d", "path": "artifacts/sft", "seconds": seconds + 1.0},
            "eval_sft": {"kind": "evaluate", "status": "BUILT", "digest": "e", "path": "artifacts/e", "seconds": 7.0},
        }
        manifest = {
            "training": {"step": f"{step} (asked for)"}, "timing": {"train_seconds": seconds}, "env": {},
            "metrics": {"tokens_per_second": 100.0, "final_loss": 1.25}, "peak_bytes": 2_000_000_000,
        }  # fmt: skip
        run = {"stages": stages, "started": "now", "overrides": [], "seconds": seconds + 9.0, "engine_seconds": 1.0}
        for path, value in (("runs/legal/1T1/run.json", run), ("artifacts/sft/manifest.json", manifest),
                            ("artifacts/e/manifest.json", {})):  # fmt: skip
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(json.dumps(value))
        return root

    return made


def compared(tmp_path, *stores):
    (tmp_path / "benchmarks").mkdir(exist_ok=True)
    return subprocess.run([sys.executable, SCRIPT, *stores], cwd=tmp_path, capture_output=True, text=True)


def test_stages_are_beside_each_other_and_evaluation_is_told_apart(store, tmp_path):
    done = compared(tmp_path, store("a", "fast", 10.0), store("b", "trl", 30.0))
    assert "| `sft` | `fast` | 10.0 |  | 100 | 2.00 | 1.25000 |" in done.stdout
    assert "| whole run | `trl` | 39 | | | | |" in done.stdout
    fast, trl = json.loads((tmp_path / "benchmarks" / "legal_steps.json").read_text())
    assert (fast["step"], trl["step"], trl["evaluation_seconds"]) == ("fast", "trl", 7.0)
    assert list(fast["stages"]) == ["sft"] and fast["stages"]["sft"]["seconds"] == 11.0


def test_stores_that_differ_in_no_step_are_refused(store, tmp_path):
    same = compared(tmp_path, store("a", "fast", 10.0), store("b", "fast", 30.0))
    hit = compared(tmp_path, store("c", "fast", 10.0), store("d", "trl", 30.0, status="HIT"))
    for done in (same, hit):
        assert done.returncode == 1 and "no stage was built in both stores, with another step" in done.stderr
        assert "Traceback" not in done.stderr
