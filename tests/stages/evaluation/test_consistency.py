"""Consistency: agreement by hand, groups kept whole, rewrites counted."""

from dataclasses import replace

import pytest

from pipeline.errors import ConfigError, DataError
from stages.evaluate import limited
from stages.evaluation.choice import ChoiceParams
from stages.evaluation.consistency import Consistency, ConsistencyParams, agree
from stages.evaluation.measurement import Scored, read_params


def user(text):
    return [{"role": "user", "content": text}]


def rows_of(groups, wordings, **more):
    return [
        {"id": f"g{g}w{w}", "cluster": f"g{g}", "prompt": user(f"Wording {w}: what about question {g}?"), **more}
        for g in range(groups)
        for w in range(wordings)
    ]  # fmt: skip


CHOICES = {"choices": ["Yes", "No"], "answer": 0}
BY_CHOICE = ConsistencyParams(base="choice")


def answered(monkeypatch, answers):
    """The base answers as the list says: (answer, right)."""

    def run(policy, rows, params, micro_batch):
        return [
            Scored(r["id"], r["cluster"], float(ok), answer=a, prompt="p")
            for r, (a, ok) in zip(rows, answers, strict=True)
        ]

    monkeypatch.setattr(
        "stages.evaluation.bases.BASES", {"choice": type("B", (), {"params": ChoiceParams, "run": staticmethod(run)})()}
    )
    rows = rows_of(2, 3, **CHOICES)
    params = BY_CHOICE
    items = Consistency().run(None, rows, params, 0)
    return items, Consistency().details(items, params)


def test_the_value_is_the_share_of_pairs_that_agree(monkeypatch):
    """First question: A A B, one pair of three. Second: all right in different words, three of three."""
    items, details = answered(monkeypatch, [("A", 0), ("a.", 0), ("B", 0), ("It is 5", 1), ("5", 1), ("five", 1)])
    assert [i.score for i in items] == [0.5, 0.5, 0, 1, 1, 1] and [i.weight for i in items] == [2] * 6
    assert sum(i.score * i.weight for i in items) / sum(i.weight for i in items) == pytest.approx(4 / 6)
    assert details["metrics"]["groups_all_right"]["value"] == 0.5
    assert details["metrics"]["groups_in_full_agreement"]["value"] == 0.5
    assert details["metrics"]["right"]["value"] == 0.5


def test_the_worst_groups_are_shown_first_side_by_side(monkeypatch):
    _, details = answered(monkeypatch, [("A", 1)] * 3 + [("A", 0), ("B", 0), ("C", 0)])
    first = details["examples"][0]
    assert first["title"].startswith("g1: 0 %") and [row["answer"] for row in first["rows"]] == ["A", "B", "C"]


def test_two_different_wrong_answers_do_not_agree():
    one, other = Scored("a", "g", 0.0, answer="Yes."), Scored("b", "g", 0.0, answer="yes")
    assert agree(one, other) and not agree(one, replace(other, answer="no"))


def test_a_model_is_asked_with_every_wording(policy):
    rows = rows_of(3, 3, **CHOICES)
    items = Consistency().run(policy, rows, BY_CHOICE, 0)
    assert [i.item for i in items] == [r["id"] for r in rows] and {i.cluster for i in items} == {"g0", "g1", "g2"}
    generated = ConsistencyParams(base_params={"max_new_tokens": 2})
    checked = rows_of(2, 3, check={"type": "contains", "all": ["x"]})
    assert len(Consistency().run(policy, checked, generated, 0)) == 6


def test_a_limit_counts_questions_and_keeps_them_whole():
    rows = rows_of(8, 3, **CHOICES)
    taken = limited(Consistency(), rows, BY_CHOICE, 3)
    assert len(taken) == 9 and all(sum(r["cluster"] == t["cluster"] for r in taken) == 3 for t in taken)


def test_a_question_in_fewer_wordings_is_left_out():
    rows = [*rows_of(2, 3, **CHOICES), {**rows_of(1, 1, **CHOICES)[0], "id": "alone", "cluster": "alone"}]
    assert len(Consistency().select(rows, BY_CHOICE)) == 6


def test_rewrites_make_a_group_of_a_single_wording(policy):
    params = ConsistencyParams(base="choice", group="item", rewrites=3)
    rows = Consistency().select(rows_of(2, 1, **CHOICES), params)
    assert [r["id"].split("~")[0] for r in rows] == ["g0w0"] * (len(rows) // 2) + ["g1w0"] * (len(rows) // 2)
    assert len(rows) >= 6
    details = Consistency().details(Consistency().run(policy, rows, params, 0), params)
    assert "made by rule and verified; rejected:" in details["remarks"][1]


def test_what_was_rejected_is_told_with_its_reason(policy):
    row = {**rows_of(1, 1, **CHOICES)[0], "prompt": user("Pick a big or a large box.")}
    params = ConsistencyParams(base="choice", group="item", rewrites=3)
    details = Consistency().details(Consistency().run(policy, Consistency().select([row], params), params, 0), params)
    assert "not reversible: 1" in details["remarks"][1]


def test_wrong_params_are_told_by_their_place():
    for given, said in [
        (
            {"base_params": {"sufix": "."}, "base": "choice"},
            "s.params.base_params.sufix: no such parameter; did you mean suffix?",
        ),
        ({"group": "item"}, "s.params.group=item: an item has no other wordings"),
        ({"base_params": {"temperature": 1.0}}, "compares greedy answers"),
        ({"base": "choices"}, "did you mean choice?"),
    ]:
        with pytest.raises(ConfigError, match=said.replace("?", r"\?").replace("[", r"\[")):
            read_params(ConsistencyParams, given, "s.params")


def test_an_item_without_what_the_base_needs_is_told():
    with pytest.raises(DataError, match="item g0w0 has no check, which base=generate needs"):
        Consistency().check(rows_of(1, 1)[0], ConsistencyParams())
