"""Gates for machines: `gates.json`, and `gates.xml` in the JUnit form that CI systems show as tests."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipeline.manifest import write_json

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0, escaped or not


def write_verdicts(folder: Path, record: Mapping[str, Any], gates: Mapping[str, Mapping[str, Any]]) -> None:
    """Both files of a run. `record`: its run.json; `gates`: those of the experiment, judged or not."""
    judged = {entry["name"]: entry for entry in record["gates"]}
    waiting = [
        {"name": name, "stage": gate["stage"], "suite": gate["suite"], "rule": gate["rule"], "action": gate["action"]}
        for name, gate in gates.items()
        if name not in judged
    ]
    entries = [{**entry, "verdict": verdict(entry)} for entry in (*judged.values(), *waiting)]
    known = {key: record[key] for key in ("experiment", "run_id", "exit", "started", "finished")}
    write_json(folder / "gates.json", {**known, "gates": entries})
    tree = ElementTree.ElementTree(junit(record["experiment"], record["started"], entries))
    ElementTree.indent(tree)
    tree.write(folder / "gates.xml", encoding="utf-8", xml_declaration=True)


def verdict(entry: Mapping[str, Any]) -> str:
    """passed | warned | refused | not judged."""
    if "passed" not in entry:
        return "not judged"
    return "passed" if entry["passed"] else "refused" if entry["action"] == "block" else "warned"


def junit(experiment: str, started: str, entries: Sequence[Mapping[str, Any]]) -> ElementTree.Element:
    """<testsuites> with one <testsuite> for each stage and one <testcase> for each gate.

    Refused is a failure, not judged is skipped, a warning has passed and says so in <system-out>.
    """
    root = ElementTree.Element("testsuites", {"name": _text(experiment), **_counts(entries)})
    for stage in dict.fromkeys(entry["stage"] for entry in entries):
        own = [entry for entry in entries if entry["stage"] == stage]
        about = {"name": _text(stage), "timestamp": started[:19], **_counts(own)}
        suite = ElementTree.SubElement(root, "testsuite", about)
        for entry in own:
            _case(suite, f"{experiment}.{stage}", entry)
    return root


def _counts(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    words = [entry["verdict"] for entry in entries]
    found = {"tests": len(words), "failures": words.count("refused"), "errors": 0, "skipped": words.count("not judged")}
    return {**{key: str(value) for key, value in found.items()}, "time": "0"}


def _case(suite: ElementTree.Element, owner: str, entry: Mapping[str, Any]) -> None:
    case = ElementTree.SubElement(suite, "testcase", name=_text(entry["name"]), classname=_text(owner), time="0")
    sentence = _text(entry.get("sentence", ""))
    if entry["verdict"] == "refused":
        ElementTree.SubElement(case, "failure", message=sentence, type=entry["rule"]).text = sentence
    elif entry["verdict"] == "not judged":
        ElementTree.SubElement(case, "skipped", message="the run did not get that far")
    else:
        ElementTree.SubElement(case, "system-out").text = sentence


def _text(value: str) -> str:
    return ILLEGAL.sub("", value)


def readable(value: Any) -> Any:
    """JSON has no infinity: the change against a zero, for example."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
