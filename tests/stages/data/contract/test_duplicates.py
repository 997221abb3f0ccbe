import random

import pytest
from contract_scopes import chat, label, lines, pair, scope_of, votes
from hypothesis import given
from hypothesis import strategies as st

from stages.data import dedupe
from stages.data.contract.duplicates import (
    answer_in_prompt,
    conflicting_answers,
    exact_duplicates,
    near_duplicates,
)

STORY = "The river rose in the night and by the morning the lower fields were under water up to the fence posts"


def sentence(seed, count=40):
    return " ".join(f"w{random.Random(seed * 1000 + i).randrange(5000)}" for i in range(count))


def edited(text, place=20):
    words = text.split()
    return " ".join([*words[:place], "changed", *words[place + 1 :]])


def test_the_later_of_two_rows_equal_up_to_case_and_space_is_marked():
    rows = [chat("What is A?", "A letter."), chat("Who?", "Nobody."), chat(" what  is a", "a LETTER")]
    found = exact_duplicates(scope_of("sft", rows))
    assert lines(found) == [3]
    assert found.marks[0].text == "the same as rows.jsonl, line 1"
    assert found.message.startswith("1 of 3 (33.3 %) rows")


def test_rows_that_differ_in_label_votes_or_tool_calls_are_no_duplicates():
    assert not exact_duplicates(scope_of("kto", [label("Why?", "So.", True), label("Why?", "So.", False)]))
    assert not exact_duplicates(scope_of("reward", [votes("Why?", "A", "B", al="a"), votes("Why?", "A", "B", bo="a")]))
    calls = [chat("Weather?", "Wait."), chat("Weather?", "Wait.")]
    calls[1]["messages"][1]["tool_calls"] = [{"function": {"name": "weather", "arguments": {}}}]
    assert not exact_duplicates(scope_of("sft", calls))


@given(st.lists(st.sampled_from(["a", "A ", "b", "c.", "C"]), min_size=1, max_size=12))
def test_as_many_duplicates_as_rows_beyond_the_distinct_ones(texts):
    found = exact_duplicates(scope_of("sft", [chat("What?", text) for text in texts]))
    assert len(lines(found)) == len(texts) - len({text.strip(" .").lower() for text in texts})


def test_a_row_with_one_word_changed_is_a_near_duplicate_and_an_exact_one_is_not_counted_again():
    rows = [chat("Tell.", sentence(i)) for i in range(10)]
    rows += [chat("Tell.", edited(sentence(3), 38)), chat("TELL", sentence(4))]
    found = near_duplicates(scope_of("sft", rows))
    assert lines(found) == [11]
    assert "line 4" in found.marks[0].text


def test_letters_beyond_ascii_are_compared():
    text = "река поднялась ночью и к утру нижние поля были под водой до самых столбов забора у старой дороги к мельнице"
    rows = [chat("Расскажи", text), chat("Расскажи", text.replace("мельнице", "пруду")), chat("Что", "да " * 12)]
    assert lines(near_duplicates(scope_of("sft", rows))) == [2]


def test_the_wording_of_a_task_makes_no_near_duplicates():
    wording = "Read the following review with care and say in one word whether its writer was content or not. "
    rows = [chat(f"{wording * 3} Review: {sentence(i, 8)}", "positive") for i in range(40)]
    assert not near_duplicates(scope_of("sft", rows))


def test_one_long_text_with_two_questions_is_no_near_duplicate():
    text = sentence(1, 200)
    rows = [chat(f"{text} Who came?", "The old miller."), chat(f"{text} When was that?", "In spring.")]
    assert not near_duplicates(scope_of("sft", rows))


def test_many_rows_are_compared_by_minhash_with_the_same_result(monkeypatch):
    rows = [chat("Tell.", sentence(i)) for i in range(60)] + [chat("Tell.", edited(sentence(i), 39)) for i in range(9)]
    exact = lines(near_duplicates(scope_of("sft", rows)))
    monkeypatch.setattr(dedupe, "EXACT", 10)
    assert lines(near_duplicates(scope_of("sft", rows))) == exact == list(range(61, 70))


def test_the_later_row_is_marked_also_where_the_first_one_comes_again():
    first, near = chat("Tell.", sentence(1)), chat("Tell.", edited(sentence(1), 39))
    assert lines(near_duplicates(scope_of("sft", [first, near, first]))) == [2]


def test_one_long_answer_to_different_prompts_is_no_near_duplicate():
    rows = [chat(f"Question {word}?", sentence(1)) for word in ("about love", "of war", "on wheels")]
    assert not near_duplicates(scope_of("sft", rows))


@pytest.mark.parametrize(
    "prompt, a, b",
    [
        ("Is bronze an element?", "No, it is an alloy.", "Yes, it is an element."),
        ("What is the capital of Peru?", "Lima", "Quito"),
        ("How high is the dam?", "The dam is 40 metres high.", "The dam is 55 metres high."),
        ("May tenants repaint?", "Tenants may repaint the walls.", "Tenants may not repaint the walls."),
        ("Is it due?", "Yes, it is due within 30 days.", "Yes, it is due within 14 days."),
        ("Give tips for floods.", f"{STORY}, 40 posts", f"{STORY}, 70 posts"),
        ("Write about the river and its fields.", STORY, sentence(5)),
        ("Explain osmosis.", "A solvent passes through a membrane to salt.", STORY),
    ],
)
def test_answers_that_exclude_each_other(prompt, a, b):
    rows = [chat(prompt, a), chat("Other?", "This."), chat(prompt.upper(), b), chat(prompt, a)]
    assert lines(conflicting_answers(scope_of("sft", rows))) == [1, 3, 4]


@pytest.mark.parametrize(
    "prompt, a, b",
    [
        ("Write a story.", STORY, "Once a hen laid golden eggs for a poor widow and her seven children."),
        ("Name a colour.", "Red", "Blue"),
        ("Where is Lima?", "Peru", "In Peru."),
        ("What is the capital of Peru?", "Lima", "It is Lima."),
        ("Write about hens and gold.", STORY, sentence(5)),
        ("Can I go there?", "Sorry, I do not know that.", STORY),
        ("Is it safe?", "Yes.", "Yes, it is quite safe when dry."),
    ],
)
def test_answers_that_can_stand_together(prompt, a, b):
    assert not conflicting_answers(scope_of("sft", [chat(prompt, a), chat(prompt, b)]))


def test_a_conflict_in_an_earlier_turn_of_a_conversation():
    rows = [chat("Is it open?", "Yes.", "And then?", "Wait."), chat("Is it open?", "No.", "Why?", "It is late.")]
    assert lines(conflicting_answers(scope_of("sft", rows))) == [1, 2]


def test_system_turns_make_different_prompts():
    rows = [chat("Is it open?", "Yes.", system="Shop A"), chat("Is it open?", "No.", system="Shop B")]
    assert not conflicting_answers(scope_of("sft", rows))


def test_an_answer_copied_from_its_prompt():
    rows = [chat(f"Why the flood? {STORY}", STORY), chat("Why the flood?", STORY)]
    assert lines(answer_in_prompt(scope_of("sft", rows))) == [1]
    assert lines(answer_in_prompt(scope_of("dpo", [pair(f"Why? {STORY}", STORY, "Rain.")]))) == [1]


@pytest.mark.parametrize("prompt", ["Copy this: ", "Correct the grammar: ", "Which sentence fits? A or B: "])
def test_where_the_answer_belongs_to_the_prompt(prompt):
    assert not answer_in_prompt(scope_of("sft", [chat(prompt + STORY, STORY)]))


def test_a_piece_found_in_a_long_passage_is_an_answer():
    assert not answer_in_prompt(scope_of("sft", [chat(f"{sentence(1, 100)} {STORY} Where was the water?", STORY)]))


def test_an_answer_pasted_below_a_task_with_its_own_text():
    prompt = f"Summarize this article. {sentence(1, 30)}\n{STORY}"
    assert lines(answer_in_prompt(scope_of("sft", [chat(prompt, STORY)]))) == [1]
    assert not answer_in_prompt(scope_of("sft", [chat(f"Rewrite the text:\n{STORY}", STORY)]))
    between = f"Correct the text. {STORY} {sentence(1, 30)}"
    assert not answer_in_prompt(scope_of("sft", [chat(between, STORY)]))
