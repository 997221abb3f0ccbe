"""Rewrites that keep the meaning of a prompt: made by rule, and verified before they count.

A rule and its undoing are written apart, and a rewrite is kept only if
1. it is another text than the prompt and than every earlier rewrite,
2. undoing the rule gives back the prompt to the letter,
3. the protected terms (`protected.py`), and what the item's check or choices name, are the same as often as before,
4. it is neither twice as long as the prompt nor a text of mostly other words.
What is rejected is counted with its reason.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from stages.evaluation.protected import CONTRACTED, protected

SYNONYMS = {  # each word on one side only, so that the table can be turned round
    "big": "large",
    "begin": "start",
    "buy": "purchase",
    "choose": "pick",
    "fix": "repair",
    "quick": "fast",
    "reply": "answer",
    "shop": "store",
    "show": "display",
    "tell me": "let me know",
    "want": "would like",
    "work out": "calculate",
    "write": "put down",
    "give me": "provide me with",
    "in your own words": "in words of your own",
    "change": "modify",
    "cover": "include",
    "program": "piece of software",
    "pass on": "redistribute",
}
BRITISH = {
    "colour": "color",
    "favourite": "favorite",
    "licence": "license",
    "licences": "licenses",
    "licensed": "licenced",
    "organise": "organize",
    "recognise": "recognize",
    "summarise": "summarize",
    "capitalise": "capitalize",
    "apologise": "apologize",
    "centre": "center",
    "metre": "meter",
    "metres": "meters",
    "litre": "liter",
    "litres": "liters",
    "grey": "gray",
    "behaviour": "behavior",
    "neighbour": "neighbor",
    "programme": "program",
    "cheque": "check",
}
POLITE = ("Please help me with this: ", "I have a request. ")
THANKS = " Thank you!"
WHAT_IS = re.compile(r"What is (the [^?.,\n]{3,60})\?")
GIVE = re.compile(r"State (the [^?.,\n]{3,60})\.")
IF_FIRST = re.compile(r"If ([^,?.\n]+), ([^,?.\n]+)([?.])")
IF_LAST = re.compile(r"([^,?.\n]+) if ([^,?.\n]+)([?.])")
LEAST_ALIKE, MOST_WORDS = 0.5, 2.0

Change = Callable[[str], str]


@dataclass(frozen=True)
class Rule:
    """A way to say it otherwise; `make` returns the text itself where it does not apply."""

    name: str
    make: Change
    undo: Change


@dataclass
class Rewritten:
    """The verified rewrites of one text by rule, and how many were rejected for which reason."""

    kept: dict[str, str] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)


def replaced(table: dict[str, str]) -> Change:
    """Every whole phrase of the table by its other side, with the case of its first letter."""
    sought = re.compile(
        rf"(?<![\w'])(?:{'|'.join(sorted(map(re.escape, table), key=len, reverse=True))})(?![\w'])", re.I
    )
    folded = {key.casefold(): value for key, value in table.items()}

    def put(match: re.Match[str]) -> str:
        new = folded[match.group().casefold()]
        return new[0].upper() + new[1:] if match.group()[0].isupper() else new

    return lambda text: sought.sub(put, text)


def table_rule(name: str, table: dict[str, str]) -> Rule:
    return Rule(name, replaced(table), replaced({value: key for key, value in table.items()}))


def wrapper(name: str, before: str, after: str = "") -> Rule:
    return Rule(name, lambda text: f"{before}{text}{after}", lambda text: text.removeprefix(before).removesuffix(after))


def _imperative(text: str) -> str:
    return f"State {found[1]}." if (found := WHAT_IS.fullmatch(text)) else text


def _question(text: str) -> str:
    return f"What is {found[1]}?" if (found := GIVE.fullmatch(text)) else text


def _if_last(text: str) -> str:
    found = IF_FIRST.fullmatch(text)
    return f"{_capital(found[2])} if {found[1]}{found[3]}" if found else text


def _if_first(text: str) -> str:
    found = IF_LAST.fullmatch(text)
    return f"If {found[2]}, {found[1][0].lower()}{found[1][1:]}{found[3]}" if found else text


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


RULES = (
    table_rule("synonyms", SYNONYMS),
    table_rule("contracted", CONTRACTED),
    table_rule("expanded", {short: plain for plain, short in CONTRACTED.items()}),
    table_rule("american", BRITISH),
    table_rule("british", {american: british for british, american in BRITISH.items()}),
    Rule("imperative", _imperative, _question),
    Rule("question", _question, _imperative),
    Rule("condition last", _if_last, _if_first),
    Rule("condition first", _if_first, _if_last),
    wrapper("please", POLITE[0]),
    wrapper("request", POLITE[1]),
    wrapper("thanks", "", THANKS),
)


def rewrites(text: str, count: int, terms: tuple[str, ...] = ()) -> Rewritten:
    """Up to `count` verified rewrites; `terms` are protected beside those that every text has."""
    found = Rewritten()
    for rule in RULES:
        new = rule.make(text)
        if new == text:
            continue  # the rule has nothing to say here
        if reason := problem(text, new, rule, terms, list(found.kept.values())):
            found.rejected[reason] += 1
        elif len(found.kept) < count:
            found.kept[rule.name] = new
    return found


def problem(text: str, new: str, rule: Rule, terms: tuple[str, ...] = (), others: list[str] | None = None) -> str:
    """Why the rewrite does not count, or nothing."""
    if any(_same(new, other) for other in (text, *(others or []))):
        return "identical"
    if rule.undo(new) != text:
        return "not reversible"
    if protected(text, terms) != protected(new, terms):
        return "protected term changed"
    old_words, new_words = text.split(), new.split()
    if len(new_words) > MOST_WORDS * len(old_words) + 8:
        return "too long"
    same = sum(block.size for block in SequenceMatcher(None, old_words, new_words, False).get_matching_blocks())
    return "too different" if same < LEAST_ALIKE * len(old_words) else ""


def _same(one: str, other: str) -> bool:
    return re.sub(r"\W+", " ", one).casefold().strip() == re.sub(r"\W+", " ", other).casefold().strip()


def terms_of(row: dict[str, Any]) -> tuple[str, ...]:
    """What the item's check or choices name: in a prompt these must stay as they are."""
    found: list[str] = list(row.get("choices", []))
    for key, value in row.get("check", {}).items():
        if key in ("answer", "text", "all", "any", "keys"):
            found += [str(part) for part in (value if isinstance(value, list | dict) else [value])]
    return tuple(dict.fromkeys(term for term in found if term.strip()))
