"""What a collection of English texts speaks about: the words that recur in it far more often than in general English.

The reference, `general_english.txt`, is made by `scripts/general_english.py`: Zipf values (log10 of a word's count in a
billion words), for every word the higher of an encyclopaedia and typed chats. So a word is not special because it is
rare in one of them.
"""

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import log10
from pathlib import Path

from stages.data.misuse.exchanges import listed

REFERENCE = Path(__file__).parent / "general_english.txt"
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
SMALL = listed("the of and to in a is that for it as with on be by this or an are from at not i you")
FLOOR = 3.4  # Zipf value of a word that the reference does not have
TIMES = 1.0  # log10 of how many times more often than in general English a specialist word is used
SPREAD = (3, 0.02)  # a specialist word is in at least so many texts, and in at least this share of them
LOWER = 0.3  # share of its uses in small letters below which a word is a name
LETTERS = 3  # a shorter word is a symbol or an abbreviation of anything
LONGEST = 2000  # words of a text that are read: no single text may be the whole vocabulary
SHORT = 20  # words below which a text does not tell its language
ENGLISH = 0.12  # share of small words from which a text is English prose, not a table, code or another language


@dataclass(frozen=True)
class Text:
    """The words of a text in their order, in small letters, and which of them were written so."""

    words: tuple[str, ...]
    lower: tuple[bool, ...]

    @property
    def english(self) -> bool:
        """By its small words; a text that is too short for that may be."""
        return len(self.words) < SHORT or small(self) >= ENGLISH * len(self.words)

    def density(self, terms: Container[str]) -> float:
        """Share of the words that are among the terms."""
        return sum(word in terms for word in self.words) / max(1, len(self.words))

    def weight(self, terms: Mapping[str, float]) -> float:
        """Mean weight of the words; those that are no terms have none."""
        return sum(terms.get(word, 0.0) for word in self.words) / max(1, len(self.words))


def small(text: Text) -> int:
    return sum(word in SMALL for word in text.words)


def prose(texts: Sequence[Text]) -> list[Text]:
    """The English ones; none where the texts together are not English."""
    if sum(map(small, texts)) < ENGLISH * sum(len(text.words) for text in texts):
        return []
    return [text for text in texts if text.words and text.english]


def read(text: str) -> Text:
    """The first words of a text."""
    found = [match[0] for match, _ in zip(WORD.finditer(text), range(LONGEST), strict=False)]
    return Text(tuple(word.lower().replace("’", "'") for word in found), tuple(word[0].islower() for word in found))


def pieces(text: str, words: int) -> list[str]:
    """The text in pieces of about so many words, for a collection that is a few long texts."""
    parts = text.split()
    return [" ".join(parts[start : start + words]) for start in range(0, len(parts), words)]


@cache
def general_english() -> dict[str, float]:
    """Word -> Zipf value."""
    lines = (line.split() for line in REFERENCE.read_text(encoding="utf-8").splitlines())
    return {word: float(zipf) for zipf, *words in lines for word in words}


def specialist(texts: Sequence[Text]) -> dict[str, float]:
    """Words that recur, far more often than in general English -> log10 of how many times; the most used first.

    Names are left out: they tell of one event or story, not of a field.
    """
    counts, within, lower = Counter[str](), Counter[str](), Counter[str]()
    for text in texts:
        counts.update(text.words)
        within.update(set(text.words))
        lower.update(word for word, small in zip(text.words, text.lower, strict=True) if small)
    fewest = max(SPREAD[0], SPREAD[1] * len(texts))
    recur = [word for word, _ in counts.most_common() if within[word] >= fewest and len(word) >= LETTERS]
    times = {
        word: keyness(word, counts[word] / counts.total()) for word in recur if lower[word] >= LOWER * counts[word]
    }
    return {word: key for word, key in times.items() if key >= TIMES}


def keyness(word: str, part: float) -> float:
    """log10 of a word's part of all words over its part in general English."""
    return log10(part * 1e9) - general_english().get(word, FLOOR)
