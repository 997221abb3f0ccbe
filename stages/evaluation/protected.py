"""What a rewording must not touch: names, numbers, negations, quantities, duties, code and quotations in a prompt."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

CONTRACTED = {  # bijective, so that it can be undone; "won't" and "can't" first, as they change their stem
    "will not": "won't",
    "cannot": "can't",
    "do not": "don't",
    "does not": "doesn't",
    "did not": "didn't",
    "is not": "isn't",
    "are not": "aren't",
    "was not": "wasn't",
    "should not": "shouldn't",
    "would not": "wouldn't",
    "could not": "couldn't",
    "must not": "mustn't",
    "what is": "what's",
    "that is": "that's",
    "it is": "it's",
    "I am": "I'm",
    "I have": "I've",
    "I would": "I'd",
    "we are": "we're",
    "you are": "you're",
}
NUMBERS = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|thousand"
    "|million|half|third|quarter|first|second|last|twice|once|double|dozen"
)
PATTERN = re.compile(
    r"```.*?```|`[^`\n]*`"  # code
    r"|\"[^\"\n]*\"|“[^”\n]*”"  # quotations
    r"|https?://\S+|[\w.+-]+@[\w-]+\.\w+"
    r"|\b(?=[\w.,:/+-]*\d)\w[\w.,:/+-]*\w|\d"  # whatever holds a digit: numbers, versions, SPDX ids
    r"|\b[A-Za-z]*[A-Z]{2,}[A-Za-z]*(?:-\w+)*\b|\b[A-Za-z]+-[A-Z][\w-]*"  # acronyms, and ids with a hyphen
    r"|(?<=[a-z,;] )[A-Z][a-z]+\b"  # names inside a sentence
    rf"|(?i:\b(?:{NUMBERS})\b)"
    r"|(?i:\b(?:not|no|never|none|nobody|nothing|neither|nor|without|except|unless)\b)"
    r"|(?i:\b(?:all|every|each|any|some|only|both|either|few|many|most|more|less|least|fewer|at most|exactly)\b)"
    r"|(?i:\b(?:must|may|shall|should|can|could|need|have to|allowed|forbidden|required)\b)",
    re.DOTALL,
)


def expanded(text: str) -> str:
    """The text without contractions: a negation counts the same in both spellings."""
    for plain, short in CONTRACTED.items():
        text = re.sub(rf"\b{re.escape(short)}\b", plain, text, flags=re.IGNORECASE)
    return re.sub(r"\bcannot\b", "can not", text, flags=re.IGNORECASE)


def spans(text: str, terms: Iterable[str] = ()) -> list[tuple[int, int]]:
    """Where protected terms stand, and each of the given further `terms`."""
    found = [match.span() for match in PATTERN.finditer(text)]
    return found + [match.span() for term in terms for match in _sought(term).finditer(text)]


def protected(text: str, terms: Iterable[str] = ()) -> Counter[str]:
    """The protected terms with how often each occurs, as folded text; quotations and code to the letter."""
    plain = expanded(text)
    found = Counter(_folded(match.group()) for match in PATTERN.finditer(plain))
    for term in terms:
        found[f"term {term}"] += len(_sought(term).findall(plain))
    return found


def _folded(term: str) -> str:
    return term if term[0] in '`"“' else term.casefold()


@lru_cache(maxsize=4096)
def _sought(term: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(term)}(?!\w)", re.IGNORECASE)
