"""Layouts: each is told by its fields, becomes one form, and is written again without loss."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from stages.data import formats
from stages.data.formats import detect, find, from_internal, named, to_internal
from stages.data.readers import RowError
from stages.data.rows import MEASURED_ONLY, normalise

TASK = {"id": 7, "data": {"prompt": "Hi", "answer1": "Hello", "answer2": "Go away"}}
ITEMS = [{"id": "x", "title": "X", "body": "Hello"}, {"id": "y", "title": "Y", "body": "Go away"}]
VOTE = {"completed_by": {"id": 1, "email": "an@example.org"}, "result": [
    {"type": "pairwise", "from_name": "pw", "to_name": "answer1,answer2", "value": {"selected": "left"}}]}  # fmt: skip
RANK = {"completed_by": 2, "result": [{"type": "ranker", "value": {"ranker": ["x", "y"]}}]}
SAID = [{"type": "chatmessage", "value": {"chatmessage": {"role": role, "content": text, "createdAt": 1}}}
        for role, text in (("user", "Hi"), ("assistant", "Hello"))]  # fmt: skip
USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
CALL = {"type": "function", "id": "c1", "function": {"name": "clock", "arguments": "{}"}}
WITH_TOOLS = [
    {"role": "system", "content": "Be short."},
    USER,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
    {"role": "assistant", "content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "noon."}]},
]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
FUNCTION = [SHARED[0], {"from": "function_call", "value": '{"name":"clock","arguments":{}}'},
            {"from": "observation", "value": "12:00"}, {"from": "gpt", "value": "Noon."}]  # fmt: skip
FIELDS = {"prompt": "Hi", "response_1": "Hello", "response_2": "Go away"}
GIVEN = {"user_id": "u1", "status": "submitted"}

EXAMPLES = [  # (layout, family, form, a row as files have it)
    ("alpaca", "alpaca", "chat", {"instruction": "Sum up", "input": "A text.", "output": "Short.", "lang": "en"}),
    ("alpaca", "alpaca", "chat", {"instruction": "Go on", "output": "Yes", "system": "Be short.",
                                  "history": [["Hi", "Hello"]]}),
    ("sharegpt", "sharegpt", "chat", {"id": "c1", "conversations": SHARED}),
    ("sharegpt", "sharegpt", "chat", {"conversations": FUNCTION, "tools": '[{"name": "clock"}]'}),
    ("sharegpt", "sharegpt", "chat", {"conversations": SHARED, "system": "Be short."}),
    ("messages", "messages", "chat", {"messages": WITH_TOOLS, "tools": [{"type": "function", "function": {}}]}),
    ("prompt_completion", "prompt_completion", "chat", {"prompt": "Hi", "completion": "Hello"}),
    ("prompt_completion", "prompt_completion", "chat", {"prompt": [USER], "completion": [ASSISTANT]}),
    ("prompt_completion", "prompt_completion", "chat", {"question": "Hi?", "answer": "Hello", "source": None}),
    ("self_instruct", "self_instruct", "chat", {"instruction": "Hi", "name": "n",
                                                "instances": [{"input": "", "output": "Hello"}]}),
    ("hh", "hh", "preference", {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello",
                                "rejected": "\n\nHuman: Hi\n\nAssistant: No"}),
    ("preference", "preference", "preference", {"prompt": "Hi", "chosen": "Hello", "rejected": "No", "margin": 2}),
    ("preference", "preference", "preference", {"prompt": [WITH_TOOLS[0], USER], "chosen": "Hello", "rejected": "No"}),
    ("preference_messages", "preference", "preference", {"prompt": [USER], "chosen": [ASSISTANT],
                                                         "rejected": [{"role": "assistant", "content": "No"}]}),
    ("preference_messages", "preference", "preference", {"prompt": "Hi", "chosen": [USER, ASSISTANT],
                                                         "rejected": [USER, {"role": "assistant", "content": "No"}]}),
    ("preference_sharegpt", "preference", "preference", {"conversations": SHARED[:1], "chosen": SHARED[1],
                                                         "rejected": {"from": "gpt", "value": "No"}}),
    ("kto", "kto", "label", {"prompt": "Hi", "completion": "Hello", "label": True}),
    ("kto", "kto", "label", {"prompt": "Hi", "response": "Hello", "label": "false"}),
    ("kto_messages", "kto", "label", {"messages": [USER, ASSISTANT], "label": False}),
    ("kto_messages", "kto", "label", {"conversations": SHARED, "kto_tag": True}),
    ("ranking", "ranking", "ranking", {"prompt": "Hi", "answers": ["Hello", "Yes?", "No"]}),
    ("ranking", "ranking", "ranking", {"prompt": "Hi", "completions": ["No", "Hello"], "ranking": [2, 1]}),
    ("votes", "votes", "votes", {"prompt": "Hi", "completion_a": "Hello", "completion_b": "No",
                                 "preference": "a-is-slightly-better", "evaluator": "yo"}),
    ("votes", "votes", "votes", {"question": "Hi", "response1": "Hello", "response2": "No", "overall_preference": -2}),
    ("votes", "votes", "votes", {"prompt": "Hi", "a": "Hello", "b": "No", "winner": "tie (inconsistent)",
                                 "judge": "j"}),
    ("votes_of_pair", "votes", "votes", {"prompt": "Hi", "a": "Hello", "b": "No",
                                         "votes": [{"by": "x", "prefers": "a"}, {"by": "y", "prefers": "tie"}]}),
    ("candidates", "candidates", "prompt", {"id": "p1", "prompt": "Hi",
                                            "completions": [{"model": "m", "completion": "Hello"}]}),
    ("prompt", "prompt", "prompt", {"prompt": "Hi"}),
    ("text", "text", "text", {"text": "A document.", "meta": {"page": 3}}),
    ("choice", "choice", "choice", {"prompt": "Hi", "choices": ["x", "y"], "answer": 1}),
    ("refusal", "refusal", "refusal", {"prompt": "Hi", "harmful": False, "category": "other"}),
    ("generate", "generate", "generate", {"prompt": "Hi", "check": {"type": "contains", "all": ["x"]}}),
    ("constraints", "constraints", "constraints", {"prompt": "Hi", "constraints": [{"type": "title"}]}),
    ("classification", "classification", "classification", {"prompt": "Hi", "labels": ["x", "y"], "label": "y"}),
    ("overlap", "overlap", "overlap", {"prompt": "Hi", "references": ["x"]}),
    ("labelstudio_pairwise", "labelstudio", "votes", {**TASK, "annotations": [VOTE]}),
    ("labelstudio_ranker", "labelstudio", "ranking", {"data": {"prompt": "Hi", "items": ITEMS},
                                                        "annotations": [RANK, RANK]}),
    ("labelstudio_chat", "labelstudio", "chat", {"data": {"scenario": "s", "input_chat": []},
                                                 "annotations": [{"result": SAID}]}),
    ("argilla_votes", "argilla", "votes", {"id": "r1", "fields": FIELDS, "metadata": {},
                                           "responses": {"preference": [{"value": "response_2", "user_id": "u1"}]}}),
    ("argilla_ranking", "argilla", "ranking", {"fields": FIELDS, "responses": {
        "rank": [{"value": ["response_2", "response_1"], "user_id": "u1"}]}}),
    ("argilla_ranking", "argilla", "ranking", {**FIELDS, "rank": [
        {**GIVEN, "value": [{"rank": 2, "value": "response_1"}, {"rank": 1, "value": "response_2"}]}]}),
    ("argilla_label", "argilla", "label", {"prompt": "Hi", "response": "Hello", "good.responses": ["yes", "yes", "no"],
                                           "good.responses.users": ["u1", "u2", "u3"]}),
    ("argilla_chat", "argilla", "chat", {"fields": {"prompt": "Hi"}, "responses": [
        {"user_id": "u1", "status": "submitted", "values": {"reply": {"value": "Hello"}}}]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "family", "form", "raw"), EXAMPLES)
def test_every_layout_is_told_by_its_fields_and_written_again(name, family, form, raw):
    found = find(raw)
    assert (found.name, found.family, found.form) == (name, family, form)
    row, _ = normalise(raw, form)
    assert row["id"]
    assert from_internal(to_internal(raw, found), found) == raw


def test_every_layout_has_an_example():
    assert {layout.name for layout in formats.LAYOUTS} - {name for name, *_ in EXAMPLES} == {"labelstudio"}


def content(name, raw):
    found, _ = normalise(raw, named(name).form, named(name))
    return {key: value for key, value in found.items() if key not in ("id", "cluster")}


def example(name, place=0):
    return [raw for layout, _, _, raw in EXAMPLES if layout == name][place]


def test_tool_calls_and_their_answers_stay_in_the_conversation():
    messages = content("messages", example("messages"))["messages"]
    assert [turn["role"] for turn in messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert messages[2] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert messages[4]["content"] == "It is noon."


def test_a_function_call_of_sharegpt_becomes_a_tool_call():
    found = content("sharegpt", example("sharegpt", 1))
    call = {"type": "function", "function": {"name": "clock", "arguments": {}}}
    assert found["messages"][1]["tool_calls"] == [call] and found["tools"] == [{"name": "clock"}]


def test_transcripts_are_divided_where_they_differ():
    found = content("hh", example("hh"))
    assert found == {"prompt": [USER], "chosen": "Hello", "rejected": "No"}


def test_a_ranking_puts_the_best_first():
    assert content("ranking", example("ranking", 1))["answers"] == ["Hello", "No"]
    assert content("argilla_ranking", example("argilla_ranking", 1))["answers"] == ["Go away", "Hello"]


def test_rankings_of_several_people_are_joined_by_mean_place():
    other = {"completed_by": 3, "result": [{"type": "ranker", "value": {"ranker": {"rank": ["y", "x"]}}}]}
    raw = {"data": {"prompt": "Hi", "items": ITEMS}, "annotations": [RANK, other, other]}
    assert content("labelstudio_ranker", raw)["answers"] == ["Go away", "Hello"]


@pytest.mark.parametrize(
    ("word", "prefers", "strength"),
    [
        ("a", "a", None), ("B", "b", None), ("model_a", "a", None), ("response_2", None, None), ("tie", "tie", None),
        ("tie (inconsistent)", "tie", None), ("a-is-better", "a", 2), ("b-is-slightly-better", "b", 1),
        ("A is much better", "a", 3), ("A>>B", "a", 2), ("B > A", "b", 1), ("a=b", "tie", None),
        ("both bad", "tie", None),
        (1, None, None), (True, None, None), ("", None, None), ("better", None, None), ("a>a", None, None),
    ],
)  # fmt: skip
def test_the_words_of_a_vote(word, prefers, strength):
    raw = {"prompt": "Hi", "a": "Hello", "b": "No", "preference": word}
    if prefers is None:
        with pytest.raises(RowError, match="'preference' is"):
            normalise(raw, "votes")
        return
    (vote,) = content("votes", raw)["votes"]
    assert (vote["prefers"], vote.get("strength")) == (prefers, strength)


def test_numbers_of_a_vote_need_a_field_that_says_how_they_are_meant():
    raw = {"prompt": "Hi", "a": "Hello", "b": "No"}
    assert content("votes", {**raw, "overall_preference": 2})["votes"] == [{"by": "", "prefers": "b", "strength": 2}]
    with pytest.raises(RowError, match="from -3"):
        normalise({**raw, "overall_preference": 5}, "votes")


def test_votes_on_one_prompt_are_one_cluster():
    made = [normalise({"prompt": "Hi", "a": "x", "b": "y", "winner": who, "judge": who}, "votes")[0] for who in "ab"]
    assert made[0]["cluster"] == made[1]["cluster"] and made[0]["id"] != made[1]["id"]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"model_a": "x", "model_b": "y", "winner": "model_a"}, "without the texts of its answers"),
        ({"data": {}, "annotations": [{"result": [{"type": "choices", "value": {}}]}]}, "annotated with choices"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}, "differ from turn 1"),
        ({"instruction": "Hi", "instances": [{}, {}]}, "has 2 instances"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "is from 'alien'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "parts that are no text"),
        ({"prompt": "Hi", "completions": ["a", "b"], "ranking": [1, 3]}, "must hold the places 1 to 2"),
    ],
)  # fmt: skip
def test_what_a_layout_cannot_read_says_why(raw, says):
    with pytest.raises(RowError, match=says):
        normalise(raw, find(raw).form)


def test_most_rows_decide():
    rows = [{"text": "x"}, {"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}, 7]
    found = detect(rows)
    assert (found.layout.name, found.share) == ("alpaca", 0.5)
    assert detect([{"x": 1}, "y"]) is None


def test_a_layout_of_another_format_or_an_unknown_one_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'sharegpt'"):
        named("sharegtp")
    with pytest.raises(ConfigError, match="layout hh becomes format preference, not chat"):
        named("hh", "chat")


def test_a_changed_row_is_written_as_it_is_now():
    layout, raw = named("alpaca"), {"instruction": "Sum up", "input": "A text of an@example.org.", "output": "Short."}
    row = to_internal(raw, layout)
    row["messages"][0]["content"] = "Sum up\n\nA text of [EMAIL]."
    assert from_internal(row, layout) == {
        "instruction": "Sum up\n\nA text of [EMAIL].",
        "input": "",
        "output": "Short.",
    }


def test_what_a_layout_has_no_place_for_is_not_lost_in_silence():
    row = {"messages": WITH_TOOLS[:3]}
    with pytest.raises(RowError, match="cannot be written as alpaca"):
        from_internal(row, named("alpaca"))


# -- round trips of any text and any further field --------------------------------------------------------------------
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
                    max_leaves=4)  # fmt: skip


def texts_of(raw):
    """Paths of all strings that a layout could read, but not of the words that it goes by."""
    words = {"type", "role", "from", "value", "id", "winner", "preference", "prefers", "user_id", "status", "by",
             "label", "tools", "tool_call_id", "name", "selected", "ranker", "users"}  # fmt: skip
    if isinstance(raw, dict):
        return [
            [key, *path] for key, item in raw.items() if key not in words and "." not in key for path in texts_of(item)
        ]
    if isinstance(raw, list):
        return [[place, *path] for place, item in enumerate(raw) for path in texts_of(item)]
    return [[]] if isinstance(raw, str) else []


@settings(max_examples=200, deadline=None)
@given(data=st.data(), which=st.sampled_from(EXAMPLES))
def test_a_round_trip_loses_nothing_whatever_the_texts_and_further_fields(data, which):
    name, _, form, raw = which
    made = json.loads(json.dumps(raw))
    for *path, last in texts_of(made):
        owner = made
        for step in path:
            owner = owner[step]
        if data.draw(st.booleans()):
            owner[last] = data.draw(TEXT)
    further = data.draw(st.dictionaries(st.text(min_size=1, max_size=4).map("x_".__add__), JSON, max_size=2))
    made = {**made, **{key: value for key, value in further.items() if not key.endswith(".responses")}}
    layout = named(name, form)
    try:
        row = to_internal(made, layout)
    except RowError:
        return
    assert json.dumps(from_internal(row, layout), sort_keys=True) == json.dumps(made, sort_keys=True)
    content = {key: value for key, value in row.items() if key not in ("extra", "id", "cluster", "tags", "category")}
    try:
        written = layout.write(content)
    except RowError:
        return
    assert layout.read(written) == content  # and the other way: a row of the contract comes back


# -- the page on formats ----------------------------------------------------------------------------------------------
PAGE = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()


def test_the_page_has_a_row_of_every_layout():
    (shown,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)
    rows = [json.loads(line) for line in shown.splitlines()]
    for row in rows:
        normalise(row, find(row).form)
    assert {layout.name for layout in formats.LAYOUTS} - {find(row).name for row in rows} == {"labelstudio"}


def test_the_page_lists_the_layouts_in_the_order_in_which_they_are_tried():
    table = PAGE.partition("| format | layout |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\|[^|]*\| `(\w+)`", table, re.M)
    assert listed == list(dict.fromkeys(x.name for x in formats.LAYOUTS if x.name not in MEASURED_ONLY))
