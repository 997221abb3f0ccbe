"""What the page on reward models says is done by the command: the experiment as it stands there, and what comes out."""

import json
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "reward.md").read_text()


@pytest.fixture(scope="module")
def judged(command, tmp_path_factory):
    """The page's experiment, run once: its folder, and what it said."""
    folder = tmp_path_factory.mktemp("judged")
    for path, text in re.findall(r"```yaml (\S+)\n(.*?)```", PAGE, re.S):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    first = command(*WORDS, store=folder / "store", cwd=folder)
    return folder, first


WORDS = ("run", "experiment=judged", "--json", "tracker=none")


@pytest.mark.slow
def test_the_pages_experiment_runs_and_is_found_again(judged, command):
    """Slow: trains sft and two reward models on the toy, in processes of their own."""
    folder, first = judged
    assert first.code == 0, first.err
    reward = first.json["stages"]["reward"]
    assert reward["status"] == "BUILT" and "eval_reward" not in first.json["stages"]
    path = folder / "store" / reward["path"]
    manifest = json.loads((path / "manifest.json").read_text())
    for name in re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \| (?:share|whether|rank|mean)", PAGE, re.M):
        assert set(filter(None, name)) <= manifest["metrics"].keys()
    chain = json.loads((path / "model" / "model.json").read_text())
    assert len(chain["heads"]["reward"]["members"]) == 2 and len(chain["adapters"]) == 1
    again = command(*WORDS, store=folder / "store", cwd=folder)
    assert again.code == 0 and again.json["stages"]["reward"]["status"] == "HIT"


@pytest.mark.slow
def test_the_held_out_part_is_kept_from_every_stage_and_the_report_has_the_model(judged):
    """Slow: needs the run above."""
    folder, first = judged
    checks = [entry for name, entry in first.json["stages"].items() if name.startswith("check_") and entry["path"]]
    assert len(checks) == 2
    for entry in checks:
        manifest = json.loads((folder / "store" / entry["path"] / "manifest.json").read_text())
        assert "data.measured_smoke_pairs" in manifest["inputs"]
    report = folder / "store" / "runs" / "judged" / first.json["run_id"] / "report.html"
    assert '<section id="judges">' in report.read_text()


def test_the_page_names_every_choice():
    from stages.rewards.normalise import ANSWERS
    from stages.rewards.votes import TARGETS, WEIGHTS

    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {*TARGETS, *WEIGHTS, *ANSWERS} <= named
