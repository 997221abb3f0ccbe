"""Constraints on an answer's form: its beginning and end, its parts, its notation."""

import re
import unicodedata
from dataclasses import dataclass

from stages.evaluation.constraints.base import Constraint, named, need_text, need_texts
from stages.evaluation.structured import whole_json

QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»"}
AROUND = " \t\r\n\"'“”*_"
TITLE = re.compile(r"<<[^<>\n]*\w[^<>\n]*>>")
RULE = r":?-+:?"  # under a column's head
TABLE = re.compile(rf"^.*\|.*\n[ \t]*\|?[ \t]*{RULE}[ \t]*(?:\|[ \t]*{RULE}[ \t]*)*\|?[ \t]*$", re.MULTILINE)
CODE = re.compile(r"^ {0,3}```([^\n`]*)\n.*?^ {0,3}```\s*$", re.MULTILINE | re.DOTALL)


def plain(text: str) -> str:
    """Small letters, single spaces, nothing but the words at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).strip(AROUND).lower().split())


@dataclass(frozen=True)
class StartsWith(Constraint):
    """The answer begins with this text, whatever its case, quotes and mark-up before it."""

    text: str

    def __post_init__(self) -> None:
        need_text("text", plain(self.text))

    def met(self, answer: str) -> bool:
        return plain(answer).startswith(plain(self.text))


@dataclass(frozen=True)
class EndsWith(Constraint):
    """The answer ends with this text, and nothing but quotes and mark-up after it."""

    text: str

    def __post_init__(self) -> None:
        need_text("text", plain(self.text))

    def met(self, answer: str) -> bool:
        return plain(answer).endswith(plain(self.text))


class Quotation(Constraint):
    """The whole answer stands between double quotation marks; curly ones, too (not in the paper's code)."""

    def met(self, answer: str) -> bool:
        bare = answer.strip()
        return len(bare) > 2 and QUOTES.get(bare[0]) == bare[-1]


class Json(Constraint):
    """The whole answer is JSON, also inside a code fence (which the paper's code lets stay open)."""

    def met(self, answer: str) -> bool:
        try:
            whole_json(answer)
        except ValueError:
            return False
        return True


class Title(Constraint):
    """A title in double angle brackets, as in `<<A winter walk>>`, and no bracket in it."""

    def met(self, answer: str) -> bool:
        return TITLE.search(answer) is not None


@dataclass(frozen=True)
class Postscript(Constraint):
    """A line that begins with this marker and goes on (the paper's code takes it anywhere)."""

    marker: str = "P.S."

    def __post_init__(self) -> None:
        need_text("marker", self.marker)

    def met(self, answer: str) -> bool:
        letters = r"\s?".join(map(re.escape, re.findall(r"\S", self.marker)))
        return re.search(rf"^[\s*_]*{letters}[^\w\n]*\w", answer, re.IGNORECASE | re.MULTILINE) is not None


@dataclass(frozen=True)
class TwoResponses(Constraint):
    """Two different answers with `divider` between them."""

    divider: str = "******"

    def __post_init__(self) -> None:
        need_text("divider", self.divider)

    def met(self, answer: str) -> bool:
        parts = [part.strip() for part in answer.split(self.divider)]
        inner = parts[not parts[0] : len(parts) - (not parts[-1])]  # a divider before or after both is forgiven
        return len(inner) == 2 and all(inner) and inner[0] != inner[1]


@dataclass(frozen=True)
class RepeatPrompt(Constraint):
    """The answer first says this text word for word, whatever its case, and goes on (need not in the paper's code)."""

    text: str

    def __post_init__(self) -> None:
        need_text("text", plain(self.text))

    def met(self, answer: str) -> bool:
        whole = plain(self.text)
        return plain(answer).startswith(whole) and len(plain(answer)) > len(whole)


@dataclass(frozen=True)
class OneOf(Constraint):
    """Just one of these options is there (the paper's code also takes an answer that names several)."""

    options: list

    def __post_init__(self) -> None:
        need_texts("options", self.options, least=2)

    def met(self, answer: str) -> bool:
        return len(named(self.options, answer)) == 1


@dataclass(frozen=True)
class Table(Constraint):
    """A Markdown table, with `columns` of exactly so many."""

    columns: int | None = None

    def __post_init__(self) -> None:
        if self.columns is not None and self.columns < 1:
            raise ValueError(f"columns={self.columns}: at least 1")

    def met(self, answer: str) -> bool:
        heads = [found[0].strip().split("\n")[0] for found in TABLE.finditer(answer)]
        return any(self.columns in (None, head.strip().strip("|").count("|") + 1) for head in heads)


@dataclass(frozen=True)
class CodeBlock(Constraint):
    """A fenced code block, with `language` marked as such."""

    language: str | None = None

    def met(self, answer: str) -> bool:
        marks = [mark.strip().lower() for mark in CODE.findall(answer)]
        return bool(marks) if self.language is None else self.language.lower() in marks
