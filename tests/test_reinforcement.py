"""What the report says of a stage that learned from rewards."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_fixture import FakeRun, rewards

from pipeline.report import write_report
from pipeline.report.collect import read_run
from pipeline.report.plots import HEIGHT, WIDTH, pair
from pipeline.report.reinforcement import NAMES, proxy_and_gold, reinforcement, series

ALARM = {"name": "over_optimised", "detail": "gold turned at a KL of 4.2", "update": 25, "kl": 4.2}
EVIL = "<script>alert('x')</script> **b**"


def learned(root: Path, **changed: Any) -> tuple[dict[str, Any], str, str]:
    """The section of a run whose `ppo` was changed, with both pages."""
    run = FakeRun(root)
    run.artifact("base", "base", "model", 9.2)
    path = run.reinforced(alarms=changed.pop("alarms", []), **changed.pop("config", {}))
    for name, rows in changed.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = run.finish()
    html = write_report(folder, root).read_text()
    return reinforcement(read_run(folder, root))[0], html, (folder / "report.md").read_text()


def test_every_series_of_the_history_is_shown_on_both_pages(tmp_path: Path) -> None:
    found, html, markdown = learned(tmp_path)
    captions = [curve.name for curve in found["curves"]] + [name for name, _ in found["constant"]]
    for key in rewards(2)[0]:
        prefix, _, part = key.partition("/")
        name = f"{NAMES[prefix + '/']} {part}" if part else NAMES.get(key)
        assert name in captions if key != "update" else name is None
    for caption in captions:
        assert caption in html and caption in markdown
    assert found["constant"] == [("KL coefficient", "0.05")] and found["updates"] == "60"


def test_a_stage_without_rewards_has_no_such_section(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.artifact("base", "base", "model", 9.2)
    run.dataset("legal_sft", 2104)
    run.trained("sft")
    folder = run.finish()
    assert reinforcement(read_run(folder, tmp_path)) == []
    assert "Learning from reward" not in write_report(folder, tmp_path).read_text()


def test_the_target_of_the_kl_is_a_line_between_what_is_below_and_above_it(tmp_path: Path) -> None:
    found, html, markdown = learned(tmp_path)
    (kl,) = [curve for curve in found["curves"] if curve.level is not None]
    heights = [float(point.split(",")[1]) for point in kl.raw.split()]
    assert kl.name.startswith("KL from") and min(heights) < kl.level < max(heights)  # it ends above 6 and starts below
    assert "target 6" in html and "(target 6)" in markdown
    without, html, markdown = learned(tmp_path / "fixed", config={"train": {"kl_target": 0.0}})
    assert (
        all(curve.level is None for curve in without["curves"]) and ">target" not in html and "(target" not in markdown
    )


def test_a_target_beyond_the_curve_stays_in_the_box() -> None:
    drawn, _ = series([{"kl": 0.1 * i} for i in range(5)], 6.0)
    assert 0 <= drawn[0].level <= HEIGHT


def test_series_that_say_the_same_are_drawn_once() -> None:
    drawn, _ = series([{"reward": float(i), "reward/only": float(i)} for i in range(4)], None)
    assert [curve.name for curve in drawn] == ["Reward, as trained on"]


def test_updates_without_a_value_leave_a_gap_and_no_error() -> None:
    drawn, _ = series([{"gold": 0.5}, {"gold": None}, {"gold": float("nan")}, {"gold": 0.7}], None)
    xs = [float(point.split(",")[0]) for point in drawn[0].raw.split()]
    assert len(xs) == 2 and xs[1] == WIDTH - 10


def test_the_turn_of_gold_is_marked_where_the_alarm_says(tmp_path: Path) -> None:
    found, html, markdown = learned(tmp_path, alarms=[ALARM])
    turned = found["pair"].turn
    left, right = (next(x for x, label in found["pair"].xticks if label == kl) for kl in ("4", "6"))
    assert turned == pytest.approx(left + 0.1 * (right - left), abs=0.2) and "gold turned" in html
    for page in (html, markdown):
        assert page.count("gold turned at a KL of 4.2") == 1  # in one place only
    calm, html, markdown = learned(tmp_path / "calm")
    assert calm["pair"].turn is None and "gold turned" not in html
    assert "No alarm." in html and "No alarm." in markdown


def test_without_gold_or_movement_nothing_is_drawn_over_kl() -> None:
    rows = rewards(20)
    assert proxy_and_gold([{**row, "gold": None} for row in rows], []) is None
    assert proxy_and_gold([{**row, "kl": 0.0} for row in rows], []) is None
    sparse = proxy_and_gold([row if i % 5 == 0 else {**row, "gold": None} for i, row in enumerate(rows)], [])
    assert sparse is not None and len(sparse.dots) == 4


def test_both_series_over_kl_fill_the_box_by_their_own_axes() -> None:
    drawn = pair([0.0, 1.0, 2.0], [-1000.0, 0.0, 1000.0], [0.9, 0.8, 0.7], 2.0)
    assert all(0 <= one <= HEIGHT and 0 <= other <= HEIGHT and 0 <= x <= WIDTH for x, one, other in drawn.dots)
    ones, others = [dot[1] for dot in drawn.dots], [dot[2] for dot in drawn.dots]
    assert ones == sorted(ones, reverse=True) and others == sorted(others)
    assert drawn.turn == drawn.dots[-1][0]


def test_the_lines_over_kl_never_turn_back() -> None:
    """The KL of a run goes up and down; the line is a mean over what had about the same KL."""
    drawn = pair([0.0, 3.0, 1.0, 2.0, 1.5] * 8, [1.0, 4.0, 2.0, 3.0, 2.5] * 8, [0.5] * 40)
    xs, ys = zip(*(map(float, point.split(",")) for point in drawn.one.split()), strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys, reverse=True)


def test_where_a_step_spends_its_time(tmp_path: Path) -> None:
    found, html, markdown = learned(tmp_path)
    assert [row["share"] for row in found["times"]["rows"]] == ["57.0 %", "17.0 %", "26.1 %"]
    for page in (html, markdown):
        assert "57.0 %" in page and "2 min 11 s" in page and "1\u202f433 tokens a second" in page


def test_samples_show_the_same_prompt_early_and_late(tmp_path: Path) -> None:
    found, html, _ = learned(tmp_path)
    assert len(found["samples"]) == 2  # the prompt that was asked once is left out
    first = found["samples"][0]
    assert [answer["at"] for answer in first["answers"]] == ["1", "29", "59"]
    assert [answer["reward"] for answer in first["answers"]] == ["0.1", "0.5667", "1.067"]
    assert "Answer of update 58." in html


def test_prompts_that_never_come_again_are_shown_from_the_whole_run(tmp_path: Path) -> None:
    rows = [{"update": i, "prompt": f"p{i}", "answer": "a", "reward": 0.5} for i in range(9)]
    found, _, _ = learned(tmp_path, samples=rows)
    assert [item["prompt"] for item in found["samples"]] == ["p0", "p4", "p8"]


def test_what_a_model_says_shows_as_itself(tmp_path: Path) -> None:
    rows = [{"update": 0, "prompt": EVIL, "answer": EVIL, "reward": 0.5}]
    _, html, markdown = learned(tmp_path, samples=rows, alarms=[{"name": EVIL, "detail": EVIL}])
    assert "<script" not in html and "&lt;script&gt;" in html
    assert f"```text\n{EVIL}\n```" in markdown and "- **alarm**: <script" not in markdown


def test_a_stage_that_stopped_before_its_first_update_has_no_section(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.artifact("base", "base", "model", 9.2)
    run.stopped("ppo", "ppo", "model", "FAILED", "out of memory")
    folder = run.finish(5)
    assert reinforcement(read_run(folder, tmp_path)) == [] and write_report(folder, tmp_path).is_file()
