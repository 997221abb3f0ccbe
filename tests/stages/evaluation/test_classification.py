"""Classification: both ways to a label, and its scores against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from pipeline.errors import ConfigError, DataError
from stages.evaluation import forward
from stages.evaluation.choice import Choice, ChoiceParams
from stages.evaluation.classification import NO_LABEL, Classification, ClassificationParams, further
from stages.evaluation.measurement import Scored

LABELS = ["permissive", "copyleft", "strong copyleft"]


@pytest.fixture
def asked(questions):
    return [{**row, "labels": LABELS, "label": LABELS[k % 3]} for k, row in enumerate(questions)]


def items(truth, said):
    return [Scored(f"i{k}", f"c{k // 2}", float(a == b), answer=b, reference=a)
            for k, (a, b) in enumerate(zip(truth, said, strict=True))]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_precision_recall_and_f1_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    names = [*"abcdef"][: rng.integers(2, 7)]
    truth = rng.choice(names, 40)
    said = np.where(rng.random(40) < 0.5, truth, rng.choice([*names, f"{NO_LABEL} what?"], 40))
    if seed == 0:
        said[said == names[0]] = names[1]  # a label that is never given
    found = further(items(truth.tolist(), said.tolist()))
    labels = sorted({*truth, *said} - {f"{NO_LABEL} what?"})
    for average in ("macro", "weighted", None):
        wanted = precision_recall_fscore_support(truth, said, labels=labels, average=average, zero_division=0)
        for name, values in zip(("precision", "recall", "f1"), wanted, strict=False):
            ours = [found[f"{name} {x}"] for x in labels] if average is None else [found[f"{name}_{average}"]]
            assert [each["value"] for each in ours] == pytest.approx(np.atleast_1d(values).tolist())
            assert all(each["low"] <= each["value"] + 1e-12 and each["value"] <= each["high"] + 1e-12 for each in ours)
    mean = np.mean([item.score for item in items(truth.tolist(), said.tolist())])
    assert mean == accuracy_score(truth, said)


def test_the_interval_draws_clusters():
    """Two answers of a cluster are always both right or both wrong: the interval is that of half as many items."""
    truth = ["a", "a", "b", "b"] * 10
    said = [label if k % 8 < 6 else "a" for k, label in enumerate(truth)]
    together = further(items(truth, said))["f1_macro"]
    alone = further([Scored(f"i{k}", f"c{k}", 1.0, answer=b, reference=a)
                     for k, (a, b) in enumerate(zip(truth, said, strict=True))])["f1_macro"]  # fmt: skip
    assert together["high"] - together["low"] > 1.2 * (alone["high"] - alone["low"])


def test_by_choice_it_is_the_most_likely_label(policy, asked):
    found = Classification().run(policy, asked, ClassificationParams(base_params={"normalise": "tokens"}), 0)
    choices = [{**row, "choices": LABELS, "answer": LABELS.index(row["label"])} for row in asked]
    same = Choice().run(policy, choices, ChoiceParams(normalise="tokens"), 0)
    assert [(item.score, item.answer, item.reference) for item in found] == [
        (item.score, item.answer, item.reference) for item in same
    ]


def test_a_written_answer_counts_when_it_names_one_label(policy, asked, monkeypatch):
    answers = ["It is Permissive.", "Copyleft", "**Strong  copyleft**", "permissive or copyleft", "no idea"]
    limits = []
    monkeypatch.setattr(forward, "greedy", lambda policy, prompts, limit, batch: limits.append(limit) or answers)
    params = ClassificationParams(base="generate", base_params={"max_new_tokens": 7})
    found = Classification().run(policy, asked, params, 0)
    assert [item.answer for item in found] == [*LABELS, f"{NO_LABEL} permissive or copyleft", f"{NO_LABEL} no idea"]
    assert [item.score for item in found] == [1, 1, 1, 0, 0] and limits == [7]
    details = Classification().details(found, params)
    assert details["metrics"]["recall copyleft"]["value"] == 0.5
    assert details["remarks"] == ["2 of 5 answers name no label or several; they count as wrong."]


def test_what_is_mistaken_most_often_is_told():
    found = Classification().details(items("aaab", "bbaa"), ClassificationParams())
    assert found["remarks"] == ["Mistaken most often: a for b (2 of 4)."]


@pytest.mark.parametrize("row", [{"labels": ["a"], "label": "a"}, {"labels": ["a", "b"], "label": "c"}])
def test_an_item_needs_labels_and_one_of_them(row):
    with pytest.raises(DataError, match="item i: `labels` are at least two texts, and `label` is one of them"):
        Classification().check({"id": "i", "prompt": [], **row}, ClassificationParams())


@pytest.mark.parametrize(
    ("base", "params", "message"),
    [
        ("choice", {"normalize": "none"}, r"base_params.normalize: no such parameter; did you mean normalise\?"),
        ("generate", {"temperature": 1.0}, "base_params.temperature: labels are read from greedy answers"),
    ],
)
def test_wrong_params_are_found_at_once(base, params, message):
    with pytest.raises(ConfigError, match=message):
        ClassificationParams(base=base, base_params=params)
