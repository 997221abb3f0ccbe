"""Rows: every accepted shape becomes one row of the contract, and what cannot be used says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.readers import RowError
from stages.data.rows import content_key, normalise, unused_fields, words

ASK = {"role": "user", "content": "Hi"}
SAY = {"role": "assistant", "content": "Hello"}


def turns(row):
    return [(turn["role"], turn["content"]) for turn in row["messages"]]


@pytest.mark.parametrize(
    "raw",
    [
        {"messages": [ASK, SAY]},
        {"prompt": "Hi", "response": "Hello"},
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": [ASK], "response": "Hello"},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "output": "Hello"},
    ],
)
def test_the_shapes_of_a_chat_row(raw):
    row, repairs = normalise(raw, "chat")
    assert turns(row) == [("user", "Hi"), ("assistant", "Hello")]
    assert row["cluster"] == row["id"] and not repairs


def test_an_instruction_with_input():
    row, _ = normalise({"instruction": "Sum up", "input": "A text.", "output": "Short."}, "chat")
    assert turns(row)[0] == ("user", "Sum up\n\nA text.")


def test_an_id_depends_on_the_content_alone():
    first, _ = normalise({"prompt": "Hi", "response": "Hello"}, "chat")
    second, _ = normalise({"messages": [ASK, SAY], "task": "greet"}, "chat")
    assert first["id"] == second["id"] and content_key(first) == content_key(second)


@pytest.mark.parametrize(
    ("format", "raw", "says"),
    [
        ("chat", {"prompt": "Hi"}, "has no field 'response'"),
        ("chat", ["Hi"], "is a JSON list"),
        ("chat", {"messages": [ASK]}, "last turn of 'messages' must be the assistant's"),
        ("chat", {"messages": [SAY]}, "must alternate"),
        ("chat", {"messages": [ASK, ASK, SAY]}, "must alternate"),
        ("chat", {"messages": [ASK, {"role": "system", "content": "x"}, SAY]}, "system turn that is not the first"),
        ("chat", {"messages": [{"role": "bot", "content": "x"}]}, "has the role 'bot'"),
        ("chat", {"messages": "Hi"}, "must be a list"),
        ("chat", {"prompt": "Hi", "response": 3}, "'response' must be a string, not int"),
        ("chat", {"prompt": " ", "response": "x"}, "'prompt' is empty"),
        ("chat", {"prompt": "\ud83d", "response": "x"}, "half a surrogate pair"),
        ("chat", {"id": 7, "prompt": "a", "response": "b"}, "'id' must be a non-empty string"),
        ("chat", {"tags": "legal", "prompt": "a", "response": "b"}, "'tags' must be a list"),
        (
            "label",
            {"prompt": "a", "completion": "b", "label": "maybe"},
            "has values in 'prompt', 'completion', 'label' ",
        ),
        ("label", {"prompt": "a", "completion": "b", "label": None}, 'that no layout knows; expected {"prompt"'),
        ("text", {"body": "x"}, "has no field 'text' \\(it has: body\\)"),
        ("preference", {"prompt": "a", "chosen": "b"}, "has no field 'rejected'"),
        ("preference", {"prompt": "a", "chosen": "b", "rejected": "b "}, "are the same text"),
        ("choice", {"prompt": "a", "choices": ["x"], "answer": 0}, "at least two"),
        ("choice", {"prompt": "a", "choices": ["x", "x"], "answer": 0}, "same choice twice"),
        ("choice", {"prompt": "a", "choices": ["x", "y"], "answer": 2}, "from 0 to 1"),
        ("choice", {"prompt": "a", "choices": ["x", "y"], "answer": True}, "whole number"),
        ("choice", {"prompt": "a", "choices": ["x", "y"], "answer": 0, "slices": []}, "'slices' must be an object"),
        ("generate", {"prompt": "a", "check": "b"}, "an object with a 'type'"),
        ("generate", {"prompt": "a", "check": {"type": "exakt"}}, "'check': type 'exakt' is unknown"),
        ("refusal", {"prompt": "a", "harmful": "yes"}, "must be true or false"),
        ("constraints", {"prompt": "a", "constraints": []}, "`constraints` is a list of at least one"),
        ("constraints", {"prompt": "a", "constraints": [{"type": "wrds"}]}, "'wrds' is unknown; did you mean words"),
        ("classification", {"prompt": "a", "labels": ["x"], "label": "x"}, "at least two"),
        ("classification", {"prompt": "a", "labels": ["x", "x"], "label": "x"}, "same label twice"),
        ("classification", {"prompt": "a", "labels": ["x", "y"], "label": "z"}, "must be one of x, y, not 'z'"),
        ("classification", {"prompt": "a", "label": "z"}, "has no field 'labels'"),
        ("overlap", {"prompt": "a", "references": []}, "a text or a list of at least one text"),
        ("overlap", {"prompt": "a", "references": ["b", " "]}, "'references' is empty"),
    ],
)
def test_what_cannot_be_used_says_why(format, raw, says):
    with pytest.raises(RowError, match=says):
        normalise(raw, format)


def test_repairs_change_white_space_and_nothing_else():
    row, repairs = normalise({"text": " one\r\ntwo\x00 "}, "text")
    assert row["text"] == "one\ntwo"
    assert repairs == ["line ends", "control characters", "outer white space"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_repaired_text_needs_no_repair(text):
    try:
        row, _ = normalise({"text": text}, "text")
    except RowError:
        return
    again, repairs = normalise({"text": row["text"]}, "text")
    assert again["text"] == row["text"] and not repairs


def test_an_answer_may_be_a_turn_of_its_own():
    row, _ = normalise({"prompt": "Hi", "chosen": [SAY], "rejected": "No"}, "preference")
    assert (row["chosen"], row["rejected"]) == ("Hello", "No")


def test_labels_are_kept_and_unread_fields_are_named():
    raw = {"prompt": "a", "response": "b", "task": "t", "cluster": "c", "tags": ["legal"], "source": "web"}
    row, _ = normalise(raw, "chat")
    assert (row["task"], row["cluster"], row["tags"]) == ("t", "c", ["legal"])
    assert unused_fields(raw, row) == ["source"]


def test_words_count_everything_a_model_meets():
    row, _ = normalise({"prompt": "one two", "chosen": "three", "rejected": "four five"}, "preference")
    assert words(row) == 5
