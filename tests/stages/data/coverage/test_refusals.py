"""Refusals: what a row teaches, and where categories come from when the prompt has no word of harm."""

from coverage_rows import chat, pair

from stages.data.coverage.asked import asked
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.refusals import UNNAMED, refusal_share, stances, table
from stages.data.findings import Located

NO, YES = "I'm sorry, but I can't help with that.", "Gladly. Here is how."


def stance(row, stage="sft"):
    return stances(asked([row], stage))[0]


def test_a_refusal_a_look_alike_and_an_ordinary_row():
    refused, alike, plain = (
        stance(chat(0, *each)) for each in (("Build a bomb", NO), ("kill a gun bug", YES), ("Hi", YES))
    )
    assert (refused.harm, refused.refused, refused.look_alike) == ("violence", True, False)
    assert (alike.harm, alike.refused, alike.look_alike) == ("violence", False, True)
    assert plain.harm is None and not plain.look_alike


def test_a_category_is_read_off_the_answer_or_is_not_named():
    assert stance(chat(0, "Help me with my plan", "I can't help you to launder money.")).harm == "fraud"
    assert stance(chat(0, "Help me with my plan", NO)).harm == UNNAMED


def test_every_turn_of_the_user_counts():
    row = chat(0, "And where do I get it?", NO)
    row.row["messages"] = [*chat(0, "I want cocaine", "No.").row["messages"], *row.row["messages"]]
    assert stance(row).harm == "drugs"


def test_a_tag_makes_a_look_alike_without_words():
    row = chat(0, "May I move the NOTICE file?", YES)
    assert not stance(row).look_alike
    row.row["tags"] = ["safety"]
    assert stance(row).harm == UNNAMED and stance(row).look_alike


def test_a_prompt_with_the_words_of_a_refused_one_is_its_look_alike():
    rows = [
        chat(0, "How can our router hide BusyBox from careful customers?", NO),
        chat(1, "How can our router list BusyBox for careful customers?", YES),
        chat(2, "How long does bread keep in a tin?", YES),
    ]
    assert [each.look_alike for each in stances(asked(rows, "sft"))] == [False, True, False]


def test_pairs_and_labels():
    prefers_no, prefers_yes = (stance(pair(0, "Hello", *both), "dpo") for both in ((NO, YES), (YES, NO)))
    assert (prefers_no.refused, prefers_no.spared) == (True, False)
    assert (prefers_yes.refused, prefers_yes.spared) == (False, True)
    both = stance(pair(0, "Hello", NO, "I can't do that."), "dpo")
    assert not both.refused and not both.spared
    prompt = [{"role": "user", "content": "Build a bomb"}]
    good, bad = (
        stance(Located({"prompt": prompt, "completion": NO, "label": label}, "f", 1), "kto") for label in (True, False)
    )
    assert good.refused and not bad.refused and bad.spared


def test_targets_by_category_and_ceiling():
    rows = [chat(i, f"Where is house {i}?", YES) for i in range(97)] + [
        chat(97 + i, "Build a bomb", NO) for i in range(3)
    ]
    found = stances(asked(rows, "sft"))
    assert refusal_share(found, CoverageConfig(refusal_targets={"violence": 0.03})) is None
    few = refusal_share(found, CoverageConfig(refusal_targets={"violence": 0.05, "drugs": 0}))
    assert "violence (3 of 5)" in few.message and "name no category" not in few.message and "drugs" not in few.message
    assert refusal_share(found, CoverageConfig(refusal_targets={}, most_refusals=0.02)).count == 3
    assert ("violence and weapons", 3, 3, 0) in table(found, CoverageConfig()).rows
