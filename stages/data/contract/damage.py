"""Texts that were decoded wrongly: mojibake, characters that stand for lost ones, entities and escapes in prose."""

import re
from collections.abc import Sequence

from stages.data.contract.spans import Span, blanked, first
from stages.data.contract.view import Found, Item, Mark, Scope, share

REPLACED = re.compile("\ufffd|锟斤拷|[\x80-\x84\x86-\x9f]|[\ud800-\udfff]")
LOST = re.compile(  # an apostrophe that an encoding without it made a question mark
    r"\b(?:[A-Za-z]+n\?t|I\?(?:m|d|ve|ll)|(?:[Ii]t|[Tt]hat|[Tt]here|[Ww]hat|[Hh]e|[Ss]he)\?s|"
    r"(?:[Yy]ou|[Ww]e|[Tt]hey)\?(?:re|ve|ll))\b"
)
ENTITY = re.compile(
    r"&(?:amp;)?(?:#\d{2,6}|#x[0-9a-fA-F]{2,5}|amp|quot|apos|nbsp|lt|gt|[lr][sd]quo|[mn]dash|hellip|"
    r"[A-Za-z](?:acute|grave|uml|circ|tilde|ring|cedil|slash)|szlig|aelig|copy|reg|trade|deg|euro|pound|middot|bull);"
)
ABOUT_ENTITIES = re.compile(r"html|xml|entit|escap|encod|\bxss\b|</?[a-z][a-z0-9]*[ >/]|sanitiz", re.I)
ESCAPE = re.compile(
    r"[^\W\d_]\\u[0-9a-fA-F]{4}|\\u[0-9a-fA-F]{4}[^\W\d_]|[^\W\d_]\\x[89a-f][0-9a-f]|[.!?][\"”]?\\n(?:\\n|[A-Z0-9*-])"
)
ABOUT_ESCAPES = re.compile(
    r"unicode|escap|json|regex|regular expression|utf-?8|print\(|\bdef |\"\\|'\\|console\.|newline", re.I
)


def encoding_damage(scope: Scope) -> Found | None:
    """Rows with a text in which characters were lost or turned into others."""
    hits = zip(scope.items, scope.each(damaged), strict=True)
    found = [Mark(item.index, text) for item, text in hits if text is not None]
    if not found:
        return None
    shown = " ".join(found[0].text.split())
    return Found(
        found,
        f"{share(len(found), len(scope.rows))} rows have texts that were decoded wrongly; the first: {shown}.",
        "Read the source again with its own encoding (often cp1252 is taken for UTF-8 or the reverse) and unescape it; "
        "`ftfy.fix_text` mends much of what is left.",
    )


def damaged(items: Sequence[Item], scope: Scope) -> list[str | None]:
    """The place in each item that shows it."""
    return [first(item.said, damage) for item in items]


def damage(text: str) -> Span | None:
    """The first damaged place. Entities and escapes count in prose only, not in code or in talk of them."""
    if not text.isascii():
        span = _mojibake(text)
        if span:
            return span
    if "?" not in text and "&" not in text and "\\" not in text:
        return None
    prose = blanked(text)
    match = LOST.search(prose)
    if match is None and "&" in prose and not ABOUT_ENTITIES.search(prose):
        match = ENTITY.search(prose)
    if match is None and "\\" in prose and not ABOUT_ESCAPES.search(prose):
        match = ESCAPE.search(prose)
    return Span("damage", match.start(), match.end()) if match else None


def _mojibake(text: str) -> Span | None:
    """What ftfy calls bad and can make something of, or characters that stand for lost ones."""
    match = REPLACED.search(text)
    if match:
        return Span("damage", match.start(), match.end())
    from ftfy import fix_encoding
    from ftfy.badness import BADNESS_RE

    start = 0
    for line in text.splitlines(keepends=True):
        found = BADNESS_RE.search(line) if not line.isascii() else None
        if found and fix_encoding(line) != line:
            return Span("damage", start + found.start(), start + found.end())
        start += len(line)
    return None
