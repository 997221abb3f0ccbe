"""Drift: production against the sets that a model was trained on, through the kind `prepare`."""

import json
import random

import numpy as np
import pytest

from pipeline.context import Artifact
from stages.data.coverage.drift import drift
from stages.data.findings import Located
from stages.prepare import Prepare, PrepareConfig

TOPICS = (
    ["licence", "copyright", "notice", "permission", "redistribute", "modify", "source", "derivative"],
    ["contract", "clause", "liability", "warranty", "party", "damages", "termination", "payment"],
)


def request(topic, seed, words=12):
    chance = random.Random(seed)
    return f"Please explain {' '.join(chance.choices(TOPICS[topic], k=words))} to me in your own words."


def chats(topic, count, start=0, words=12):
    return [
        Located({"messages": [{"role": "user", "content": request(topic, start + i, words)},
                              {"role": "assistant", "content": "Certainly, this is what it means."}]}, "f", i + 1)
        for i in range(count)
    ]  # fmt: skip


def test_two_samples_of_one_distribution_have_not_drifted():
    found = drift(chats(0, 150, 10_000), [chats(0, 300)])
    assert set(found) == {"length", "language", "topic", "task type", "form of asking"}
    assert all(shift["psi"] < shift["chance"] for shift in found.values()), found


@pytest.mark.parametrize(("topic", "words", "feature"), [(1, 12, "topic"), (0, 60, "length")])
def test_the_feature_that_moved_is_the_one_that_shows_it(topic, words, feature):
    found = drift(chats(topic, 150, 10_000, words), [chats(0, 300)])
    assert found[feature]["psi"] > 1 > found[feature]["chance"]


def test_the_index_is_siddiqi_s():
    """Lengths in two buckets: sum of (p - q) ln(p / q), by hand; an empty class counts as half a row."""
    ours = [*chats(0, 60, words=8), *chats(0, 40, words=50)]
    theirs = [*chats(0, 20, 500, words=8), *chats(0, 80, 900, words=50)]
    p, q = np.array([0.6, 0.4]), np.array([0.2, 0.8])
    assert drift(theirs, [ours])["length"]["psi"] == pytest.approx(((p - q) * np.log(p / q)).sum())


def test_all_sets_count_together_and_documents_do_not_count_where_production_asks():
    texts = [Located({"text": "A document of the domain. " * 40}, "f", i) for i in range(100)]
    split = drift(chats(0, 100, 10_000), [chats(0, 150), chats(0, 150, 150), texts])
    assert split == drift(chats(0, 100, 10_000), [chats(0, 300)])


def test_documents_are_compared_with_documents():
    texts = [Located({"text": f"A document of {request(0, i)}"}, "f", i) for i in range(60)]
    assert set(drift(texts, [texts])) == {"length", "language", "topic"}


def test_nothing_to_compare_is_no_number():
    assert drift(chats(0, 10), []) == {}


# -- through the kind `prepare` -------------------------------------------------------------------------------------
@pytest.fixture
def sample(tmp_path):
    """A data set of prompts from production, written with one field more than its content."""
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps({"prompt": request(1, i), "id": f"x{i}"}) + "\n" for i in range(60)))
    return PrepareConfig(format="prompt", files=[str(file)])


def test_a_data_set_of_prompts_is_read_from_its_files(sample, tmp_path):
    trained = tmp_path / "trained" / "data"
    trained.mkdir(parents=True)
    rows = [{**one.row, "origin": {"file": "f", "line": one.line}} for one in chats(0, 120)]
    (trained / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = Prepare().drift(sample, [Artifact("1" * 16, "prepare", "chats", trained.parent, "digest")])
    assert found["topic"]["psi"] > 1


def test_rows_are_told_by_content_alone(sample, tmp_path):
    before = Prepare().row_digests(sample)
    lines = (tmp_path / "asked.jsonl").read_text().splitlines()
    new = json.dumps({"prompt": "Something new?"})
    moved = [line.replace('"id": "x', '"id": "y') for line in reversed(lines)]
    (tmp_path / "asked.jsonl").write_text("\n".join([*moved, new]) + "\n")
    after = Prepare().row_digests(sample)
    assert len(before) == 60 and before < after and len(after - before) == 1
