"""Constraints on how many of something an answer has."""

import re
from dataclasses import dataclass

from stages.evaluation.constraints.base import Counted, need_text
from stages.evaluation.constraints.parts import ITEM, NUMBERED, lines, paragraphs, sentences, words
from stages.evaluation.measurement import option

HEADING = re.compile(r"^#{1,6} +\S", re.MULTILINE)
HIGHLIGHT = re.compile(r"(?<!\*)(\*{1,2})(?![\s*])[^*\n]*(?<!\s)\1(?!\*)")
PLACEHOLDER = re.compile(r"\[[^\[\]\n]*\w[^\[\]\n]*\](?!\()")


class Words(Counted):
    """Words; *don't*, *well-known* and *3.14* are one each (the paper's code counts two)."""

    def count(self, answer: str) -> int:
        return len(words(answer))


class Characters(Counted):
    """Characters, white space around the answer not counted."""

    def count(self, answer: str) -> int:
        return len(answer.strip())


class Lines(Counted):
    """Lines that are not empty."""

    def count(self, answer: str) -> int:
        return len(lines(answer))


class Sentences(Counted):
    """Sentences; an empty line or a new list item ends one, too (the paper's code asks a trained splitter)."""

    def count(self, answer: str) -> int:
        return len(sentences(answer))


class Questions(Counted):
    """Sentences that end with a question mark."""

    def count(self, answer: str) -> int:
        return sum(sentence.rstrip("\"'”’)]*_").endswith(("?", "？")) for sentence in sentences(answer))


@dataclass(frozen=True, kw_only=True)
class Paragraphs(Counted):
    """Paragraphs between empty lines, or with `divider: ***` between these marks.

    Empty ones do not count (an answer with one is wrong to the paper's code).
    """

    divider: str = option("empty_line", "empty_line", "***")

    def count(self, answer: str) -> int:
        return len(paragraphs(answer, "" if self.divider == "empty_line" else self.divider))


class Bullets(Counted):
    """List items: lines that begin with `-`, `*`, `+` or `•` and a space (the paper's code needs no space)."""

    def count(self, answer: str) -> int:
        return len(ITEM.findall(answer))


class NumberedItems(Counted):
    """List items: lines that begin with a number and a stop or a bracket."""

    def count(self, answer: str) -> int:
        return len(NUMBERED.findall(answer))


class Headings(Counted):
    """Markdown headings, as in `## Costs`."""

    def count(self, answer: str) -> int:
        return len(HEADING.findall(answer))


class Highlights(Counted):
    """Stretches in Markdown `*emphasis*` or `**strong emphasis**`; the stars of a list are none."""

    def count(self, answer: str) -> int:
        return len(HIGHLIGHT.findall(answer))


@dataclass(frozen=True, kw_only=True)
class Sections(Counted):
    """Lines that begin with `marker` and a number, as in `Section 1` (the paper's code takes them anywhere)."""

    marker: str

    def __post_init__(self) -> None:
        super().__post_init__()
        need_text("marker", self.marker)

    def count(self, answer: str) -> int:
        return len(re.findall(rf"^[\s#*_]*{re.escape(self.marker)}\s*\d+\b", answer, re.IGNORECASE | re.MULTILINE))


class Placeholders(Counted):
    """Placeholders in square brackets, as in `[your name]`; links and empty brackets are none."""

    def count(self, answer: str) -> int:
        return len(PLACEHOLDER.findall(answer))


class CapitalWords(Counted):
    """Words whose letters are all capitals; *I* and *A* are such words."""

    def count(self, answer: str) -> int:
        return sum(word.isupper() for word in words(answer))
