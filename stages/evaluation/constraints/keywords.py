"""Constraints on words and letters that an answer has or has not. Words are whole, whatever their case."""

import unicodedata
from dataclasses import dataclass

from stages.evaluation.constraints.base import Constraint, Counted, need_text, need_texts, phrase
from stages.evaluation.constraints.parts import paragraphs, sentences, words


@dataclass(frozen=True)
class Keywords(Constraint):
    """Every one of the words or phrases `all` is there (the paper's code also takes parts of words)."""

    all: list

    def __post_init__(self) -> None:
        need_texts("all", self.all)

    def met(self, answer: str) -> bool:
        return all(phrase(word).search(answer) for word in self.all)


@dataclass(frozen=True)
class Forbidden(Constraint):
    """None of the words or phrases `words` is there."""

    words: list

    def __post_init__(self) -> None:
        need_texts("words", self.words)

    def met(self, answer: str) -> bool:
        return not any(phrase(word).search(answer) for word in self.words)


@dataclass(frozen=True)
class KeywordOrder(Constraint):
    """The words or phrases `all` are there, each one after the one before it."""

    all: list

    def __post_init__(self) -> None:
        need_texts("all", self.all, least=2)

    def met(self, answer: str) -> bool:
        at = 0
        for word in self.all:
            found = phrase(word).search(answer, at)
            if not found:
                return False
            at = found.end()
        return True


@dataclass(frozen=True, kw_only=True)
class KeywordFrequency(Counted):
    """How often the word or phrase `keyword` is there (the paper's code also counts parts of words)."""

    keyword: str

    def __post_init__(self) -> None:
        super().__post_init__()
        need_text("keyword", self.keyword)

    def count(self, answer: str) -> int:
        return len(phrase(self.keyword).findall(answer))


@dataclass(frozen=True, kw_only=True)
class LetterFrequency(Counted):
    """How often the character `letter` is there, as a small or a capital letter."""

    letter: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(unicodedata.normalize("NFC", self.letter)) != 1:
            raise ValueError(f"letter={self.letter!r}: one character")

    def count(self, answer: str) -> int:
        return answer.lower().count(unicodedata.normalize("NFC", self.letter).lower())


@dataclass(frozen=True, kw_only=True)
class FirstWordOfParagraph(Constraint):
    """The paragraph at this place, from 1, begins with `word`; with `paragraphs`, the answer has so many."""

    paragraph: int
    word: str
    paragraphs: int | None = None

    def __post_init__(self) -> None:
        if not words(self.word):
            raise ValueError(f"word={self.word!r}: a word")
        if self.paragraph < 1 or (self.paragraphs is not None and self.paragraphs < self.paragraph):
            raise ValueError(f"paragraph={self.paragraph} of {self.paragraphs}: they count from 1")

    def met(self, answer: str) -> bool:
        found = paragraphs(answer)
        if self.paragraphs not in (None, len(found)) or len(found) < self.paragraph:
            return False
        return _begins(found[self.paragraph - 1], self.word)


def _begins(text: str, word: str) -> bool:
    """Whether the text's first words are these, whatever their case."""
    wanted = [part.lower() for part in words(word)]
    return [part.lower() for part in words(text)[: len(wanted)]] == wanted


@dataclass(frozen=True, kw_only=True)
class KeywordInSentence(Constraint):
    """The sentence at this place, from 1, has the word or phrase `keyword`; -1 is the last sentence."""

    sentence: int
    keyword: str

    def __post_init__(self) -> None:
        need_text("keyword", self.keyword)
        if self.sentence == 0:
            raise ValueError("sentence=0: sentences count from 1, or from -1 for the last")

    def met(self, answer: str) -> bool:
        found = sentences(answer)
        place = self.sentence - 1 if self.sentence > 0 else len(found) + self.sentence
        return 0 <= place < len(found) and phrase(self.keyword).search(found[place]) is not None
