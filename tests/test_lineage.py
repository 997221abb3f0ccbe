"""What an artifact was made from, as data and as a graph."""

import json
import shutil

import pytest
from store_toys import build

from pipeline.lineage import lineage, mermaid
from pipeline.store import Store


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.prepare()
    return made


@pytest.fixture
def chain(store):
    """base -> first -> second, and a data set that both stages read."""
    base, facts = build(store, 1, "b", stage="base"), build(store, 2, "f", stage="facts")
    first = build(store, 3, "1", {"policy": base.reference(), "data.train": facts.reference()}, "first")
    second = build(store, 4, "2", {"policy": first.reference(), "data.train": facts.reference()}, "second")
    return base, facts, first, second


def test_everything_above_is_there_once(store, chain):
    second = chain[3]
    found = lineage(store, second)
    stages = {key: node["stage"] for key, node in found["nodes"].items()}
    assert sorted(stages.values()) == ["base", "facts", "first", "second"]
    assert stages[found["artifact"]] == "second"
    told = {(stages[edge["from"]], edge["role"], stages[edge["to"]]) for edge in found["edges"]}
    assert told == {
        ("first", "policy", "second"), ("facts", "data.train", "second"), ("base", "policy", "first"),
        ("facts", "data.train", "first"),
    }  # fmt: skip
    assert found["nodes"][found["artifact"]]["digest"] == second.digest and json.dumps(found)


def test_what_is_gone_is_a_reference(store, chain):
    shutil.rmtree(chain[0].path)
    found = lineage(store, chain[3])
    gone = found["nodes"][f"{chain[0].id}/{chain[0].attempt}"]
    assert set(gone) == {"id", "attempt", "digest"} and "no longer in the store" in mermaid(found)


def test_a_graph_has_a_box_for_each_and_an_arrow_for_each_role(store, chain):
    lines = mermaid(lineage(store, chain[3])).splitlines()
    assert lines[0] == "graph TD" and sum("-->" in line for line in lines) == 4
    assert f'  n0["second (toy)<br/>{chain[3].id}"]' in lines and lines[-1] == "  style n0 stroke-width:3px"


def test_names_cannot_become_part_of_the_graph(store):
    made = build(store, 5, "x", stage='"] --> evil["<script>')
    text = mermaid(lineage(store, made))
    assert "<script" not in text and text.count("-->") == 0 and text.count('"') == 2


def test_the_verb(journeyman, project):
    assert journeyman("run", "--until", "first").code == 0
    graph = journeyman("show", "first", "--lineage", "mermaid")
    assert graph.code == 0 and "graph TD" in graph.out and "facts.jsonl" in graph.out
    data = journeyman("show", "first", "--lineage", "json", "--json").json
    assert {node["stage"] for node in data["nodes"].values()} == {"base", "facts", "first"}
    refused = journeyman("show", "--lineage", "json")
    assert refused.code == 2 and "needs a stage" in refused.err
