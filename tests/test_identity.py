"""Ids: the same for equal recipes, another for every difference that could change a result."""

import dataclasses
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.identity import ABSENT, Change, artifact_id, canonical, canonical_json, leaf_diff, payload_of
from pipeline.schema import NOT_IDENTITY, Runtime, StageConfig


@dataclass
class Part:
    r: int = 16
    where: str = field(default="here", metadata=NOT_IDENTITY)


@dataclass
class Config(StageConfig):
    lr: float = 0.5
    train: Dict[str, Any] = field(default_factory=dict)
    parts: List[Part] = field(default_factory=lambda: [Part()])
    part: Part = field(default_factory=Part)
    later: int = field(default=0, metadata={"identity": "non_default"})


def id_of(config: Any = None, version: int = 1, inputs: dict | None = None, data: dict | None = None) -> str:
    return artifact_id(payload_of("toy", version, config or Config(kind="toy"), inputs or {}, data or {}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def test_ids_never_change_by_accident():
    """Golden ids: if these change, every store in the world rebuilds; then raise identity.SCHEMA and say so."""
    config = Config(kind="toy", seed=3, train={"beta": 0.1, "b": [1, 2.5, None, True, "ü"]})
    assert id_of(Config(kind="toy")) == "38a991d3a22d5a1e"
    assert id_of(config, 2, {"policy": "0123456789abcdef"}, {"train": "ffff", "a.jsonl": "00"}) == "8d9876065ca64f81"


@given(st.dictionaries(st.text(), json_values))
def test_order_of_keys_does_not_matter(train):
    shuffled = dict(sorted(train.items(), reverse=True))
    assert id_of(Config(kind="toy", train=train)) == id_of(Config(kind="toy", train=shuffled))


@given(json_values)
def test_canonical_json_survives_a_round_trip(value):
    plain = canonical(value)
    assert canonical(json.loads(canonical_json(plain))) == plain


@given(st.dictionaries(st.text(), json_values), st.dictionaries(st.text(), json_values))
def test_different_values_give_different_ids(one, other):
    same = canonical_json(canonical(one)) == canonical_json(canonical(other))
    assert (id_of(Config(kind="toy", train=one)) == id_of(Config(kind="toy", train=other))) == same


@given(st.builds(Runtime, st.text(), st.integers(), st.integers(), st.integers(), st.integers()))
def test_runtime_never_matters(runtime):
    assert id_of(Config(kind="toy", runtime=runtime)) == id_of()


def test_a_field_that_says_so_stays_out_wherever_it_is():
    assert id_of(Config(kind="toy", part=Part(where="there"), parts=[Part(where="x")])) == id_of()


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"lr": 0.25}, {"train": {"a": 1}}, {"parts": []}, {"part": Part(r=8)}, {"later": 1}]
)
def test_every_other_field_matters(change):
    assert id_of(dataclasses.replace(Config(kind="toy"), **change)) != id_of()


def test_version_inputs_and_data_matter_and_names_do_not():
    assert len({id_of(), id_of(version=2), id_of(inputs={"policy": "a"}), id_of(data={"train": "a"})}) == 4
    named = Config(kind="toy", inputs={"policy": "first"}, data={"train": "facts"})
    renamed = Config(kind="toy", inputs={"policy": "erste"}, data={"train": "fakten"})
    assert id_of(named) == id_of(renamed)


def test_code_counts_only_when_given():
    assert "code" not in payload_of("toy", 1, Config(kind="toy"), {}, {})
    assert payload_of("toy", 1, Config(kind="toy"), {}, {}, {"digest": "a"})["code"] == {"digest": "a"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), len, {1, 2}, b"x", object(), Part])
def test_what_has_no_stable_form_is_refused_with_its_place(bad):
    with pytest.raises(ConfigError, match=r"config\.train\.deep\[1\]"):
        canonical(Config(kind="toy", train={"deep": [0, bad]}))


def test_enums_tuples_and_number_keys_have_a_form():
    class Colour(Enum):
        RED = 1

    assert canonical({"c": Colour.RED, "t": (1, 2), 3: "x"}) == {"c": "RED", "t": [1, 2], "3": "x"}


def test_diff_names_the_leaves():
    old = {"config": {"train": {"beta": 0.1, "gone": 1}, "list": [1]}, "version": 1}
    new = {"config": {"train": {"beta": 0.2, "new": None}, "list": [1, 2]}, "version": 1}
    assert leaf_diff(old, new) == [
        Change("config.list", [1], [1, 2]),
        Change("config.train.beta", 0.1, 0.2),
        Change("config.train.gone", 1, ABSENT),
        Change("config.train.new", ABSENT, None),
    ]
    assert str(Change("beta", 0.1, 0.2)) == "beta: 0.1 -> 0.2"


@given(json_values)
def test_nothing_differs_from_itself(value):
    assert leaf_diff(value, json.loads(json.dumps(value))) == []
