"""`eval diagnose` from the command line: what it trains, what it leaves alone, what it writes, and its mistakes."""

import json
import random
from types import SimpleNamespace

import pytest

import pipeline.registry as registry

EXPERIMENT = """# @package _global_
defaults:
  - override /tracker: none
  - override /contract: null
  - _self_
name: learn
budget: none
model: {source: toy}
data:
  lessons: {format: chat, files: [lessons.jsonl]}
  quiz: {format: choice, files: [quiz.jsonl], keep: [topic]}
stages:
  first: {kind: learner, inputs: {policy: base}, data: {train: lessons}}
eval:
  suites:
    quiz: {measure: choice, data: quiz}
"""
TOPICS = ("harbour", "library", "brewery", "tannery")
TRAYS = ("left", "right")


def sentence(rng: random.Random, topic: str, tray: str) -> str:
    things = [f"{topic}{tray}{rng.randrange(6)}" for _ in range(3)]
    return f"the {topic} wrote about {' and '.join(things)} so which tray"


def write(folder, taught):
    """Held-out questions of all topics, training rows of those that are `taught`."""
    rng = random.Random(7)
    lessons = [(rng.choice(taught), rng.choice(TRAYS)) for _ in range(240)]
    rows = [
        {"messages": [{"role": "user", "content": sentence(rng, *one)}, {"role": "assistant", "content": one[1]}]}
        for one in lessons
    ]
    asked = [(topic, tray) for topic in TOPICS for tray in TRAYS for _ in range(12)]
    quiz = [
        {"id": f"q{i}", "prompt": [{"role": "user", "content": sentence(rng, *one)}], "choices": list(TRAYS),
         "answer": TRAYS.index(one[1]), "topic": one[0]}
        for i, one in enumerate(asked)
    ]  # fmt: skip
    for name, made in (("lessons", rows), ("quiz", quiz)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))


@pytest.fixture
def journeyman(tmp_path, monkeypatch, capfd):
    """The command where no training row is about the tannery: .call(...) -> .code, .out, .err, .json; .runs."""
    monkeypatch.setattr(registry, "_kinds", {})
    import learner_stages as toys

    from pipeline.cli import main
    from stages.prepare import Prepare, PrepareConfig

    kinds = {
        "base": (toys.StartConfig, toys.Start),
        "prepare": (PrepareConfig, Prepare),
        "learner": (toys.LearnerConfig, toys.Learner),
        "evaluate": (toys.LearnerEvaluateConfig, toys.LearnerEvaluate),
    }
    monkeypatch.setattr(registry, "_kinds", {name: registry.Kind(name, *both) for name, both in kinds.items()})
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "learn.yaml").write_text(EXPERIMENT)
    write(tmp_path, TOPICS[:3])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNEYMAN_STORE", str(tmp_path / "store"))

    def call(*words):
        code = main([words[0], *words[1:], "experiment=learn"])
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, json=json.loads(out) if "--json" in words else None)

    return SimpleNamespace(call=call, runs=tmp_path / "store" / "runs")


@pytest.fixture
def trained(journeyman):
    assert journeyman.call("run").code == 0
    return journeyman


def slices_of(document, kind="declared"):
    return {one["name"]: one for one in document["suites"][0]["slices"] if one["kind"] == kind}


def test_the_slice_without_rows_is_named_and_the_curve_is_trained_on_shares_of_the_data(trained):
    latest = (trained.runs / "learn" / "latest").resolve()
    answer = trained.call("eval", "diagnose", "first", "--json")
    assert answer.code == 0 and (trained.runs / "learn" / "latest").resolve() == latest
    assert "needs models trained on less data" in answer.err and "BUILD   lessons-25" in answer.err
    found = slices_of(answer.json)
    assert found["topic=tannery"]["verdict"] == "this slice is missing from the data"
    assert found["topic=tannery"]["training"]["rows_near"] == 0 < found["topic=library"]["training"]["rows_near"]
    rest = {one["verdict"] for name, one in found.items() if name != "topic=tannery"}
    assert rest <= {"no verdict", "too few items to tell"}
    points = answer.json["curve"]["points"]
    assert [point["asked"] for point in points] == [0.25, 0.5, 1.0]
    assert [point["share"] for point in points] == pytest.approx([0.25, 0.5, 1.0], abs=0.01)
    rates = found["topic=library"]["curve"]["rates"]
    assert [rate["share"] for rate in rates] == [point["share"] for point in points]
    assert rates[0]["value"] > rates[2]["value"]
    assert json.loads((latest / "diagnosis.json").read_text()) == answer.json
    assert "topic=tannery" in (latest / "report.html").read_text()
    assert "this slice is missing from the data" in (latest / "report.md").read_text()

    again = trained.call("eval", "diagnose")  # the last stage, from what is in the store
    assert again.code == 0 and "needs models" not in again.out
    assert "topic=tannery: this slice is missing from the data" in again.out
    assert len(list((trained.runs / "learn-curve").glob("2*"))) == 2


def test_without_training_it_says_what_the_curve_lacks_and_still_names_the_slice(trained):
    answer = trained.call("eval", "diagnose", "--no-training")
    assert answer.code == 0 and "not trained, so not on the learning curve: 25 % and 50 % of the data" in answer.out
    assert not (trained.runs / "learn-curve").exists()
    assert "no learning curve: no model was trained on less data" in answer.out
    assert "topic=tannery: this slice is missing from the data" in answer.out


def test_a_stage_that_does_not_use_its_data_up_has_no_curve(journeyman):
    journeyman.call("run", "+stages.first.most=50")
    answer = journeyman.call("eval", "diagnose", "+stages.first.most=50", "--json")
    assert "reads no more rows of all its data than of 25 % of it" in answer.json["curve"]["why_not"]
    assert slices_of(answer.json)["topic=library"]["curve"] is None


def test_what_is_not_built_is_not_diagnosed(journeyman):
    answer = journeyman.call("eval", "diagnose")
    assert answer.code == 2 and "first is not built and measured" in answer.err and "journeyman run" in answer.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["diagnose", "frist"], "no stage 'frist' (did you mean 'first'?)"),
        (["diagnose", "base"], "diagnose a stage that is trained and measured: first"),
        (["explain"], "eval diagnose experiment=NAME [STAGE]"),
    ],
)
def test_a_mistake_is_one_sentence(journeyman, words, says):
    answer = journeyman.call("eval", *words)
    assert answer.code == 2 and says in answer.err
