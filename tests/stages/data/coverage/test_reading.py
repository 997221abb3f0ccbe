"""A text as coverage reads it: its words, and its language where there is enough of it."""

import pytest

from stages.data.coverage.reading import UNKNOWN, language, words


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
