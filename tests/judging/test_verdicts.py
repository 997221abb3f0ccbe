"""gates.json and gates.xml of a run: what machines read about gates."""

import json
from xml.etree import ElementTree

import pytest

from pipeline.judging.verdicts import readable, write_verdicts

GATES = {
    name: {"stage": stage, "suite": "quiz", "rule": "not_worse", "action": action}
    for name, stage, action in (
        ("fine", "sft", "block"), ("bad", "sft", "block"), ("poor", "dpo", "warn"), ("later", "dpo", "block"),
    )
}  # fmt: skip
SENTENCE = 'bad refused: 3 < 4 & "worse" \x1b[31m than `base`\ud800'


@pytest.fixture
def written(tmp_path):
    """The two files of a run in which one gate of each verdict was set: JSON, and the root of the XML."""
    judged = [
        {**GATES["fine"], "name": "fine", "passed": True, "sentence": "fine passed", "low": None},
        {**GATES["bad"], "name": "bad", "passed": False, "sentence": SENTENCE, "low": -0.1},
        {**GATES["poor"], "name": "poor", "passed": False, "sentence": "poor warned", "low": -0.1},
    ]
    times = {"started": "2026-01-31T09:30:00.123+00:00", "finished": "2026-01-31T09:40:00.000+00:00"}
    record = {"experiment": "smoke", "run_id": "r1", "exit": 3, **times, "gates": judged, "stages": {}}
    write_verdicts(tmp_path, record, GATES)
    return json.loads((tmp_path / "gates.json").read_text()), ElementTree.parse(tmp_path / "gates.xml").getroot()


def test_json_has_every_gate_with_its_verdict(written):
    document, _ = written
    assert (document["experiment"], document["run_id"], document["exit"]) == ("smoke", "r1", 3)
    verdicts = {gate["name"]: gate["verdict"] for gate in document["gates"]}
    assert verdicts == {"fine": "passed", "bad": "refused", "poor": "warned", "later": "not judged"}
    assert document["gates"][1]["low"] == -0.1 and document["gates"][3]["suite"] == "quiz"


def test_xml_is_junit(written):
    """The facts of its schema: elements, the attributes that are required, counts that add up."""
    _, root = written
    assert root.tag == "testsuites" and {suite.tag for suite in root} == {"testsuite"}
    for suite in root:
        assert {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"} <= set(suite.keys())
        assert suite.get("timestamp") == "2026-01-31T09:30:00"
        cases = suite.findall("testcase")
        assert len(cases) == len(suite) == int(suite.get("tests"))
        assert len(suite.findall("testcase/failure")) == int(suite.get("failures"))
        assert len(suite.findall("testcase/skipped")) == int(suite.get("skipped"))
        assert all({"name", "classname", "time"} <= set(case.keys()) for case in cases)
        assert {child.tag for case in cases for child in case} <= {"failure", "skipped", "system-out"}
    for count in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(count)) == sum(int(suite.get(count)) for suite in root)


def test_refused_is_a_failure_a_warning_passes_and_says_so(written):
    _, root = written
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert [suite.get("name") for suite in root] == ["sft", "dpo"]
    assert cases["bad"].find("failure").get("type") == "not_worse" and cases["bad"].get("classname") == "smoke.sft"
    assert cases["poor"].find("failure") is None and cases["poor"].find("system-out").text == "poor warned"
    assert cases["fine"].find("system-out").text == "fine passed"
    assert cases["later"].find("skipped") is not None


def test_whatever_a_sentence_says_the_file_can_be_parsed(written):
    _, root = written
    assert root.find(".//failure").text == 'bad refused: 3 < 4 & "worse" [31m than `base`'


@pytest.mark.parametrize(("value", "expected"), [(float("inf"), None), (float("nan"), None), (0.5, 0.5), ("x", "x")])
def test_json_has_no_infinity(value, expected):
    assert readable(value) == expected
