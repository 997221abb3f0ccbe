"""How an answer falls into words, sentences, paragraphs and lines."""

import re
import unicodedata

MARKS = "".join(chr(code) for code in range(0x300, 0xAC00) if unicodedata.category(chr(code)).startswith("M"))
LETTERS = rf"\w[\w{MARKS}]*"  # vowel signs and accents are no letters of their own to `re`
WORD = re.compile(rf"{LETTERS}(?:['’-]{LETTERS}|(?<=\d)[.,]\d+)*")
STOP = re.compile(r"[.!?…。！？]+[\"'”’)\]*_]*(?=\s|$)|(?<=[。！？])|\n\s*\n|\n(?=\s*(?:[-*•+]|\d+[.)])\s)")
ABBREVIATION = re.compile(
    r"(?i:\b(?:mr|mrs|ms|dr|prof|st|vs|cf|jr|sr|inc|ltd|e\.g|i\.e|approx|dept))\.\Z|\b[A-Z]\.\Z|^\s*\d+\.\Z",
    re.MULTILINE,
)
ITEM = re.compile(r"^\s*[-*•+]\s+\S", re.MULTILINE)
NUMBERED = re.compile(r"^\s*\d+[.)]\s+\S", re.MULTILINE)


def words(text: str) -> list[str]:
    """Runs of letters and digits; an apostrophe or a hyphen inside joins them, a point or a comma inside a number."""
    return WORD.findall(text)


def lines(text: str) -> list[str]:
    """Lines that are not empty."""
    return [line for line in text.splitlines() if line.strip()]


def paragraphs(text: str, divider: str = "") -> list[str]:
    """What stands between empty lines, or between dividers; without what is empty."""
    parts = text.split(divider) if divider else re.split(r"\n\s*\n", text)
    return [part.strip() for part in parts if part.strip()]


def sentences(text: str) -> list[str]:
    """Stretches with a word, up to a full stop, question or exclamation mark, an empty line or the next list item.

    Stops of common abbreviations, initials and numbers at the start of a line end nothing.
    """
    found, start = [], 0
    for stop in STOP.finditer(text):
        if not ABBREVIATION.search(text[start : stop.end()]):
            found.append(text[start : stop.end()].strip())
            start = stop.end()
    return [part for part in [*found, text[start:].strip()] if WORD.search(part)]
