"""What stands in data, names, answers and configs can never become markup of a page, whichever page it is.

Each text is put everywhere at once; then the page is read as a browser does, and must have the elements and attributes
that it has without them.
"""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pytest
import test_report
from pyarrow import parquet
from report_fixture import FakeRun, rewards, whole_run

from pipeline.compare import Comparison, find
from pipeline.report import write_comparison, write_diagnosis, write_folds, write_report
from pipeline.report.plots import curves
from pipeline.store import Store
from pipeline.sweeps.response import Point, Response

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "</text></svg><svg onload=alert(1)>",
    "</style><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{ 7 * 191 }}{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "]]><script>alert(1)</script><!--",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]


ALL = [" ".join(ATTACKS), "javascript:alert(1)"]  # for pages that take their time
FENCED = re.compile(r"^(`{3,})text\n.*?^\1$", re.M | re.S)


class Elements(HTMLParser):
    """What a browser would act on."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.active = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag in (
            "script",
            "iframe",
            "object",
            "embed",
            "img",
            "link",
            "base",
            "form",
            "input",
            "meta",
            "foreignobject",
        ):
            self.active.append((tag, "" if tag != "meta" else dict(attrs).get("http-equiv") or ""))
        for name, value in attrs:
            if name.startswith("on") or (name in ("href", "src", "xlink:href") and not (value or "").startswith("#")):
                self.active.append((tag, name))


def active(page):
    """Elements and attributes that act, without the one that names the encoding and links to files beside the page."""
    found = Elements(page.read_text()).active
    return [entry for entry in found if entry not in (("meta", ""), ("a", "href"))]


def links(page):
    return [link for link in re.findall(r'href="([^"]*)"', page.read_text()) if ":" in link and link[0] != "#"]


def tags(markdown):
    """Names of the elements of a Markdown page, without what stands in code blocks."""
    return set(re.findall(r"<\s*/?\s*([a-zA-Z]\w*)", FENCED.sub("", markdown.read_text())))


@pytest.fixture
def poison(monkeypatch):
    def put(attack, root):
        monkeypatch.setattr(test_report, "EVIL", attack)
        for path in root.rglob("*.json"):
            if path.name != "run.json":
                path.write_text(json.dumps(test_report.poisoned(json.loads(path.read_text()))))
        for path in root.rglob("items.parquet"):
            rows = parquet.read_table(path).to_pylist()
            texts = {"prompt": attack, "answer": attack, "reference": attack, "slices": json.dumps({attack: attack})}
            parquet.write_table(pa.Table.from_pylist([{**row, **texts} for row in rows]), path)

    return put


@pytest.mark.parametrize("attack", ALL)
def test_the_report_of_a_run(tmp_path, poison, attack):
    run = whole_run(tmp_path)
    before = active(write_report(run, tmp_path))
    poison(attack, tmp_path)
    record = json.loads((run / "run.json").read_text())
    record |= {"experiment": attack, "overrides": [attack], "run_id": attack}
    record["resolved_config"] |= {"description": attack, "model": {"source": attack}}
    record["gates"] = [{**gate, "gate": attack, "suite": attack, "sentence": attack} for gate in record["gates"]]
    for entry in record["stages"].values():
        entry["reason"] = attack
    (run / "run.json").write_text(json.dumps(record))
    known = tags(run / "report.md")
    page = write_report(run, tmp_path)
    assert active(page) == before == [] and links(page) == [] and tags(run / "report.md") <= known
    assert "1337" not in page.read_text() and "1337" not in (run / "report.md").read_text()


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_summary_of_folds(tmp_path, attack):
    numbers = {"values": [0.5, 0.7], "mean": 0.6, "sd": 0.1, "min": 0.5, "max": 0.7, "n": 2, "same": False}
    fold = {"fold": attack, "exit": 3, "run": attack, "reason": attack, "seconds": 1.0}
    summary = {
        "experiment": attack, "overrides": [attack], "sets": {attack: 2}, "exit": 3, "finished": 2,
        "folds": [fold, fold], "losses": [{"stage": attack, **numbers}],
        "suites": [{"model": attack, "suite": attack, "metric": attack, "higher_is_better": True, **numbers}],
        "gates": [{"name": attack, "passed": 1, "judged": 2, "values": [False, True], "suite": attack, "rule": attack,
                   "stage": attack, "action": "block"}],
    }  # fmt: skip
    page, _ = write_folds(summary, tmp_path)
    assert active(page) == [] and links(page) == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_labels_of_curves(tmp_path, attack):
    history = [{"step": step, "loss": 1.0 / step, attack: 0.1 * step} for step in range(1, 9)]
    (tmp_path / "plot.html").write_text("".join(str(plot) for plot in curves(history)))
    assert active(tmp_path / "plot.html") == []


@pytest.mark.parametrize("attack", ALL)
def test_models_side_by_side_with_response_curves(tmp_path, attack):
    """Names of models, suites, metrics and experiments, reasons, keys and values of a sweep."""
    run = whole_run(tmp_path)
    found = find(f"{run}:sft", Store(tmp_path))
    record = {"experiment": attack, "run_id": attack, "overrides": [f"{attack}={attack}"], "seconds": 1.0}
    models = [replace(found, name=attack, run=record), replace(found, name=f"other {attack}", run=record)]
    summary = {**found.summary["refusal"], "metric": attack, "baselines": {attack: 0.5}}
    values = [[attack, "other"], ["0.1", "0.2"]]
    curves = [Response(attack, attack, [Point(value, 0.5, 0.4, 0.6, [0.5, 0.55]) for value in pair]) for pair in values]
    page = tmp_path / "compare.html"
    write_comparison(Comparison(models, {attack: [(summary, None), (summary, attack)]}), attack, page, curves)
    assert "over" in page.read_text() and active(page) == [] and links(page) == []


@pytest.mark.parametrize("attack", ALL)
def test_the_diagnosis_of_a_stage(tmp_path, attack):
    """Names of slices, sets and suites, prompts, answers, training rows, sentences."""
    run = whole_run(tmp_path)
    rate = {"value": 0.5, "low": 0.4, "high": 0.6}
    curve = {"rates": [{**rate, "share": share} for share in (0.25, 0.5, 1.0)], "next": {**rate, "share": 2.0}}
    example = {
        "prompt": attack, "answer": attack, "reference": attack,
        "nearest": {"set": attack, "prompt": attack, "answer": attack},
    }  # fmt: skip
    slices = [
        {"name": attack, "kind": kind, "items": 40, "failure_rate": rate, "excess": {"value": 0.2, "p": 0.001},
         "verdict": verdict, "sentence": attack, "examples": [example], "curve": curve if kind == "all" else None}
        for kind in ("all", "declared", "discovered") for verdict in ("labels disagree here", attack)
    ]  # fmt: skip
    found = {
        "stage": attack, "sets": {attack: 100}, "suites": [{"suite": attack, "slices": slices}],
        "curve": {"why_not": attack},
    }  # fmt: skip
    write_report(run, tmp_path)
    known = tags(run / "report.md")
    (run / "diagnosis.json").write_text(json.dumps(found))
    write_diagnosis(found, run, tmp_path)
    page = run / "report.html"
    assert "Diagnosis: more data" in page.read_text() and active(page) == [] and links(page) == []
    assert tags(run / "report.md") <= known | {"details", "summary"}


@pytest.mark.parametrize("attack", ALL)
def test_reward_models_and_what_was_learnt_from_them(tmp_path, attack):
    """Names of annotators, slices, alarms and terms of a reward, prompts and answers."""
    share = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}
    part = {"low": 0.5, "high": 0.6, "n": 50, "confidence": 0.55, "accuracy": 0.8, "interval": [0.7, 0.9]}
    summary = {
        "accuracy": {**share, "slices": {f"{attack}={attack}": share}}, "calibration": {"ece": 0.1, "brier": 0.2,
        "bins": [part]}, "length_correlation": 0.1, "spread": 0.1, "members": 2, "pairs": 50, "tied": 0,
    }  # fmt: skip
    run = FakeRun(tmp_path)
    run.artifact("base", "base", "model", 9.2)
    alarm = {"name": attack, "detail": attack}
    scale = {"answers": attack, "count": 64, "members": [{"mean": 0.0, "scale": 1.0}]}
    annotators = {attack: {"votes": 10, "right": 0.5}}
    judge = run.artifact("judge", "reward", "reward", 60.0, normalisation=scale, alarms=[alarm], annotators=annotators)
    (judge / "results").mkdir()
    (judge / "results" / "summary.json").write_text(json.dumps(summary))
    learnt = run.reinforced(alarms=[alarm])
    history = [{**row, f"reward/{attack}": row["reward"] + at} for at, row in enumerate(rewards(20))]
    said = [{"update": at, "prompt": attack, "answer": attack, "reward": 0.1} for at in range(4)]
    for name, rows in (("history", history), ("samples", said)):
        (learnt / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = run.finish()
    page = write_report(folder, tmp_path)
    assert "Reward models" in page.read_text() and active(page) == [] and links(page) == []
    assert tags(folder / "report.md") <= {"details", "summary", "br"}
