import pytest
from contract_scopes import chat, lines, scope_of

from stages.data.contract.language import language_mix

ENGLISH = [
    "The pump runs best in the morning, when the water is still cold and the air is dry.",
    "Close the valve before you take out the filter, and wait until the needle is at zero.",
    "Nobody has to sign the sheet twice; one signature of the two people who counted is enough.",
]
SWEDISH = "Pumpen går bäst på morgonen, när vattnet fortfarande är kallt och luften är torr och stilla."
GERMAN = "Die Pumpe läuft am besten am Morgen, wenn das Wasser noch kalt und die Luft trocken ist."
CHINESE = "水泵在早晨运行得最好，因为那时水还是冷的，空气也比较干燥，所以请在早上使用它。"
ASKS = "How does the pump of the old mill behave during a long day in summer?"


def english(count, task=""):
    return [chat(ASKS, ENGLISH[i % 3], task=task) for i in range(count)]


@pytest.mark.parametrize("text, name", [(SWEDISH, "sv"), (GERMAN, "de"), (CHINESE, "zh")])
def test_the_row_in_another_language(text, name):
    found = language_mix(scope_of("sft", [*english(30), chat(text, text)]))
    assert lines(found) == [31] and found.detail == {"languages": {name: 1}, "rule": {"en": 1}}


def test_an_answer_in_another_language_than_its_prompt_in_a_set_without_a_rule():
    rows = [*english(25), *[chat(GERMAN, GERMAN) for _ in range(25)], chat(GERMAN, ENGLISH[0])]
    assert lines(language_mix(scope_of("sft", rows))) == [51]


@pytest.mark.parametrize("prompt", ["Translate: the pump runs best in the morning.", "How do I say it in Swedish?"])
def test_a_prompt_that_asks_for_it(prompt):
    assert language_mix(scope_of("sft", [*english(30), chat(prompt, SWEDISH)])) is None


@pytest.mark.parametrize(
    "answer",
    ["Ja, gärna.", "Björn Ångström, Göteborg", "```\n" + SWEDISH + "\n```", "x = 3\ny = [1, 2, 3]\nprint(x + sum(y))"],
)
def test_what_is_too_short_a_name_or_code(answer):
    assert language_mix(scope_of("sft", [*english(30), chat("And then?", answer)])) is None


def test_each_task_has_its_own_language():
    rows = [*english(30, "one"), *[chat(SWEDISH, SWEDISH, task="two") for _ in range(30)]]
    assert language_mix(scope_of("sft", rows)) is None
    swapped = [*rows, chat(SWEDISH, SWEDISH, task="one"), chat(ASKS, ENGLISH[0], task="two")]
    assert lines(language_mix(scope_of("sft", swapped))) == [61, 62]


def test_the_end_of_a_long_document_is_looked_at():
    rows = [{"text": " ".join(ENGLISH * 6)} for _ in range(20)]
    mixed = {"text": f"{' '.join(ENGLISH * 6)}\n{' '.join([GERMAN] * 4)}"}
    assert lines(language_mix(scope_of("domain", [*rows, mixed]))) == [21]


def test_letters_and_probability_are_those_of_the_config():
    rows = [*english(30), chat("Und dann?", "Dann ist die Pumpe kalt.")]
    assert language_mix(scope_of("sft", rows)) is None
    assert lines(language_mix(scope_of("sft", rows, language_letters=10, language=0.5))) == [31]
