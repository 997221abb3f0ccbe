"""The diagnosis in words: what is said first, what is not said twice, how numbers read."""

import json
from types import SimpleNamespace

import pytest

from pipeline.report.diagnosis import diagnosis, lines, worded

MISSING, LABELS, MORE = "this slice is missing from the data", "labels disagree here", "more of the same helps"
CURVE = {
    "rates": [{"share": share, "value": rate, "low": rate - 0.1, "high": rate + 0.1} for share, rate in
              ((0.25, 0.6), (0.5, 0.5), (1.0, 0.4))],
    "next": {"value": 0.35, "low": 0.3, "high": 0.4}, "gain": {"value": 0.05, "low": 0.01, "high": 0.1},
}  # fmt: skip


def part(name, verdict="no verdict", p=0.5, kind="declared", curve=None, excess=0.125):
    away = None if kind == "all" else {"value": excess, "low": excess - 0.1, "high": excess + 0.1, "p": p}
    return {
        "name": name, "kind": kind, "items": 1200, "failure_rate": {"value": 0.25, "low": 0.2, "high": 0.301},
        "excess": away, "verdict": verdict, "sentence": f"Why {name}.", "examples": [], "curve": curve,
    }  # fmt: skip


@pytest.fixture
def found():
    """found(slices ...) -> a diagnosis of the suite `short_quiz` with these slices after the whole."""

    def make(*slices, whole="no verdict", curve=None, why_not=""):
        everything = part("all of short_quiz", whole, kind="all", curve=curve)
        return {
            "stage": "sft", "sets": {"chat": 12345}, "curve": {"points": [], "why_not": why_not},
            "suites": [{"suite": "short_quiz", "slices": [everything, *slices]}],
        }  # fmt: skip

    return make


def names(rows):
    return [row.name for row in rows]


def test_a_row_has_its_numbers_in_words(found):
    (row,) = worded(found(part("topic=tea", MISSING, p=0.001))).findings
    assert (row.suite, row.name, row.kind) == ("Short quiz", "topic=tea", "declared slice")
    assert (row.size, row.rate, row.span, row.excess) == ("1\u202f200", "25.0 %", "20.0 to 30.1 %", "+12.5 pts")
    assert (row.verdict, row.sentence, row.tone) == (MISSING, "Why topic=tea.", "bad")


def test_what_to_add_or_check_comes_before_more_data_and_before_what_has_no_cause(found):
    seen = worded(found(part("a", p=0.01), part("b", MORE), part("c", LABELS), part("d", MISSING), part("e")))
    assert names(seen.findings) == ["c", "d", "b", "a"]
    assert names(seen.others) == ["all items", "e"]


def test_a_slice_without_a_cause_is_a_finding_only_if_it_clearly_fails_more(found):
    seen = worded(found(part("clear", p=0.049), part("luck", p=0.05), part("few", "too few items to tell")))
    assert names(seen.findings) == ["clear"] and seen.findings[0].tone == ""


def test_where_more_data_helps_the_whole_suite_it_is_said_once(found):
    seen = worded(found(part("a", MORE), part("b", MISSING), part("c", MORE), whole=MORE))
    assert names(seen.findings) == ["b", "all items"]
    assert names(seen.others) == ["a", "c"]


def test_the_summary_counts_verdicts(found):
    seen = worded(found(part("a", MORE), part("b", MISSING), part("c", MISSING), part("d", "too few items to tell")))
    assert seen.summary == f"5 slices: {MISSING}: 2; {MORE}: 1; without a cause: 2."
    assert seen.sets == [("chat", "12\u202f345")]


def test_each_suite_with_a_curve_has_a_plot_of_its_whole(found):
    assert worded(found()).curves == []
    ((name, plot),) = worded(found(part("a", curve=CURVE), curve=CURVE)).curves
    assert name == "Short quiz" and plot is not None


def test_the_terminal_has_two_lines_for_a_finding_and_one_for_the_rest(found):
    said = lines(found(part("topic=tea", MISSING), part("b"), part("c", "too few items to tell"), why_not="no points"))
    assert said == [
        f"sft: 4 slices: {MISSING}: 1; without a cause: 3.",
        "no learning curve: no points",
        f"  Short quiz / topic=tea: {MISSING}",
        "      1\u202f200 items, fails 25.0 % (20.0 to 30.1 %), +12.5 pts against the rest; Why topic=tea.",
        "  other slices, in diagnosis.json: no verdict: 2, too few items to tell: 1",
    ]


def test_a_whole_suite_is_not_held_against_a_rest(found):
    said = lines(found(whole=MORE, curve=CURVE))
    assert said[-1] == "      1\u202f200 items, fails 25.0 % (20.0 to 30.1 %); Why all of short_quiz."
    assert not any(line.startswith("no learning curve") or "other slices" in line for line in said)


def test_a_run_that_nobody_diagnosed_has_no_section(tmp_path, found):
    run = SimpleNamespace(folder=tmp_path)
    assert diagnosis(run) is None
    (tmp_path / "diagnosis.json").write_text(json.dumps(found(part("a", MISSING))))
    assert names(diagnosis(run).findings) == ["a"]
