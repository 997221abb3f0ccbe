"""A text as the rules of coverage read it: its words, and its language where there is enough of it to tell."""

import re
from collections.abc import Iterable, Iterator

from stages.data.contract.identifier import identifier

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
UNKNOWN, ENGLISH = "unknown", "en"
LETTERS = 40  # that a text must have for its language to be asked
SURE = 0.9  # probability from which a language counts
ASKED_LETTERS = 400  # of a text, for its language


def words(text: str) -> list[str]:
    """Its words in small letters, without digits."""
    return [word.replace("’", "'") for word in WORD.findall(text.lower())]


def language(text: str) -> str:
    """The two letters of the text's language, or UNKNOWN where there is too little of it to tell."""
    start = text[:ASKED_LETTERS]
    if not _tells(start):
        return UNKNOWN if start.isascii() else _by_script(start)
    name, probability = identifier().classify(start)
    return name if probability >= SURE else UNKNOWN


def starts(texts: Iterable[str]) -> Iterator[str]:
    """What the model is asked about, of texts that have enough for it."""
    return filter(_tells, (text[:ASKED_LETTERS] for text in texts))


def _tells(start: str) -> bool:
    return sum(map(str.isalpha, start)) >= LETTERS


def _by_script(text: str) -> str:
    """A few letters of a script that one language writes, or of one that English does not."""
    for name, letters in SCRIPTS:
        if len(letters.findall(text)) >= 3:
            return name
    return UNKNOWN


SCRIPTS = tuple(
    (name, re.compile(letters))
    for name, letters in (
        ("ja", "[\u3040-\u30ff]"),
        ("zh", "[\u4e00-\u9fff]"),
        ("ko", "[\uac00-\ud7af]"),
        ("ar", "[\u0600-\u06ff]"),
        ("he", "[\u0590-\u05ff]"),
        ("hi", "[\u0900-\u097f]"),
        ("th", "[\u0e00-\u0e7f]"),
        ("el", "[\u0370-\u03ff]"),
        ("ru", "[\u0400-\u04ff]"),
    )
)
