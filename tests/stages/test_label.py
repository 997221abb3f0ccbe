"""`label`: what a policy writes is compared by rules or by people, and becomes pairs for a reward model."""

import json

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.registry import kind
from pipeline.schema import Runtime
from stages.data import artifact
from stages.data.rows import CONTROL
from stages.kernels.rollout import Answer
from stages.label import _read
from stages.rl.config import Rollouts

LONGER = {"long": {"kind": "length", "target": 30}}


@pytest.fixture
def asked(bench, rows):
    return bench.data(
        "asked", [{"id": r["id"], "prompt": r["prompt"], "cluster": f"c{r['id']}"} for r in rows.pairs(8)]
    )


@pytest.fixture
def labelled(bench, sft, asked):
    """labelled(**settings) -> the data set that the policy's answers become."""

    def make(**settings):
        usual = {
            "kind": "label", "inputs": {"policy": "sft"}, "data": {"train": "asked"}, "count": 6,
            "runtime": Runtime(threads=1, device="cpu"), "rollout": Rollouts(max_new_tokens=8, samples=3),
        }  # fmt: skip
        config = kind("label").config(**{**usual, **settings})
        kind("label").stage().validate(config)
        return bench.run(bench.context("labels", config, {"policy": sft.artifact}, {"train": asked}))

    return make


def test_the_rule_decides_and_rows_stay_in_the_group_of_their_prompt(labelled, asked):
    made = labelled(by="terms", terms=LONGER)
    rows = artifact.rows(made.artifact)
    prompts = {json.dumps(row["prompt"]): row["cluster"] for row in artifact.rows(asked)}
    assert rows and made.metrics["pairs"] == len(rows)
    for row in rows:
        assert len(row["chosen"].split()) > len(row["rejected"].split())
        assert row["cluster"] == prompts[json.dumps(row["prompt"])] and row["origin"]["file"] == "labels"
    counts = made.sections["data"]
    assert counts["rows_read"] == counts["rows_kept"] + counts["rows_repaired"] + counts["rows_rejected"] == 6
    assert counts == json.loads((made.artifact.path / "quality.json").read_text())


def test_a_rule_sees_tokens_as_they_were_written_and_weights_count(labelled, monkeypatch):
    """Answers of 5 and of 2 tokens, the end included; an empty one is none."""

    def rollout(policy, prompts, sampling, micro_batch):
        return [Answer(ids, [], end=2) for _ in prompts for ids in ([], [9, 10, 11, 12], [13])]

    monkeypatch.setattr("stages.kernels.rollout.rollout", rollout)
    terms = {
        "many": {"kind": "length", "target": 5, "unit": "tokens"},
        "few": {"kind": "length", "target": 2, "unit": "tokens"},
    }
    rows = [artifact.rows(labelled(terms=terms, weights=weights).artifact) for weights in ({"few": 0}, {"many": 0})]
    assert len(rows[0]) == len(rows[1]) == 6
    for many, few in zip(*rows, strict=True):
        assert (many["chosen"], many["rejected"]) == (few["rejected"], few["chosen"])


def test_an_answer_that_was_cut_is_no_finished_one(labelled):
    ended = {"ended": {"kind": "format", "check": {"type": "words", "min": 0}, "finished": True}}
    with pytest.raises(DataError, match=r"no answer was preferred to another \([1-6] ties, \d prompts"):
        labelled(terms=ended, rollout=Rollouts(max_new_tokens=1, samples=3))


def test_the_same_seed_asks_the_same(labelled):
    one, other = (artifact.rows(labelled(terms=LONGER, seed=3).artifact) for _ in range(2))
    assert one == other
    assert one != artifact.rows(labelled(terms=LONGER, seed=4).artifact)


def test_people_are_asked_through_a_file(labelled, tmp_path, capsys):
    file = tmp_path / "labels" / "round1.jsonl"
    with pytest.raises(DataError, match=r"(\d) of \1 pairs wait for a label; they are in .*round1.jsonl.ask.jsonl"):
        labelled(by="file", file=str(file))
    waiting = [json.loads(line) for line in (tmp_path / "labels" / "round1.jsonl.ask.jsonl").read_text().splitlines()]
    assert waiting and all(pair["a"] != pair["b"] for pair in waiting)
    said = ["a", "b", "tie"]
    verdicts = {pair["id"]: said[i % 3] for i, pair in enumerate(waiting)}
    lines = [json.dumps({"id": name, "prefers": prefers}) for name, prefers in verdicts.items()]
    file.write_text("\n".join(lines[1:]))
    with pytest.raises(DataError, match=r"1 of \d pairs wait"):
        labelled(by="file", file=str(file))
    file.write_text("\n".join([*lines, json.dumps({"id": "of another policy", "prefers": "a"})]))
    made = labelled(by="file", file=str(file))
    assert "1 labels in" in capsys.readouterr().err
    rows = {row["id"].removeprefix("labels-"): row for row in artifact.rows(made.artifact)}
    assert rows.keys() == {name for name, prefers in verdicts.items() if prefers != "tie"}
    for pair in waiting:
        if (prefers := verdicts[pair["id"]]) != "tie":
            assert rows[pair["id"]]["chosen"] == CONTROL.sub("", pair[prefers])
    ties = [json.loads(line) for line in (made.artifact.path / "rejected.jsonl").read_text().splitlines()]
    assert {row["code"] for row in ties} == {"tie"} and len(ties) + len(rows) == len(waiting)


def test_labels_may_repeat_a_line_and_what_was_asked(tmp_path):
    """An editor's mark at the start, and an answer whose own text has an end of line of another kind."""
    file = tmp_path / "labels.jsonl"
    line = json.dumps({"id": "x", "a": "one\u2028two", "b": "three", "prefers": "b"}, ensure_ascii=False)
    file.write_text(f"{line}\r\n\n{line}\n", encoding="utf-8-sig")
    assert _read(file) == {"x": "b"}


def test_labels_that_are_no_text_are_told(labelled, tmp_path):
    file = tmp_path / "labels.jsonl"
    file.write_bytes(b'{"id": "\xff", "prefers": "a"}')
    with pytest.raises(DataError, match=r"labels.jsonl: byte 8 is not UTF-8"):
        labelled(by="file", file=str(file))


def test_a_row_that_no_rule_can_label_is_told_before_anything_is_written(labelled, monkeypatch):
    monkeypatch.setattr("stages.kernels.rollout.rollout", None)
    with pytest.raises(DataError, match=r"reward term right: row p[0-9]: no `check`"):
        labelled(terms={"right": {"kind": "checker"}})


def test_labels_are_part_of_the_identity(tmp_path):
    file = tmp_path / "labels.jsonl"
    stage, config = kind("label").stage(), kind("label").config(kind="label", by="file", file=str(file))
    found = [stage.fingerprints(config)]
    for text in ('{"id": "x", "prefers": "a"}', '{"id": "x", "prefers": "b"}'):
        file.write_text(text)
        found.append(stage.fingerprints(config))
    assert len({fingerprint["labels"] for fingerprint in found}) == 3


@pytest.mark.parametrize(
    "line",
    [
        "{", '{"id": "x"}', '{"id": "x", "prefers": "c"}', "3", '{"id": ["x"], "prefers": "a"}',
        '{"id": 7, "prefers": "a"}', '{"id": "x", "prefers": "b"}',
    ],
)  # fmt: skip
def test_a_label_that_cannot_be_read_is_named_by_its_line(labelled, tmp_path, line):
    file = tmp_path / "labels.jsonl"
    file.write_text('{"id": "x", "prefers": "a"}\n' + line)
    with pytest.raises(DataError, match=r"labels.jsonl, line 2: "):
        labelled(by="file", file=str(file))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"by": "people"}, "by=people: use terms or file"),
        ({"by": "file"}, "file: name the file"),
        ({"terms": {}}, "label.terms: name at least one term"),
        ({"terms": {"h": {"kind": "model"}}}, "a reward model cannot label its own training data"),
        (
            {"terms": LONGER, "rollout": Rollouts(samples=1)},
            "rollout.samples=1, rollout.temperature=1.0: a preference needs 2 answers",
        ),
        ({"terms": {"long": {**LONGER["long"], "at_least": 0.5}}}, "label.terms.long.at_least: a bound is kept by"),
        ({"terms": LONGER, "count": -1}, "count=-1"),
        ({"terms": LONGER, "weights": {"lnog": 1}}, "label.weights.lnog: no such term; did you mean long"),
        ({"terms": LONGER, "file": "f.jsonl"}, "file: with by=terms nothing reads it"),
        ({"by": "file", "file": "f.jsonl", "terms": LONGER}, "terms: with by=file nothing reads it"),
        ({"terms": LONGER, "rollout": Rollouts(samples=2, temperature=0)}, "needs 2 answers or more that differ"),
        ({"terms": LONGER, "max_length": 8}, "rollout.max_new_tokens=8 leaves no room for a prompt in max_length=8"),
        ({"terms": LONGER, "runtime": Runtime(save_steps=3)}, "runtime.save_steps: labelling takes no"),
    ],
)
def test_what_cannot_work_is_refused(labelled, settings, message):
    with pytest.raises(ConfigError, match=message):
        labelled(**settings)


def test_a_reward_model_learns_from_fresh_labels_beside_the_pairs_it_had(bench, sft, labelled, rows):
    fresh = labelled(terms=LONGER).artifact
    held = bench.data("held", rows.pairs(4))
    (held.path / "data" / "heldout.jsonl").write_text((held.path / "data" / "train.jsonl").read_text())
    data = {"train": bench.data("pairs", rows.pairs(6)), "heldout": held, "round1": fresh}
    made = bench.train("reward", sft.artifact, data)
    assert made.sections["data"]["rows_available"] == 6 + len(artifact.rows(fresh))
