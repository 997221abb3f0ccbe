"""The evaluation pages of the report: heat map, prompts, details, gates with p; the same in HTML and Markdown."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_fixture import CONFIG, DETAILS, FakeRun, whole_run
from test_report import EVIL, pages, poisoned, start

from pipeline.report.collect import read_json, read_run
from pipeline.report.details import details
from pipeline.report.effect import effect
from pipeline.report.matrix import Square, heat, matrix
from pipeline.report.page import view
from pipeline.report.plots import reliability, risk
from pipeline.report.rendering import TEMPLATES
from pipeline.report.words import Change, change_span, change_value, metric_value, p_value, score_word, title


def tuned(root: Path) -> FakeRun:
    """A start, a tuned model and two prompts."""
    run = start(root)
    run.evaluated("base")
    run.trained("sft")
    run.evaluated("sft")
    run.prompted("prompt_examples", "licence_category", "preference", examples=4)
    run.prompted("prompt_glossary", "licence_category", glossary={"a": "b"})
    return run


def squares(run_dir: Path, root: Path) -> dict[str, list[Square]]:
    found = matrix(read_run(run_dir, root))
    assert found is not None
    return {suite: row for suite, _, row in found.rows}


# -- heat map -----------------------------------------------------------------------------------------------------
def test_green_is_better_whichever_way_the_metric_counts(tmp_path: Path) -> None:
    found = squares(whole_run(tmp_path), tmp_path)
    assert found["Domain perplexity"][2].change == "−33.9 %" and found["Domain perplexity"][2].heat == "good-4"
    assert found["Refusal"][1].heat == "good-4" and found["Over refusal"][3].heat == "bad-3"
    assert found["General perplexity"][1].heat == ""  # no clear change
    assert (found["Refusal"][0].value, found["Refusal"][0].change, found["Refusal"][0].heat) == ("10.0 %", "", "")


@pytest.mark.parametrize(
    ("change", "higher", "expected"),
    [
        (Change(0.01, 0.001, 0.02), True, "good-1"),
        (Change(0.02, 0.01, 0.03), True, "good-2"),
        (Change(-0.05, -0.06, -0.04), True, "bad-3"),
        (Change(-0.4, -0.5, -0.3), False, "good-4"),
        (Change(0.4, -0.1, 0.9), True, ""),
    ],
)
def test_shade_says_how_large_a_clear_change_is(change: Change, higher: bool, expected: str) -> None:
    assert heat(change, higher) == expected


def test_stage_that_lost_most_is_marked_and_named(tmp_path: Path) -> None:
    run_dir = whole_run(tmp_path)
    lost = {"stage": "domain", "change": 0.21, "low": 0.11, "high": 0.31, "p": 0.001}
    file = run_dir / "matrix.json"
    found = read_json(file)
    entry = next(one for one in found["entries"] if (one["suite"], one["stage"]) == ("over_refusal", "dpo"))
    entry["against_input"] = lost
    file.write_text(json.dumps({**found, "caused_by": {"over_refusal": "dpo"}}))
    assert [square.step for square in squares(run_dir, tmp_path)["Over refusal"]] == [
        "",
        "",
        "",
        "worse here: +21.0 pts",
    ]
    for text in pages(run_dir, tmp_path):
        assert "Over refusal: dpo lost most, +21.0 pts (95 % interval +11.0 to +31.0) against domain." in text


def test_what_cannot_be_compared_has_no_colour_and_says_why(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.evaluated("base", items=10)
    run.trained("sft")
    run.evaluated("sft", items=12)
    (square,) = squares(run.finish(), tmp_path)["Refusal"][1:]
    assert (square.change, square.heat) == ("not comparable", "") and "not measured on the same items" in square.told


def test_text_is_readable_on_every_shade() -> None:
    """WCAG asks for a contrast of 4.5 for text of this size."""
    light, dark = (TEMPLATES / "style.css").read_text().split("@media (prefers-color-scheme: dark)")
    for part in (light, dark.split("* {")[0]):
        colours = dict(re.findall(r"--([a-z]+(?:-\d)?): (#[0-9a-f]{6})", part))
        for shade in (f"{tone}-{level}" for tone in ("good", "bad") for level in range(1, 5)):
            assert contrast(colours[shade], colours["ink"]) >= 4.5, shade


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours as WCAG 2.1 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


# -- prompts ------------------------------------------------------------------------------------------------------
def test_prompts_stand_beside_the_tuned_model_with_paired_changes(tmp_path: Path) -> None:
    stages = {**CONFIG["stages"], "prompt_examples": {"examples": 4}, "prompt_glossary": {"glossary": {"a": "b"}}}
    run_dir = tuned(tmp_path).finish(resolved_config={**CONFIG, "stages": stages})
    found = view(read_run(run_dir, tmp_path), tmp_path)["prompting"]
    assert found["prompts"] == [
        ("base", "bare prompt"), ("prompt_examples", "4 examples"), ("prompt_glossary", "glossary of 1 terms")
    ]  # fmt: skip
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["Licence category", "Preference"]
    category = rows["Licence category"]  # the examples reach 53.3 %, the tuned model 40.0 %
    assert category["cells"][1].value == "53.3 %" and category["cells"][1].change == "−13.3 pts"
    assert category["verdict"] == "worse than prompt_examples" and category["cells"][2].word == "no clear change"
    assert rows["Preference"]["cells"][2].value == "–"  # not measured on it
    assert rows["Preference"]["verdict"] == "not clearly better than prompt_examples"
    for text in pages(run_dir, tmp_path):
        assert "Was tuning worth it?" in text and "worse than prompt" in text


def test_tuning_that_beats_every_prompt_is_called_so(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.evaluated("base")
    run.dataset("licences", 1212)
    run.dataset("pairs", 900)
    for model in ("sft", "domain", "dpo"):
        run.trained(model)
        run.evaluated(model)
    run.prompted("prompt_glossary", "preference")
    run_dir = run.finish()
    (row,) = view(read_run(run_dir, tmp_path), tmp_path)["prompting"]["rows"]
    assert (row["verdict"], row["tone"]) == ("better than every prompt", "good")


def test_without_a_prompt_or_a_tuned_model_there_is_no_such_table(tmp_path: Path) -> None:
    assert view(read_run(whole_run(tmp_path / "a"), tmp_path / "a"), tmp_path / "a")["prompting"] is None
    run = start(tmp_path / "b")
    run.evaluated("base")
    run.prompted("prompt_examples", "preference")
    assert view(read_run(run.finish(), tmp_path / "b"), tmp_path / "b")["prompting"] is None


# -- details ------------------------------------------------------------------------------------------------------
def test_details_are_on_both_pages(tmp_path: Path) -> None:
    for text in pages(whole_run(tmp_path), tmp_path):
        assert "40 questions in 120 wordings." in text and "linking-7: 33 % of the pairs agree" in text
        assert "Groups all right" in text and "31.0 %" in text and "20.0 to 43.0 %" in text
        assert "ECE 0.183, Brier score 0.251" in text and "Temperature" in text and "2.31" in text
        assert "GNU Lesser General Public License" in text and "Yes, always." in text


def test_examples_of_the_last_model_stand_side_by_side(tmp_path: Path) -> None:
    run_dir = whole_run(tmp_path)
    html, markdown = pages(run_dir, tmp_path)
    (side,) = re.findall(r'<div class="side">.*?</div></div>', html)
    assert re.findall(r"answer: <b>(\w+)</b>", side) == ["right", "wrong", "right"]
    assert "linking-7: 33 % of the pairs agree**, as dpo answered" in markdown


def test_a_remark_that_all_models_share_is_said_once(tmp_path: Path) -> None:
    run = tuned(tmp_path)
    file = tmp_path / run.stages["eval_sft"]["path"] / "results" / "summary.json"
    summary = read_json(file)
    summary["compatibility"]["details"]["remarks"].append("Only of sft.")
    file.write_text(json.dumps(summary))
    found = details(effect(read_run(run.finish(), tmp_path), tmp_path))
    by_suite = {suite["title"]: suite["remarks"] for suite in found}
    assert by_suite["Compatibility"] == [("", "No routing threshold: too few items."), ("sft", "Only of sft.")]


def test_curves_stay_inside_their_boxes() -> None:
    bins: list[dict[str, Any]] = DETAILS["compatibility"]["reliability"]["bins"]
    seen = reliability([*bins, {"confidence": 1.0, "accuracy": 0.0, "n": 3}], start=0.0, unit="items")
    assert all(0 <= value <= 360 for point in seen.points for value in (point.x, *point.bar))
    assert seen.points[-1].low == seen.points[-1].high  # no interval was given
    drawn = risk({"base": [{"coverage": (i + 1) / 1000, "risk": i / 1000} for i in range(1000)]})
    assert drawn is not None and risk({}) is None
    at = [tuple(map(float, point.split(","))) for point in drawn.lines["base"].split()]
    assert len(at) <= 170 and all(0 <= x <= 360 and 0 <= y <= 200 for x, y in at)
    assert at[-1][0] == drawn.xticks[-1][0]  # thinned, and still up to the last point


# -- slices and gates ---------------------------------------------------------------------------------------------
def test_slices_of_a_suite_come_worst_first(tmp_path: Path) -> None:
    run = tuned(tmp_path)
    for model in ("base", "sft"):
        file = tmp_path / run.stages[f"eval_{model}"]["path"] / "results" / "summary.json"
        summary = read_json(file)
        for suite, values in (("refusal", (0.9, 0.2, 0.5)), ("domain_perplexity", (9.0, 30.0, 12.0))):
            named = zip(("a=1", "a=2", "a=3"), values, strict=True)
            summary[suite]["slices"] = {name: {"value": v, "low": v, "high": v, "n": 4} for name, v in named}
        file.write_text(json.dumps(summary))
    rows = {row.name: row.slices for row in effect(read_run(run.finish(), tmp_path), tmp_path).rows}
    assert [part.name for part in rows["Refusal"]] == ["a: 2", "a: 3", "a: 1"]
    assert [part.name for part in rows["Domain perplexity"]] == ["a: 2", "a: 3", "a: 1"]


def test_gates_show_p_its_correction_and_what_they_could_see(tmp_path: Path) -> None:
    for text in pages(whole_run(tmp_path), tmp_path):
        assert "0.012" in text and "0.037 of 3" in text and "7.1 pts" in text and "7.1 %" in text
        assert "too small a suite" in text
    (waiting,) = view(read_run(tuned(tmp_path / "b").finish(), tmp_path / "b"), tmp_path)["gates"]
    assert (waiting["p_told"], waiting["word"]) == ("–", "not judged")


# -- hostile data -------------------------------------------------------------------------------------------------
def test_nothing_of_an_evaluation_can_become_markup(tmp_path: Path) -> None:
    run = tuned(tmp_path)
    for path in tmp_path.rglob("results/*.json"):
        path.write_text(json.dumps(poisoned(json.loads(path.read_text()))))
    stages = {**CONFIG["stages"], "prompt_examples": {"examples": EVIL}}
    run_dir = run.finish(resolved_config={**CONFIG, "stages": stages})
    found = read_json(run_dir / "matrix.json")
    for entry in found["entries"]:
        entry["suite"] += EVIL
        entry["against_base"] = {"stage": EVIL, "reason": EVIL}
    entry["against_input"] = {"stage": EVIL, "change": 1, "low": 0.5, "high": 2}
    (run_dir / "matrix.json").write_text(json.dumps({**found, "caused_by": {entry["suite"]: entry["stage"]}}))
    html, markdown = pages(run_dir, tmp_path)
    assert "<script" not in html and html.count("&lt;script&gt;") > 20
    outside_fences = re.sub(r"^(`{3,})text\n.*?^\1$", "", markdown, flags=re.M | re.S)
    assert "<script" not in outside_fences and "**b**" not in outside_fences and "[c](d)" not in outside_fences


def test_numbers_that_are_no_shares_keep_their_own_scale() -> None:
    assert metric_value("brier", 0.2511) == "0.251" and metric_value("drop", -0.02) == "−2.0 %"
    change = Change(0.0123, -0.001, 0.0256)
    assert change_value("brier", change) == "+0.012" and change_span("brier", change) == "−0.001 to +0.026"
    assert change_value("agreement", change) == "+1.2 pts" and change_value("perplexity", change) == "+1.2 %"
    assert score_word("agreement", 0.5) == "agrees with 50.0 % of the other wordings"
    assert score_word("drop", 1.0) == "lost by the change" and title("ece_scaled") == "ECE scaled"
    assert [p_value(p) for p in (0.0004, 0.0123, None)] == ["< 0.001", "0.012", "–"]
