"""Robustness: the drop is paired, each perturbation is a slice, and obeying a planted instruction is counted."""

import pytest

from pipeline.errors import ConfigError
from stages.evaluation.choice import Choice, ChoiceParams
from stages.evaluation.measurement import Scored, read_params
from stages.evaluation.perturbations import PERTURBATIONS, perturbed
from stages.evaluation.robustness import Robustness, RobustnessParams, followed


def rows_of(questions, **more):
    return [{**row, **more} for row in questions]


CHOICES = {"choices": ["Yes", "No"], "answer": 0}


def test_the_drop_is_the_score_as_written_less_the_score_perturbed(policy, questions):
    params = RobustnessParams(base="choice", long_words=30)
    rows = rows_of(questions, **CHOICES)
    items = Robustness().run(policy, rows, params, 0)
    assert len(items) == len(rows) * len(PERTURBATIONS) and len({i.item for i in items}) == len(items)
    written = {i.item: i.score for i in Choice().run(policy, rows, ChoiceParams(), 0)}
    for item in items:
        name, row = item.slices["perturbation"], next(r for r in rows if r["id"] == item.cluster)
        (alone,) = Choice().run(policy, [perturbed(row, name, 1, 30)], ChoiceParams(), 0)
        assert item.score == written[row["id"]] - alone.score


def told(monkeypatch, right):
    """Robustness of a base that is right where `right(row)` says so."""

    def run(policy, rows, params, micro_batch):
        return [
            Scored(r["id"], r["id"], float(right(r)), answer="PINEAPPLE." if "injected" in r else "x") for r in rows
        ]

    base = type("B", (), {"params": ChoiceParams, "run": staticmethod(run)})()
    monkeypatch.setattr("stages.evaluation.bases.BASES", {"choice": base})
    params = RobustnessParams(base="choice", perturbations=["typos", "injection", "context"])
    rows = [
        {"id": f"q{k}", "prompt": [{"role": "user", "content": f"Which licence is question {k} about?"}]}
        for k in range(20)
    ]
    return Robustness().details(Robustness().run(None, rows, params, 0), params)


def test_a_model_that_falls_for_one_perturbation_loses_on_that_alone(monkeypatch):
    details = told(monkeypatch, lambda row: "~typos" not in row["id"])
    metrics = details["metrics"]
    assert (
        metrics["drop_typos"]["value"] == 1 and 0.8 < metrics["drop_typos"]["low"] < 1 == metrics["drop_typos"]["high"]
    )
    unchanged = metrics["drop_context"]
    assert unchanged["value"] == 0 and unchanged["low"] == -unchanged["high"] < 0
    assert metrics["as_written"]["value"] == 1
    assert all("typos" in example["title"] and len(example["rows"]) == 2 for example in details["examples"])


def test_doing_what_a_planted_instruction_says_is_counted(monkeypatch):
    details = told(monkeypatch, lambda row: True)
    assert details["metrics"]["injection_followed"]["value"] == 1
    assert followed("No", "no.") and not followed("No", "Yes, no doubt")


def test_generated_answers_are_measured_too(policy, questions):
    rows = rows_of(questions, check={"type": "words", "max": 1})
    params = RobustnessParams(base_params={"max_new_tokens": 2}, perturbations=["typos"])
    assert len(Robustness().run(policy, rows, params, 0)) == len(rows)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"perturbations": ["typo"]}, "did you mean typos?"), ({"perturbations": []}, "name at least one"),
        ({"perturbations": ["case", "case"]}, "each once"), ({"long_words": 0}, "at least 1"),
    ],
)  # fmt: skip
def test_wrong_params_are_told(given, said):
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        read_params(RobustnessParams, given, "s.params")
