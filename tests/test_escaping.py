"""What stands in data, names, answers and configs can never become markup of a page, whichever page it is.

Each text is put everywhere at once; then the page is read as a browser does, and must have the elements and attributes
that it has without them.
"""

import json
import re
from html.parser import HTMLParser

import pytest
import test_report
from report_fixture import whole_run

from pipeline.report import write_folds, write_report
from pipeline.report.plots import curves

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


@pytest.fixture
def poison(monkeypatch):
    def put(attack, root):
        monkeypatch.setattr(test_report, "EVIL", attack)
        for path in root.rglob("*.json"):
            if path.name != "run.json":
                path.write_text(json.dumps(test_report.poisoned(json.loads(path.read_text()))))

    return put


@pytest.mark.parametrize("attack", [" ".join(ATTACKS), "javascript:alert(1)"])
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
    page = write_report(run, tmp_path)
    assert active(page) == before == [] and links(page) == []
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
