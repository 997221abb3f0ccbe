"""What a pull request and a CI system are shown."""

from xml.etree import ElementTree

import pytest

from pipeline.retraining.summary import Outcome, for_ci, markdown, plain
from pipeline.retraining.triggers import Trigger

MODEL = {"id": "1" * 16, "attempt": "20261125T101500000000Z-abcdef", "digest": "d", "stage": "dpo", "kind": "dpo"}
GATE = {
    "name": "champion_text", "stage": "dpo", "suite": "text", "rule": "not_worse", "against": "champion", "value": 11.0,
    "other": 10.0, "change": 0.1, "low": 0.05, "high": 0.15, "passed": False, "action": "block", "too_small": False,
    "sentence": "champion_text refused: worse",
}  # fmt: skip


def stage(status, reason="train.beta: 0.1 -> 0.2"):
    return {"status": status, "reason": reason, "seconds": 1.5}


def outcome(verdict="refused", code=3, gates=(GATE,), **stages):
    record = {
        "run_id": "r1", "started": "2026-11-25T10:15:00.000+00:00", "gates": list(gates),
        "stages": {"sft": stage("HIT"), "dpo": stage("BUILT"), **stages},
    }  # fmt: skip
    triggers = [Trigger("data", True, "pairs changed", 1.0, 1.0)]
    return Outcome("legal", verdict, code, ["dpo is refused, the champion stays."], triggers, MODEL, None, record)


# -- Markdown -----------------------------------------------------------------------------------------------------
def test_the_verdict_comes_first_then_why_then_the_numbers():
    text = markdown(outcome())
    places = [
        "## Retraining `legal`: refused, the champion stays",
        "| new model | dpo | `1111111111111111` | 20261125T101500 |",
        "| data | yes | pairs changed |",
        "| ❌ refused | champion\\_text | dpo | text | 11.000 | 10.000 | champion | +0.100 (+0.050 to +0.150) |",
        "| dpo | BUILT | train.beta: 0.1 -&gt; 0.2 | 1.5 s |",
        "1 of 2 artifacts were up to date.",
    ]
    assert [text.index(place) for place in places] == sorted(text.index(place) for place in places)


def test_refused_gates_stand_before_passed_ones():
    passed = {**GATE, "name": "kept", "passed": True}
    text = markdown(outcome(gates=[passed, GATE]))
    assert text.index("champion\\_text") < text.index("| kept |")


def test_a_gate_that_could_not_see_a_loss_says_so():
    small = {**GATE, "passed": True, "too_small": True}
    assert "| ✅ passed, on too few items to see its margin |" in markdown(outcome("promoted", 0, [small]))


def test_numbers_that_do_not_exist_are_left_out():
    """Gates against a champion before there is one, and absolute ones."""
    alone = {**GATE, "passed": True, "other": None, "change": None, "low": None, "high": None}
    bound = {**GATE, "against": None, "rule": "at_least", "other": 9.0}
    text = markdown(outcome("promoted", 0, [alone, bound]))
    assert "| 11.000 |  | champion |  |" in text and "| 11.000 | 9.000 | at\\_least |  |" in text


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "a | b", "[x](javascript:1)", "# title\n# two", "@team", "![x](http://y)"]
)
def test_text_from_data_is_shown_and_does_nothing(hostile):
    shown = plain(hostile)
    assert not any(sign in shown.replace("\\" + sign, "") for sign in "<>|[]#@!")
    assert "\n" not in shown
    line = next(line for line in markdown(outcome(evil=stage("FAILED", hostile))).splitlines() if "| evil |" in line)
    assert line.replace("\\|", "").count("|") == 5, "still one row of the table"


# -- JUnit --------------------------------------------------------------------------------------------------------
def test_stages_promotion_and_gates_are_cases():
    root = for_ci(outcome(eval_dpo=stage("FAILED", "out of memory"), ppo=stage("GATED", "gate x")))
    assert [suite.get("name") for suite in root] == ["retrain", "dpo"]
    words = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert words == {
        "dpo": [], "eval_dpo": ["error"], "ppo": ["skipped"], "promotion": ["failure"], "champion_text": ["failure"],
    }  # fmt: skip
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "2", "errors": "1", "skipped": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "code", "tag"),
    [
        ("promoted", 0, "system-out"), ("refused", 3, "failure"), ("failed", 5, "error"), ("nothing new", 0, "skipped"),
        ("nothing new", 3, "failure"), ("waiting", 0, "skipped"), ("kept", 0, "skipped"),
    ],
)  # fmt: skip
def test_the_case_of_the_promotion_fails_exactly_where_the_command_does(verdict, code, tag):
    root = for_ci(Outcome("legal", verdict, code, ["why"]))
    (case,) = root.iter("testcase")
    assert (case.get("name"), [child.tag for child in case]) == ("promotion", [tag])
    assert (root.get("failures") != "0" or root.get("errors") != "0") == bool(code)


def test_letters_that_xml_cannot_hold_are_left_out():
    root = for_ci(outcome(bad=stage("FAILED", "a\x00b\x1b[31m")))
    assert "ab[31m" in ElementTree.tostring(root, encoding="unicode")
    ElementTree.fromstring(ElementTree.tostring(root))
