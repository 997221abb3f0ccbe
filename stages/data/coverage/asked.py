"""What a row asks: its last request, in a language that the rules can read or not."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from stages.data.contract import structure
from stages.data.contract.view import READS, Item, form_of, item
from stages.data.coverage import tasks
from stages.data.findings import Located

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
UNKNOWN, ENGLISH = "unknown", "en"
LETTERS = 40  # that a text must have for its language to be asked
SURE = 0.9  # probability from which a language counts
ASKED_LETTERS = 400  # of a text, for its language


@dataclass(frozen=True)
class Asked:
    """A row's last request, or its whole text where it has none, with what the modules of coverage ask of it."""

    item: Item
    text: str
    requests: tuple[str, ...]  # everything that the user asked, this last
    language: str  # two letters, or UNKNOWN

    @cached_property
    def task(self) -> str:
        """A key of tasks.TASKS, or tasks.OTHER."""
        return tasks.task_of(self.text)

    @property
    def english(self) -> bool:
        """Readable for rules that were made for English; a text too short to tell counts as such."""
        return self.language in (ENGLISH, UNKNOWN)


def asked(rows: Sequence[Located], stage: str) -> list[Asked]:
    """The rows that fit the stage."""
    fit = [i for i, located in enumerate(rows) if structure.problem(located.row, stage) is None]
    return [_asked(item(i, rows[i])) for i in fit]


def production(rows: Iterable[Located]) -> list[Asked]:
    """Rows of any form that can be read: a sample of production may be prompts, texts or conversations."""
    kept = []
    for i, located in enumerate(rows):
        form = form_of(located.row)
        stage = next((stage for stage, forms in READS.items() if form in forms), None)
        if stage and structure.problem(located.row, stage) is None:
            kept.append(_asked(item(i, located)))
    return kept


def _asked(each: Item) -> Asked:
    row = each.row
    turns = row.get("messages") or row.get("prompt") or []
    requests = tuple(turn.get("content") or "" for turn in turns if turn["role"] == "user")
    text = requests[-1] if requests else row.get("text", "")
    return Asked(each, text, requests, language(text))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(text: str) -> str:
    """The two letters of the text's language, or UNKNOWN where there is too little of it to tell."""
    start = text[:ASKED_LETTERS]
    if sum(map(str.isalpha, start)) < LETTERS:
        return UNKNOWN if start.isascii() else _by_script(start)
    name, probability = _identifier().classify(start)
    return name if probability >= SURE else UNKNOWN


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


def words(text: str) -> list[str]:
    """Its words in small letters, without digits."""
    return [word.replace("’", "'") for word in WORD.findall(text.lower())]
