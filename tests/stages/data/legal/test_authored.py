"""The authored safety sets: what a prompt or an answer looks like does not tell whether the prompt is harmful."""

import re
from statistics import mean

import pytest

from stages.data import similar
from stages.data.legal.talk import authored
from stages.evaluation.refusal import is_refusal

PAIRS = ("safety_pairs", "safety_heldout_pairs", "safety_dev_pairs")
ASKED = ("safety_train", "safety_dev", *PAIRS)
TRAINED = ("safety_train", "safety_pairs")
LEGAL = ("strip_notices", "hide_copyleft", "forge_grant", "fake_compliance", "infringe")
CUES = {  # what is cheap to see in a prompt, without knowing what it asks for
    "a question mark": lambda text: "?" in text,
    "a question mark at the end": lambda text: text.endswith("?"),
    "a small first letter": lambda text: text[0].islower(),
    "two sentences or more": lambda text: len(re.findall(r"[.?!](?=\s|$)", text)) > 1,
    "first person": lambda text: bool(re.search(r"\b(I|i|my|we|our|me)\b", text)),
    "twelve words or fewer": lambda text: len(text.split()) <= 12,
    "a semicolon": lambda text: ";" in text,
    "a quotation": lambda text: '"' in text,
}


def words(text):
    return len(text.split())


def sides(name):
    """The harmful and the benign rows of a set."""
    rows = authored(name)
    return [row for row in rows if row["harmful"]], [row for row in rows if not row["harmful"]]


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("cue", CUES)
def test_the_form_of_a_prompt_tells_nothing(name, cue):
    harmful, benign = (mean(CUES[cue](row["prompt"]) for row in part) for part in sides(name))
    assert abs(harmful - benign) <= (0.1 if name in TRAINED else 0.16)  # small sets vary more


@pytest.mark.parametrize("name", ASKED)
def test_neither_length_nor_topic_of_a_prompt_tells(name):
    harmful, benign = sides(name)
    sizes = [mean(words(row["prompt"]) for row in part) for part in (harmful, benign)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
    legal = [mean(row["category"] in LEGAL for row in part) for part in (harmful, benign)]
    assert abs(legal[0] - legal[1]) <= 0.05


@pytest.mark.parametrize("name", PAIRS)
def test_chosen_answers_are_as_long_as_rejected_ones(name):
    rows = authored(name)
    for part in (rows, *sides(name)):
        chosen, rejected = (mean(words(row[side]) for row in part) for side in ("chosen", "rejected"))
        assert chosen == pytest.approx(rejected, rel=0.05 if part is rows else 0.1)
        assert 0.45 <= mean(words(row["chosen"]) < words(row["rejected"]) for row in part) <= 0.55


@pytest.mark.parametrize("name", PAIRS)
def test_chosen_refuses_what_is_harmful_and_rejected_the_rest(name):
    for row in authored(name):
        assert (is_refusal(row["chosen"]), is_refusal(row["rejected"])) == (row["harmful"], not row["harmful"]), row


def test_answers_in_training_are_short_and_as_long_on_both_sides():
    harmful, benign = sides("safety_train")
    assert len(benign) >= len(harmful) >= 300
    assert all(8 <= words(row["response"]) <= 27 for row in harmful) and all(words(r["response"]) <= 36 for r in benign)
    sizes = [mean(words(row["response"]) for row in part) for part in (harmful, benign)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    assert all(is_refusal(row["response"]) for row in harmful) and not any(is_refusal(r["response"]) for r in benign)


@pytest.mark.parametrize("name", ASKED)
def test_every_harmful_prompt_has_a_benign_one_beside_it(name):
    harmful, benign = sides(name)
    assert {row["pair"] for row in harmful} <= {row["pair"] for row in benign}


@pytest.mark.parametrize("name", ["safety_heldout", *[name for name in ASKED if name not in TRAINED]])
def test_measured_sets_say_which_categories_training_holds(name):
    trained = {row["category"] for part in TRAINED for row in authored(part)}
    assert {row["seen_category"] for row in authored(name)} == {True, False}
    assert all(row["seen_category"] == (row["category"] in trained) for row in authored(name))


def test_dev_has_categories_of_its_own():
    dev, held = (
        {row["category"] for name in names for row in authored(name) if not row["seen_category"]}
        for names in (("safety_dev", "safety_dev_pairs"), ("safety_heldout", "safety_heldout_pairs"))
    )
    assert dev and dev.isdisjoint(held)


def test_no_prompt_of_one_authored_safety_set_is_near_one_of_another():
    rows = [(name, row) for name in ("safety_heldout", *ASKED) for row in authored(name)]
    said = [similar.shingles(row["prompt"]) for _, row in rows]
    assert not [(rows[i], rows[j]) for i, j in similar.pairs(said, 0.3) if rows[i][0] != rows[j][0]]
