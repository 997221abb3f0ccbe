"""Terms of a reward that are rules: each scores an answer without a model.

A term is a frozen dataclass; its fields are the keys that `reward.terms.NAME` may have beside `kind`, `weight` and
`at_least` (see `combined.py`). Scores are larger for better answers: 0 to 1 for what is met, negative for what is
punished. `finished: true` takes an answer that was cut off at its limit for one that fails.
"""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pipeline.errors import ConfigError
from stages.evaluation.checks import Check, passes, problem
from stages.evaluation.measurement import Row, option, read_params

UNITS = ("words", "characters", "tokens")


class Term(ABC):
    """One rule. Stateless: the same answers get the same scores."""

    def row_problem(self, row: Row) -> str:
        """Why answers to this row cannot be scored, or nothing."""
        return ""

    @abstractmethod
    def score(self, rows: list[Row], answers: list[str], ended: list[bool], lengths: list[int]) -> list[float]:
        """A score for each answer to the row in its place. `ended`: whether by EOS; `lengths`: tokens, EOS included."""


@dataclass(frozen=True)
class Checker(Term):
    """1 if the answer passes the row's own `check` (`stages/evaluation/checks.py`), else 0."""

    missing: str = option("error", "error", "zero")  # a row without a check: refused, or each answer to it scores 0
    finished: bool = False

    def row_problem(self, row: Row) -> str:
        if "check" in row:
            return problem(row["check"])
        return "" if self.missing == "zero" else "no `check`; set `missing: zero`, or use a set of format generate"

    def score(self, rows: list[Row], answers: list[str], ended: list[bool], lengths: list[int]) -> list[float]:
        checks = [row.get("check") if end or not self.finished else None for row, end in zip(rows, ended, strict=True)]
        return [float(check is not None and passes(check, said)) for check, said in zip(checks, answers, strict=True)]


@dataclass(frozen=True)
class Format(Term):
    """1 if the answer passes `check`, the same for every row: a regex, JSON, a number of lines or words; else 0."""

    check: dict = field(default_factory=dict)
    finished: bool = False

    def __post_init__(self) -> None:
        if found := problem(self.check):
            raise ValueError(f"check: {found}")

    def score(self, rows: list[Row], answers: list[str], ended: list[bool], lengths: list[int]) -> list[float]:
        check: Check = self.check
        return [float((end or not self.finished) and passes(check, a)) for a, end in zip(answers, ended, strict=True)]


@dataclass(frozen=True)
class Length(Term):
    """How near an answer's length is to `target`, or what it costs beyond `free`.

    With a target: 1 up to `tolerance` away from it, then falling in a straight line to 0, reached one target further.
    With free: minus 1 for each unit above it; scale it by the term's weight.
    """

    target: int | None = None
    tolerance: int = 0
    free: int | None = None
    unit: str = option("words", *UNITS)

    def __post_init__(self) -> None:
        if (self.target is None) == (self.free is None):
            raise ValueError("give either `target` or `free`")
        if self.target is not None and self.target < 1:
            raise ValueError(f"target={self.target}: it must be 1 or more")
        if min(self.tolerance, self.free or 0) < 0:
            raise ValueError(f"tolerance={self.tolerance} and free={self.free}: neither may be negative")
        if self.tolerance and self.target is None:
            raise ValueError("`tolerance` belongs to a `target`")

    def score(self, rows: list[Row], answers: list[str], ended: list[bool], lengths: list[int]) -> list[float]:
        return [self._of(size) for size in sizes(self.unit, answers, lengths)]

    def _of(self, size: int) -> float:
        if self.target is None:
            return float(-max(0, size - self.free))
        away = max(0, abs(size - self.target) - self.tolerance)
        return max(0.0, 1 - away / self.target)


def sizes(unit: str, answers: list[str], lengths: list[int]) -> list[int]:
    """The length of each answer in this unit."""
    if unit == "tokens":
        return lengths
    return [len(answer.split()) if unit == "words" else len(answer) for answer in answers]


@dataclass(frozen=True)
class Ban(Term):
    """Minus 1 for each use of a banned word or phrase, down to minus `cap`. Whole words, whatever their case."""

    words: list = field(default_factory=list)
    cap: int = 3

    def __post_init__(self) -> None:
        if not self.words or not all(isinstance(word, str) and word.strip() for word in self.words):
            raise ValueError("`words` must be a list of at least one word or phrase, none of them empty")
        if self.cap < 1:
            raise ValueError(f"cap={self.cap}: it must be 1 or more")

    def score(self, rows: list[Row], answers: list[str], ended: list[bool], lengths: list[int]) -> list[float]:
        banned = self._pattern()
        return [float(-min(self.cap, len(banned.findall(plain(answer))))) for answer in answers]

    def _pattern(self) -> re.Pattern[str]:
        """The longest first, so that a phrase counts once and not again for a word in it."""
        ordered = sorted((plain(word).split() for word in self.words), key=lambda parts: -len(" ".join(parts)))
        any_of = "|".join(r"\s+".join(map(re.escape, parts)) for parts in ordered)
        return re.compile(rf"(?<!\w)(?:{any_of})(?!\w)")


@dataclass(frozen=True)
class Reference(Term):
    """How much the answer says what a text of its row says: F1 over words (as SQuAD, arXiv 1606.05250), or the same."""

    field: str = "reference"  # of the row: a text, or a list of texts of which the nearest counts
    measure: str = option("f1", "f1", "exact")

    def row_problem(self, row: Row) -> str:
        texts = self._texts(row)
        if texts and all(isinstance(text, str) and spoken(text) for text in texts):
            return ""
        return f"its `{self.field}` is no text; name the field that holds the reference answer with `field`"

    def score(self, rows: list[Row], answers: list[str], ended: list[bool], lengths: list[int]) -> list[float]:
        measure = f1 if self.measure == "f1" else same
        pairs = zip(rows, answers, strict=True)
        return [max(measure(spoken(text), spoken(answer)) for text in self._texts(row)) for row, answer in pairs]

    def _texts(self, row: Row) -> list[str]:
        found = row.get(self.field, [])
        return found if isinstance(found, list) else [found]


def same(reference: list[str], answer: list[str]) -> float:
    return float(reference == answer)


def f1(reference: list[str], answer: list[str]) -> float:
    """Twice the words in common over the words in both, each word as often as it occurs."""
    return 2 * (Counter(reference) & Counter(answer)).total() / (len(reference) + len(answer))


def spoken(text: str) -> list[str]:
    """The words of a text without case, punctuation and mark-up."""
    return re.findall(r"\w+(?:[-'.]\w+)*", plain(text))


def plain(text: str) -> str:
    """One spelling for what looks the same: no case, no ligatures or wide letters, straight apostrophes."""
    return unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")


TERMS: dict[str, type[Term]] = {
    "checker": Checker,
    "length": Length,
    "format": Format,
    "ban": Ban,
    "reference": Reference,
}


def make(where: str, given: Mapping[str, Any]) -> Term:
    """The term of a mapping {kind, its keys}; ConfigError says what is wrong with it, under `where`."""
    kind, params = given.get("kind"), {key: value for key, value in given.items() if key != "kind"}
    check_kind(where, kind, TERMS)
    try:
        return read_params(TERMS[kind], params, where)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def check_kind(where: str, kind: Any, known: Collection[str]) -> None:
    if kind not in known:
        near = get_close_matches(str(kind), known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{where}.kind={kind}: use {', '.join(known)}{hint}")
