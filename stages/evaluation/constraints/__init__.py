"""Instructions whose keeping a program can see, in the manner of IFEval (Zhou et al. 2023, arXiv 2311.07911).

A constraint of an item is an object: {"type": ..., its keys}. Adding a type: a class in a file here and a line in
`TYPES`. Types and the reading of texts are the project's own; where one of them decides otherwise than the paper's
code, its docstring says so.
"""

import unicodedata
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any

from pipeline.errors import ConfigError
from stages.evaluation.constraints import counts, form, keywords, letters
from stages.evaluation.constraints.base import Constraint
from stages.evaluation.measurement import read_params

TYPES: dict[str, type[Constraint]] = {
    "words": counts.Words,
    "characters": counts.Characters,
    "lines": counts.Lines,
    "sentences": counts.Sentences,
    "questions": counts.Questions,
    "paragraphs": counts.Paragraphs,
    "bullets": counts.Bullets,
    "numbered_items": counts.NumberedItems,
    "headings": counts.Headings,
    "highlights": counts.Highlights,
    "sections": counts.Sections,
    "placeholders": counts.Placeholders,
    "capital_words": counts.CapitalWords,
    "keywords": keywords.Keywords,
    "forbidden": keywords.Forbidden,
    "keyword_order": keywords.KeywordOrder,
    "keyword_frequency": keywords.KeywordFrequency,
    "letter_frequency": keywords.LetterFrequency,
    "first_word_of_paragraph": keywords.FirstWordOfParagraph,
    "keyword_in_sentence": keywords.KeywordInSentence,
    "lowercase": letters.Lowercase,
    "uppercase": letters.Uppercase,
    "no_commas": letters.NoCommas,
    "without_characters": letters.WithoutCharacters,
    "language": letters.Language,
    "starts_with": form.StartsWith,
    "ends_with": form.EndsWith,
    "quotation": form.Quotation,
    "json": form.Json,
    "title": form.Title,
    "postscript": form.Postscript,
    "two_responses": form.TwoResponses,
    "repeat_prompt": form.RepeatPrompt,
    "one_of": form.OneOf,
    "table": form.Table,
    "code_block": form.CodeBlock,
}


def read(given: dict[str, Any], where: str = "constraint") -> Constraint:
    """The constraint that an item writes so. ConfigError says which key is wrong."""
    name = given.get("type") if isinstance(given, dict) else None
    if not isinstance(name, str):
        raise ConfigError(f"{where}: a constraint is an object with a `type`, a text, not {given!r}")
    if name not in TYPES:
        near = get_close_matches(name, TYPES, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(TYPES)}"
        raise ConfigError(f"{where}: type {name!r} is unknown; {hint}")
    kind = TYPES[name]
    keys = {name: value for name, value in given.items() if name != "type"}
    if missing := [field.name for field in fields(kind) if field.default is MISSING and field.name not in keys]:
        raise ConfigError(f"{where}: {given['type']} needs {', '.join(missing)}")
    try:
        return read_params(kind, keys, where)
    except ValueError as error:
        raise ConfigError(f"{where}: {given['type']}: {error}") from error


def problem(constraints: Any) -> str:
    """What is wrong with an item's constraints, or nothing."""
    if not isinstance(constraints, list) or not constraints:
        return f"`constraints` is a list of at least one constraint, not {constraints!r}"
    try:
        for number, given in enumerate(constraints):
            read(given, f"constraints[{number}]")
    except ConfigError as error:
        return str(error)
    return ""


def strict(constraint: Constraint, answer: str) -> bool:
    """Whether the answer as it is keeps to the constraint; one without a visible character keeps to none."""
    seen = any(unicodedata.category(letter)[0] not in "CZ" for letter in answer)
    return seen and constraint.met(unicodedata.normalize("NFC", answer))


def loose(constraint: Constraint, answer: str) -> bool:
    """Whether any reading of the answer does: as it is, without its stars, without its first or last line or both."""
    return any(strict(constraint, reading) for reading in readings(answer))


def readings(answer: str) -> list[str]:
    """The eight readings of section 2.2 of the paper: what a chatty opening, a closing or mark-up would hide."""
    rows = answer.split("\n")
    cut = [answer, *("\n".join(part).strip() for part in (rows[1:], rows[:-1], rows[1:-1]))]
    return [*cut, *(text.replace("*", "") for text in cut)]
