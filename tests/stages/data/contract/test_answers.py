import pytest
from contract_scopes import chat, lines, scope_of

from stages.data.contract.answers import format_of, mixed_format, mixed_register, register_of

PLAIN = "The notice period for a flat is three months to the end of a month, counted from receipt."
CASUAL = "Yeah, so it's like three months, gotta count from when they get your letter, no worries!!"
FORMAL = "Notice shall be given three months prior to the end of the lease in accordance with the contract signed."


@pytest.mark.parametrize(
    "text, name",
    [
        ('{"a": [1, 2]}', "json"),
        ('```json\n{"a": 1}\n```', "json"),
        ("```python\nprint(1)\n```", "code"),
        ("def f(x):\n    return x", "code"),
        ("1. one\n2. two\n3. three", "numbered list"),
        ("- one\n- two", "list"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "table"),
        ("positive", "label"),
        ("12, 40, 7, 9, 15, 3", "label"),
        ("[not json] but a sentence about brackets.", "prose"),
        (PLAIN, "prose"),
    ],
)
def test_formats(text, name):
    assert format_of(text) == name


@pytest.mark.parametrize("text, name", [(PLAIN, "plain"), (CASUAL, "casual"), (FORMAL, "formal")])
def test_registers(text, name):
    assert register_of(text) == name


def test_the_rows_of_another_format_within_a_task():
    rows = [chat(f"Rate {i}", "positive", task="rate") for i in range(25)]
    rows += [chat("Rate this", f"{PLAIN} So it is positive.", task="rate")]
    rows += [chat(f"Explain {i}", PLAIN, task="explain") for i in range(25)]
    found = mixed_format(scope_of("sft", rows))
    assert lines(found) == [26]
    assert found.marks[0].text.startswith("prose, not label")
    assert found.detail == {"tasks": {"rate": 1}}


def test_lists_go_with_prose_but_json_does_not_unless_it_is_asked_for():
    rows = [chat(f"Explain {i}", PLAIN) for i in range(30)]
    rows += [chat("Explain", "- one\n- two"), chat("Explain", '{"a": 1}'), chat("Explain as JSON", '{"a": 1}')]
    assert lines(mixed_format(scope_of("sft", rows))) == [32]


def test_a_label_among_long_answers_of_a_named_task():
    long = [chat(f"Explain {i}", f"{PLAIN} {PLAIN}", task="explain") for i in range(30)]
    assert lines(mixed_format(scope_of("sft", [*long, chat("Explain", "positive", task="explain")]))) == [31]
    short = [chat(f"Explain {i}", "It is three months from the day of receipt.", task="explain") for i in range(30)]
    assert not mixed_format(scope_of("sft", [*short, chat("Explain", "positive", task="explain")]))


def test_a_word_of_every_prompt_asks_for_nothing_in_one():
    rows = [chat(f"Explain the API {i}", PLAIN) for i in range(30)] + [chat("Explain the API", '{"a": 1}')]
    assert lines(mixed_format(scope_of("sft", rows))) == [31]


def test_without_a_rule_or_with_few_rows_nothing_is_told():
    half = [chat("Do", ("positive", PLAIN)[i % 2], task="do") for i in range(40)]
    assert not mixed_format(scope_of("sft", half))
    assert not mixed_format(scope_of("sft", [chat("Do", "positive")] * 18 + [chat("Do", PLAIN)]))


def test_a_casual_answer_among_formal_ones_and_the_other_way_round():
    formal = [chat(f"Notice {i}?", PLAIN) for i in range(30)] + [chat("Notice?", CASUAL)]
    assert lines(mixed_register(scope_of("sft", formal))) == [31]
    casual = [chat(f"Notice {i}?", CASUAL) for i in range(30)] + [chat("Notice?", FORMAL), chat("Notice?", PLAIN)]
    assert lines(mixed_register(scope_of("sft", casual))) == [31]


def test_a_casual_answer_that_was_asked_for_or_that_is_nothing_new():
    asked = [chat(f"Notice {i}?", PLAIN) for i in range(30)] + [chat("Write a casual tweet", CASUAL)]
    assert not mixed_register(scope_of("sft", asked))
    chatty = [chat("Hi", "It's what you'd call a long walk, isn't it, my friend.") for _ in range(30)]
    assert not mixed_register(scope_of("sft", [*chatty, chat("Notice?", CASUAL)]))
