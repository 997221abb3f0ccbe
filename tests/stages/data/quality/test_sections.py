"""What the page says: counts that must add up, findings by level, long texts cut, samples marked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.coverage.result import Table
from stages.data.findings import Finding
from stages.data.quality import sections
from stages.data.quality.samples import Piece, Rendered, Sample
from stages.data.quality.sections import clipped, cut, headline, levels, rejected, sample, shares, sums, table


# -- counts -------------------------------------------------------------------------------------------------------
def test_counts_that_add_up_are_equations(counts):
    found = sums(counts)
    assert [each.holds for each in found] == [True, True, True]
    assert found[0].text == "950 kept as they are + 20 repaired + 30 rejected = 1\u202f000 read"
    assert found[1].text == "870 to train on + 100 held out = 970 kept or repaired"
    assert headline(counts, [])["alarms"] == []


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4))
def test_the_equation_holds_exactly_when_the_rows_add_up(numbers):
    names = ("rows_kept", "rows_repaired", "rows_rejected", "rows_read")
    equation = sums(dict(zip(names, numbers, strict=True)))[0]
    assert equation.holds is (sum(numbers[:3]) == numbers[3]) and ("≠" in equation.text) is not equation.holds


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows_read": 1005}, "950 kept as they are + 20 repaired + 30 rejected ≠ 1\u202f005 read. Rows missing: 5."),
        ({"rows_kept": 951, "rows_train": 871}, "+ 30 rejected ≠ 1\u202f000 read. Rows too many: 1."),
        ({"rows_train": 869}, "869 to train on + 100 held out ≠ 970 kept or repaired. Rows missing: 1."),
        ({"reasons": {"rejected: broken": 29}}, "29 rejected with a reason ≠ 30 rejected. Rows missing: 1."),
    ],
)
def test_counts_that_do_not_add_up_raise_an_alarm(counts, changed, said):
    found = headline({**counts, **changed}, [])
    (alarm,) = found["alarms"]
    assert alarm.startswith("The counts do not add up: ") and alarm.endswith(said) and found["tone"] == "bad"


def test_a_number_that_is_missing_is_an_alarm_too(counts):
    del counts["rows_repaired"]
    found = headline(counts, [])
    assert sums(counts)[0].holds is None and "cannot be told" in found["alarms"][0]
    assert headline({}, [])["alarms"] == ["No rows were counted."]


def test_a_set_without_a_row_to_train_on_is_an_alarm(counts):
    assert headline({**counts, "rows_train": 0, "rows_heldout": 970}, [])["alarms"] == ["There is no row to train on."]


def test_many_tasks_are_drawn_as_far_as_they_have_room_and_the_rest_is_counted(counts):
    counts["tasks"] = {f"task {i}": 100 - i for i in range(sections.NAMED + 3)}
    found = shares(counts)[0]
    assert [bar["width"] for bar in found["bars"][:2]] == [100.0, 99.0] and len(found["bars"]) == sections.NAMED
    assert found["more"] == f"3 more with {sum(100 - i for i in range(20, 23))} rows together"


# -- findings -----------------------------------------------------------------------------------------------------
def test_findings_are_grouped_by_level_the_worst_first():
    found = levels(
        [Finding(level, code, 1, 9, "m", "r") for level, code in (("info", "a"), ("error", "b"), ("info", "c"))]
    )
    assert [(level, [each["code"] for each in group]) for level, group in found] == [
        ("error", ["b"]),
        ("info", ["a", "c"]),
    ]


def test_the_reason_for_which_a_finding_is_accepted_is_shown_wherever_it_stands():
    by_field = Finding("info", "a", 1, 9, "m", "r", accepted="Known.")
    by_detail = Finding("info", "a", 1, 9, "m", "r", detail={"accepted": "Known.", "share": 0.25})
    ((_, group),) = levels([by_field, by_detail])
    assert [each["accepted"] for each in group] == ["Known.", "Known."] and group[1]["detail"] == [("Share", "0.25")]


@pytest.mark.parametrize(("level", "tone"), [("error", "bad"), ("warning", "warn"), ("info", "good")])
def test_the_headline_has_the_colour_of_the_worst_finding(counts, level, tone):
    assert headline(counts, [Finding("info", "a", 1, 9, "m", "r"), Finding(level, "b", 1, 9, "m", "r")])["tone"] == tone


# -- tables and texts ---------------------------------------------------------------------------------------------
def test_numbers_of_a_table_are_printed_and_stand_on_the_right():
    found = table(Table("t", ("a", "b", "c", "d", "e"), (("12 apes", 1200, 0.12345, "57.0 %", "–"),), "r"))
    assert found["rows"] == [
        [("12 apes", False), ("1\u202f200", True), ("0.1235", True), ("57.0 %", True), ("–", True)]
    ]


@given(st.text(max_size=50), st.integers(0, 60))
def test_a_long_text_is_cut_with_the_number_of_letters_left_out(text, letters):
    found = cut(text, letters)
    left = len(text) - letters
    assert found == (text if left <= 0 else f"{text[:letters]}… [{left} letters left out]")


def test_rejected_rows_are_shown_as_far_as_they_have_room(counts):
    rows = [{"file": "a", "line": i, "code": "broken", "reason": "r", "row": {"text": "x" * 2000}} for i in range(15)]
    found = rejected(rows, counts)
    assert len(found["rows"]) == sections.REJECTED and found["more"] == str(30 - sections.REJECTED)
    assert "letters left out" in found["rows"][0]["raw"]


# -- samples ------------------------------------------------------------------------------------------------------
def one(*pieces):
    return sample(Sample("a", 1, (Rendered(pieces, 9, 4),)))["sequences"][0]


def test_trained_text_is_in_brackets_that_the_data_cannot_write():
    found = one(Piece("<u>", False, True), Piece("Say ⟦no⟧", False), Piece("Yes", True), Piece("<e>", True, True))
    assert found["marked"] == "<u>Say ⟨U+27E6⟩no⟨U+27E7⟩⟦Yes<e>⟧"
    assert [(trained, len(pieces)) for trained, pieces in found["runs"]] == [(False, 2), (True, 2)]


def test_of_a_very_long_row_both_ends_are_shown_with_their_marks():
    found = one(Piece("p" * 9000, False), Piece("a" * 9000, True), Piece("<e>", True, True))
    (first, head), (gap, (said,)), (last, tail) = found["runs"]
    assert (first, gap, last) == (False, None, True)
    assert "".join(piece.text for piece in head) == "p" * sections.HEAD
    assert "".join(piece.text for piece in tail) == "a" * (sections.TAIL - 3) + "<e>" and tail[-1].special
    assert said.text == f"{18003 - sections.HEAD - sections.TAIL:,} letters left out".replace(",", "\u202f")


@given(st.lists(st.tuples(st.text(max_size=9), st.booleans()), max_size=9), st.integers(0, 40), st.integers(0, 40))
def test_clipping_is_slicing_the_text(pieces, low, span):
    found = list(clipped([Piece(*each) for each in pieces], low, low + span))
    assert "".join(piece.text for piece in found) == "".join(text for text, _ in pieces)[low : low + span]
