import pytest
from contract_scopes import chat, lines, scope_of
from hypothesis import given
from hypothesis import strategies as st

from stages.data.contract.damage import damage, encoding_damage

CLEAN = [
    "Der Übergang über die Straße ist gesperrt – „bitte warten“.",
    "L’été à la plage, c’est « très » agréable, n’est-ce pas ?",
    "Mañana iré al colegio con el señor Núñez.",
    "Привет, как дела? Всё хорошо.",
    "你好，世界。今天天气很好。",
    "これは日本語の文章です。",
    "שלום עולם, مرحبا بالعالم",
    "Smörgåsbord på Åland, 20 °C ± 2, £5 and 3 €.",
    "Is it? What? Isn't it? The user?s who?",
    "Use `&amp;` in code, and Johnson & Johnson; in prose.",
    "The HTML entity &lt; stands for a less-than sign.",
    "In JSON \\u00e9 is an escaped é.",
    "C:\\new\\users and \\nabla and \\u in LaTeX",
]
DAMAGED = [
    "itâ€™s the cafÃ© of FranÃ§ois",
    "â€œquotedâ€\x9d",
    "ÐŸÑ€Ð¸Ð²ÐµÑ‚, Ð¼Ð¸Ñ€",
    "Microsoft\x92s terms",
    "the na\ufffdve reader",
    "锟斤拷",
    "I don?t know what it?s for",
    "it&#39;s the Q&amp;A of AT&amp;T",
    "it&amp;#39;s double",
    "caf\\u00e9 in the don\\u2019t",
    "The end.\\n\\nAnswer this.",
]


@pytest.mark.parametrize("text", CLEAN)
def test_clean_texts_of_many_languages(text):
    assert damage(text) is None


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_texts(text):
    span = damage(f"Before all that: {text}")
    assert span and 15 <= span.start < span.end


@pytest.mark.parametrize("encoding", ["latin-1", "sloppy-windows-1252"])
@pytest.mark.parametrize("text", [text for text in CLEAN[:7] if not text.isascii()])
def test_utf8_read_in_a_wrong_encoding(text, encoding):
    import ftfy.bad_codecs  # noqa: F401  registers the sloppy encodings

    once = text.encode().decode(encoding)
    assert damage(once) and damage(once.encode().decode(encoding))


@given(st.text(alphabet=st.characters(max_codepoint=127, exclude_characters="&\\?"), max_size=200))
def test_plain_ascii_is_never_damaged(text):
    assert damage(text) is None


def test_the_rows_and_the_place():
    rows = [chat("Who?", "Me."), chat("Who is itâ€™s?", "Me."), chat("Who?", "```\nx = '&amp;'\n```")]
    found = encoding_damage(scope_of("sft", rows))
    assert lines(found) == [2] and "itâ€™s" in found.marks[0].text and "1 of 3" in found.message
