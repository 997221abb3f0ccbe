"""The outcome for a pull request (`summary.md`, also in GitHub's step summary) and for CI (`retrain.xml`, JUnit)."""

import html
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pipeline.display import duration
from pipeline.judging.verdicts import ILLEGAL, junit, verdict
from pipeline.manifest import now, write_text
from pipeline.retraining.triggers import Trigger

TITLES = {
    "promoted": "promoted",
    "kept": "the champion stays, and passes",
    "refused": "refused, the champion stays",
    "nothing new": "nothing new",
    "waiting": "no trigger fires",
    "failed": "failed",
}
ICONS = {"passed": "✅", "warned": "⚠️", "refused": "❌", "not judged": "➖"}
BUILT = ("BUILT", "RESUMED", "FAILED", "GATED", "SKIPPED")


@dataclass
class Outcome:
    """How a retraining ended. Models as in `state.State`; `record`: run.json where there was a run."""

    experiment: str
    verdict: str  # a key of TITLES
    code: int
    sentences: list[str]  # what happened, for people
    triggers: list[Trigger] = field(default_factory=list)
    candidate: dict[str, str] | None = None
    champion: dict[str, str] | None = None  # the one that the candidate was compared with
    record: Mapping[str, Any] | None = None

    def json(self) -> dict[str, Any]:
        names = ("experiment", "verdict", "sentences", "candidate", "champion")
        plain = {name: getattr(self, name) for name in names}
        run = None if self.record is None else self.record["run_id"]
        return {**plain, "triggers": [asdict(trigger) for trigger in self.triggers], "run": run, "exit": self.code}

    @property
    def gates(self) -> list[dict[str, Any]]:
        """Judged gates with their verdict."""
        judged = self.record["gates"] if self.record else []
        return [{**entry, "verdict": verdict(entry)} for entry in judged]


def write_outcome(outcome: Outcome, folder: Path) -> Path:
    """summary.md and retrain.xml in `folder`; the summary is added to $GITHUB_STEP_SUMMARY where that is set."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(outcome)
    write_text(folder / "summary.md", text)
    tree = ElementTree.ElementTree(for_ci(outcome))
    ElementTree.indent(tree)
    tree.write(folder / "retrain.xml", encoding="utf-8", xml_declaration=True)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(page, "a", encoding="utf-8") as stream:
            stream.write(text + "\n")
    return folder / "summary.md"


# -- Markdown -----------------------------------------------------------------------------------------------------
def markdown(outcome: Outcome) -> str:
    title = f"## Retraining `{outcome.experiment}`: {TITLES[outcome.verdict]}"
    parts = [title, "\n\n".join(map(plain, outcome.sentences))]
    parts += [_models(outcome), _triggers(outcome.triggers)]
    if outcome.record:
        parts += [_gates(outcome.gates), _stages(outcome.record)]
        parts.append(f"Report, in the store: `runs/{outcome.experiment}/{outcome.record['run_id']}/report.html`")
    return "\n\n".join(part for part in parts if part) + "\n"


def _models(outcome: Outcome) -> str:
    rows = [("champion before", outcome.champion), ("new model", outcome.candidate)]
    found = [(name, made["stage"], f"`{made['id']}`", made["attempt"][:15]) for name, made in rows if made]
    return _table(("", "stage", "id", "built"), found)


def _triggers(triggers: Sequence[Trigger]) -> str:
    return _table(
        ("trigger", "fires", "why"),
        [(trigger.name, "yes" if trigger.fired else "no", plain(trigger.said)) for trigger in triggers],
    )


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    """Refused ones first."""
    order = ["refused", "warned", "not judged", "passed"]
    ranked = sorted(gates, key=lambda gate: order.index(gate["verdict"]))
    rows = [
        (_said(gate), plain(gate["name"]), plain(gate["stage"]), plain(gate["suite"]),
         _number(gate["value"]), _number(gate["other"]), plain(gate["against"] or gate["rule"]), _change(gate))
        for gate in ranked
    ]  # fmt: skip
    return _table(("verdict", "gate", "model", "suite", "value", "asked or other", "of", "change (interval)"), rows)


def _said(gate: Mapping[str, Any]) -> str:
    few = ", on too few items to see its margin" if gate["too_small"] else ""
    return f"{ICONS[gate['verdict']]} {gate['verdict']}{few}"


def _change(gate: Mapping[str, Any]) -> str:
    if gate["against"] is None or gate["change"] is None:
        return ""
    return f"{gate['change']:+.3f} ({gate['low']:+.3f} to {gate['high']:+.3f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _stages(record: Mapping[str, Any]) -> str:
    """What was built, and why; the rest is a count."""
    stages = record["stages"]
    rows = [
        (plain(name), stage["status"], plain(stage["reason"]), duration(stage["seconds"]))
        for name, stage in stages.items()
        if stage["status"] in BUILT
    ]
    same = len(stages) - len(rows)
    return _table(("stage", "status", "why", "took"), rows) + f"\n\n{same} of {len(stages)} artifacts were up to date."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Text that Markdown shows as it is: names and reasons may come from data."""
    escaped = html.escape(ILLEGAL.sub("", str(text)), quote=False)
    return re.sub(r"([\\|*_\[\]~#@!])", r"\\\1", " ".join(escaped.split()))


# -- JUnit --------------------------------------------------------------------------------------------------------
def for_ci(outcome: Outcome) -> ElementTree.Element:
    """<testsuites>: first the retraining itself (a case for each stage that ran, and the promotion), then the gates."""
    started = outcome.record["started"] if outcome.record else now()
    root = junit(outcome.experiment, started, outcome.gates)
    suite = ElementTree.Element("testsuite", {"name": "retrain", "timestamp": started[:19]})
    for name, stage in (outcome.record["stages"] if outcome.record else {}).items():
        if stage["status"] in BUILT:
            _stage_case(suite, outcome.experiment, name, stage)
    _promotion_case(suite, outcome)
    _count(suite, [suite])
    root.insert(0, suite)
    _count(root, root.findall("testsuite"))
    return root


def _stage_case(suite: ElementTree.Element, experiment: str, name: str, stage: Mapping[str, Any]) -> None:
    reason = ILLEGAL.sub("", stage["reason"])
    case = _case(suite, experiment, name, stage["seconds"])
    if stage["status"] == "FAILED":
        ElementTree.SubElement(case, "error", message=reason, type="stage").text = reason
    elif stage["status"] in ("GATED", "SKIPPED"):
        ElementTree.SubElement(case, "skipped", message=reason)


def _promotion_case(suite: ElementTree.Element, outcome: Outcome) -> None:
    text = ILLEGAL.sub("", "\n".join(outcome.sentences))
    case = _case(suite, outcome.experiment, "promotion", 0.0)
    if outcome.verdict in ("refused", "failed") or outcome.code:
        word = "error" if outcome.verdict == "failed" else "failure"
        ElementTree.SubElement(case, word, message=text, type=outcome.verdict).text = text
    elif outcome.verdict == "promoted":
        ElementTree.SubElement(case, "system-out").text = text
    else:
        ElementTree.SubElement(case, "skipped", message=text)


def _case(suite: ElementTree.Element, experiment: str, name: str, seconds: float) -> ElementTree.Element:
    about = {"name": ILLEGAL.sub("", name), "classname": f"{experiment}.retrain", "time": f"{seconds:.3f}"}
    return ElementTree.SubElement(suite, "testcase", about)


def _count(element: ElementTree.Element, suites: Sequence[ElementTree.Element]) -> None:
    cases = [case for suite in suites for case in suite.findall("testcase")]
    element.set("tests", str(len(cases)))
    for key, word in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(key, str(sum(case.find(word) is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")
