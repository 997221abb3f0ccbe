"""The report on reward models: numbers, diagram, slices and annotators as they were measured, in both pages."""

import json
import re

import pytest
from report_fixture import MODELS, SECONDS, FakeRun

from pipeline.report import write_report
from pipeline.report.collect import read_run
from pipeline.report.judges import judges
from pipeline.report.plots import BOTTOM, HEIGHT, TOP, reliability


def a_bin(number, n, confidence, accuracy):
    low = 0.5 + number / 20
    return {"low": low, "high": low + 0.05, "n": n, "confidence": confidence, "accuracy": accuracy,
            "interval": [max(0.0, accuracy - 0.2), min(1.0, accuracy + 0.2)]}  # fmt: skip


BINS = [a_bin(0, 8, 0.52, 0.5), a_bin(5, 4, 0.77, 0.75), a_bin(6, 0, 0.0, 0.0), a_bin(9, 40, 0.98, 0.95)]
SUMMARY = {
    "accuracy": {"value": 0.846, "low": 0.76, "high": 0.92, "n": 51,
                 "slices": {"part=legal": {"value": 0.9, "low": 0.7, "high": 1.0, "n": 31},
                            "part=safety": {"value": 0.75, "low": 0.5, "high": 0.95, "n": 20}}},
    "calibration": {"ece": 0.034, "brier": 0.1234, "bins": BINS},
    "length_correlation": -0.62, "spread": 0.31, "members": 3, "pairs": 52, "tied": 1,
}  # fmt: skip
NORMALISATION = {
    "answers": "answers of the input policy", "count": 64,
    "members": [{"mean": -1.25, "scale": 2.5}, {"mean": 0.5, "scale": 1.0}, {"mean": 0.0, "scale": 3.0}],
}  # fmt: skip
ALARM = {"name": "reward_follows_length", "detail": "shorter answers earn more <b>"}


@pytest.fixture
def run(tmp_path):
    """run(summary) -> folder of a run with a base, sft and a reward model on it."""

    def make(summary=SUMMARY, **sections):
        made = FakeRun(tmp_path)
        made.artifact("base", "base", "model", SECONDS["base"])
        made.dataset("legal_sft", 2104)
        made.trained(MODELS[1])
        recorded = {"normalisation": NORMALISATION, "alarms": [ALARM], **sections}
        path = made.artifact("judge", "reward", "reward", 60.0, **recorded)
        (path / "results").mkdir()
        if summary:
            (path / "results" / "summary.json").write_text(json.dumps(summary))
        rows = [{"step": step, "loss": 0.7 - step / 50, "accuracy": 0.5 + step / 50} for step in range(1, 20)]
        (path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return made.finish()

    return make


def pages(folder, tmp_path):
    page = write_report(folder, tmp_path)
    return page.read_text(), (folder / "report.md").read_text()


def test_numbers_stand_in_both_pages(run, tmp_path):
    annotators = {"ann": {"votes": 210, "right": 0.912}, "": {"votes": 9, "right": 0.5}}
    html, markdown = pages(run(annotators=annotators), tmp_path)
    for said in ("84.6 %", "76.0 to 92.0 %", "3.4 %", "0.123", "rank correlation −0.62", "differ by 0.31", "91.2 %",
                 "mean −1.25, scale 2.5", "part: legal", "50.0 to 95.0 %", "98.0 %", "ann", "(no name)"):  # fmt: skip
        assert said in html, said
    for said in ("84.6 %", "76.0 to 92.0 %", "3.4 %", "0.123", "91.2 %", "part: legal", "reward\\_follows\\_length"):
        assert said in markdown, said
    assert "1 of them ties, which count in the calibration only" in html
    assert "shorter answers earn more &lt;b&gt;" in html and "Reward models</a>" in html


def test_an_alarm_is_told_once(run, tmp_path):
    html, markdown = pages(run(), tmp_path)
    assert html.count("reward_follows_length") == 1 and markdown.count("reward\\_follows\\_length") == 1


def test_it_stands_in_the_chain_and_has_its_curves(run, tmp_path):
    html, markdown = pages(run(), tmp_path)
    assert html.count("right on 84.6 % of 51 held-out pairs") == 1 == markdown.count("right on 84.6 % of 51")
    for name in ("training loss", "chosen preferred, share of pairs"):
        assert f'aria-label="{name} of judge"' in html


def test_what_one_member_and_no_annotators_leave_out(run, tmp_path):
    html, markdown = pages(run({**SUMMARY, "members": 1, "spread": 0.0, "tied": 0}), tmp_path)
    section = re.search(r'<section id="judges">.*?</section>', html, re.S).group(0)
    assert "Members" not in section and "Annotator" not in section and "them ties" not in section
    assert "Annotator" not in markdown


def test_a_stage_that_measured_nothing_has_no_section(run, tmp_path):
    folder = run(summary=None)
    assert judges(read_run(folder, tmp_path)) == []
    html, markdown = pages(folder, tmp_path)
    assert "Reward models" not in html and "Reward models" not in markdown and "not evaluated" in html


def test_the_diagram_is_drawn_to_scale():
    """One dot for each bin that has pairs; a bin as sure as it is right lies on the dashed line."""
    seen = reliability(BINS)
    assert len(seen.points) == 3
    x1, y1, x2, y2 = seen.diagonal
    for point, part in zip(seen.points, (part for part in BINS if part["n"]), strict=True):
        share = (part["confidence"] - 0.5) / 0.5
        assert point.x == pytest.approx(x1 + (x2 - x1) * share, abs=0.06)
        assert point.y == pytest.approx(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * part["accuracy"], abs=0.06)
        assert point.high <= point.y <= point.low
    true = reliability([a_bin(6, 5, 0.8, 0.8)]).points[0]
    assert true.y == pytest.approx(y1 + (y2 - y1) * (true.x - x1) / (x2 - x1), abs=0.1)
    tall = [point.bar[3] for point in seen.points]
    assert tall[0] / tall[2] == pytest.approx(8 / 40, abs=0.01) and seen.points[2].title.startswith(
        "40 pairs: 98 % sure"
    )
