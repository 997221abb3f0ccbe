"""Constraints on case, punctuation and language."""

import unicodedata
from dataclasses import dataclass

from stages.data.contract.identifier import identifier
from stages.evaluation.constraints.base import Constraint

SURE = 0.999  # probability from which the other languages are not asked


class Lowercase(Constraint):
    """Letters, and all of them small (the paper's code also asks that the text is English)."""

    def met(self, answer: str) -> bool:
        return answer.islower()


class Uppercase(Constraint):
    """Letters, and all of them capitals (the paper's code also asks that the text is English)."""

    def met(self, answer: str) -> bool:
        return answer.isupper()


class NoCommas(Constraint):
    """No comma, also not one of Arabic, Chinese or Japanese."""

    def met(self, answer: str) -> bool:
        return not any(letter == "," or "COMMA" in unicodedata.name(letter, "").split() for letter in set(answer))


@dataclass(frozen=True)
class WithoutCharacters(Constraint):
    """None of these characters: `characters: "0123456789"` for an answer without digits."""

    characters: str

    def __post_init__(self) -> None:
        if not self.characters:
            raise ValueError("`characters` is empty")

    def met(self, answer: str) -> bool:
        return not set(self.characters) & set(answer)


@dataclass(frozen=True)
class Language(Constraint):
    """The answer is in this language (ISO 639-1), as py3langid tells it; give it a sentence at least."""

    code: str

    def __post_init__(self) -> None:
        if self.code not in identifier().nb_classes:
            raise ValueError(f"code={self.code!r}: py3langid tells {', '.join(sorted(set(identifier().nb_classes)))}")

    def met(self, answer: str) -> bool:
        return identifier().likely(answer, SURE)[0][0] == self.code
