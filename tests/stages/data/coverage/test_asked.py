"""What a row asks: its last request whatever its form, and its language where there is enough of it."""

import pytest
from coverage_rows import chat, pair

from stages.data.coverage.asked import UNKNOWN, asked, language, production, words
from stages.data.findings import Located


def test_the_last_request_of_a_conversation():
    row = chat(0, "And in winter?")
    row.row["messages"] = [
        {"role": "system", "content": "Be kind."},
        *chat(0, "When do owls sing?").row["messages"],
        *row.row["messages"],
    ]
    found = asked([row], "sft")[0]
    assert found.text == "And in winter?" and found.requests == ("When do owls sing?", "And in winter?")


def test_rows_that_do_not_fit_are_left_out():
    rows = [chat(0, "Why?"), pair(1, "Why?"), Located({"messages": []}, "f", 3)]
    assert [each.item.index for each in asked(rows, "sft")] == [0]


def test_a_production_sample_may_have_any_form():
    prompt = Located({"prompt": [{"role": "user", "content": "One?"}]}, "f", 1)
    rows = [prompt, Located({"text": "Two?"}, "f", 2), chat(2, "Three?"), pair(3, "Four?"), Located({"x": 1}, "f", 5)]
    assert [each.text for each in production(rows)] == ["One?", "Two?", "Three?", "Four?"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("How do I renew my library card before the end of the month?", "en"),
        ("Können Sie mir bitte erklären, wie ich meine Rechnung bezahle?", "de"),
        ("超次元の究極バトル", "ja"),
        ("你好吗朋友", "zh"),
        ("привет как дела", "ru"),
        ("Max Mustermann Jean Dupont Mario Rossi Sven Svensson Jan Kowalski", UNKNOWN),
        ("Hello!", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_language(text, name):
    assert language(text) == name


def test_words_have_no_digits_and_no_case():
    assert words("It’s 3 o'clock, NOW_") == ["it's", "o'clock", "now"]
