"""Rows as the checks see them: what is told of each by itself is told once, in one process or in several."""

import os

from contract_scopes import chat, scope_of

from stages.data import processes
from stages.data.contract import view
from stages.data.contract.duplicates import content_keys, echoes
from stages.data.contract.structure import problem

ROWS = [chat(f"What is {i}?", f"It is {i % 3}.") for i in range(20)]


def process(items, scope):
    return [(os.getpid(), item.index, len(scope.rows)) for item in items]


def test_all_cores_tell_the_same_in_the_same_order(monkeypatch):
    alone = scope_of("sft", ROWS)
    monkeypatch.setattr(view, "PART", 3)
    monkeypatch.setattr(view, "ALONE", 0)
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: {0, 1})
    shared = scope_of("sft", ROWS)
    shared.read_ahead([content_keys, echoes])
    assert shared.each(content_keys) == alone.each(content_keys) and shared.each(echoes) == [False] * 20
    told = shared.each(process)
    assert [index for _, index, _ in told] == list(range(20)) and {rows for *_, rows in told} == {0}
    assert len({number for number, *_ in told} - {os.getpid()}) == 2


def test_rows_that_do_not_fit_are_told_of_and_not_read():
    scope = scope_of("sft", [ROWS[0], {"text": "A document."}, ROWS[1]])
    assert [bool(each) for each in scope.problems] == [False, True, False]
    assert scope.problems[1] == problem({"text": "A document."}, "sft")
    assert [index for _, index, _ in scope.each(process)] == [0, 2]
