"""What a constraint is: a frozen dataclass whose fields are the keys of an item's constraint beside `type`."""

import re
import unicodedata
from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Constraint(ABC):
    """One instruction whose keeping can be seen in the answer alone."""

    @abstractmethod
    def met(self, answer: str) -> bool:
        """Whether the answer, which is not empty, keeps to it."""


@dataclass(frozen=True, kw_only=True)
class Counted(Constraint):
    """Something of which the answer has at least `min` and at most `max`; both the same for an exact number."""

    min: int = 0
    max: int | None = None

    def __post_init__(self) -> None:
        if self.max is None and self.min == 0:
            raise ValueError("give `min`, `max` or both")
        if self.min < 0 or (self.max is not None and self.max < self.min):
            raise ValueError(f"min={self.min} and max={self.max}: 0 <= min <= max is needed")

    @abstractmethod
    def count(self, answer: str) -> int: ...

    def met(self, answer: str) -> bool:
        return self.min <= self.count(answer) and (self.max is None or self.count(answer) <= self.max)


def need_texts(name: str, texts: list, least: int = 1) -> None:
    """ValueError unless `texts` are at least so many texts, none of them empty."""
    if len(texts) < least or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"`{name}` is a list of at least {least} texts, none of them empty")


def need_text(name: str, text: str) -> None:
    """ValueError for an empty text."""
    if not text.strip():
        raise ValueError(f"`{name}` is empty")


def phrase(text: str) -> re.Pattern[str]:
    """Finds the words of a text as whole words, whatever their case, apostrophes and the white space between them."""
    words = r"\s+".join(map(re.escape, unicodedata.normalize("NFC", text).split()))
    words = re.sub("['\u2019]", "['\u2019]", words)
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def named(options: list[str], text: str) -> list[str]:
    """Which of the options a text names: "not sure" is not also "sure"."""
    found = []
    for option in sorted(options, key=len, reverse=True):
        text, times = phrase(option).subn(" | ", text)
        found += [option] if times else []
    return found
