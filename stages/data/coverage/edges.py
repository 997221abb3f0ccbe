"""Edge cases: prompts of the kinds that people really send and that tidy data sets lack. Simple signs, for English."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stages.data.contract.view import share, without_code
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.reading import ENGLISH, UNKNOWN, words
from stages.data.coverage.result import Shortfall, Table, percent
from stages.data.misuse.exchanges import listed

if TYPE_CHECKING:
    from stages.data.coverage.asked import Asked

KINDS = {  # kind -> (what it is, what a good answer does)
    "empty_input": ("the text that the prompt speaks of is missing", "asks for the text"),
    "ambiguous": ("it, this or they point to nothing", "asks what is meant, or says how it was understood"),
    "underspecified": ("a few words that leave open what is wanted", "asks, or makes a sensible start and says so"),
    "over_long": ("very long", "finds the request in it"),
    "wrong_language": (
        "not in the language of the set",
        "answers in the language it was asked in, or as the product does",
    ),
    "typos": ("misspelt, in small letters, with the short forms of chats", "answers as if it were spelt well"),
    "multi_question": ("two or more questions in one", "answers each of them"),
    "contradictory": ("two demands that exclude each other", "says so and meets the one that matters more"),
}
FEW = 3  # words of an underspecified prompt, at most
POINTING = 9  # words of an ambiguous prompt, at most
MISSPELT = re.compile(
    r"(?<![\w.'-])(?:teh|hte|recieve|beleive|definately|definetly|seperate|untill|wich|becuase|becasue|thier|alot"
    r"|occured|tommorow|tomorow|wierd|freind|writting|adress|goverment|enviroment|grammer|neccessary|necesary|wiht"
    r"|taht|waht|whats|hwo|dont|doesnt|didnt|cant|wont|isnt|arent|wasnt|couldnt|shouldnt|wouldnt|im|ive|youre|theyre"
    r"|thats|hows|wheres|pls|plz|plss|thx|thnx|tnx|wanna|gonna|gimme|lemme|gotta|dunno|kinda|ur|u|b4|gr8|l8r|idk|btw"
    r"|bc|cuz|coz|ppl|sumarize|summerize|explane|exmaple|calender|begining|buisness|lenght|langauge|questoin|anwser"
    r"|shuld|woud|somthing|libary|intresting|poeple)(?![\w'-]|\.\w)"
)
TYPED = re.compile(r"(?<![./])\b[a-z]*?([b-gi-ln-vx-z])\1\1[a-z]*\b|[a-z][?!,]{1,3}[a-z]{2,}\b(?!\.)")
ADDRESS = re.compile(r"\S+(?:://|www\.|@|\.(?:com|org|net|html?)\b)\S*|\bwww\.\S+|\br/\w+|\bu/\w+")
OWN = 400  # letters up to which a prompt is the asker's own words and no passage
MISSING = re.compile(
    r"(?:\b(?:this|the (?:following|above|attached|given)|following|attached|below) (?:\w+ ){0,2}(?:text|article"
    r"|paragraph|e-?mail|passage|code|document|sentence|story|letter|file|table|list|data|essay|review|report|message"
    r"|poem)s?(?: (?:for me|into \w+|to \w+|in (?:\w+ ){1,3}\w+|please|below))*\s*[.:?!]*\s*\Z)|<no ?input>"
    r"|\bno ?input\s*\Z|\[(?:insert|paste|your|text|input)[^\]]{0,40}\]|\{(?:text|input|content)\}",
    re.IGNORECASE,
)
POINTERS = listed("it this that they them these those he she him her one")
HOLLOW = listed(
    "the a an is are was were do does did to of in on for with and or not no can could should would will how what "
    "why when where who which i you we me my your our be been so then than please about fix explain mean work make "
    "do use help get tell say think know better worse more less work good bad best right wrong again much many like "
    "need want have"
)
COMPLETE = listed("define explain name describe translate spell solve count introduce convert pluralise list hi hey")
CONTRARY = tuple(
    (re.compile(first), re.compile(second))
    for first, second in (
        (
            r"\b(?:in|with|using) (?:only )?(?:one|a single|1|two|three) (?:words?|sentences?|lines?)\b"
            r"|\bone[- ]word\b|\bvery (?:short|brief)",
            r"\b(?:in (?:great |full |much )?(?:detail|depth)|detailed|comprehensive|at length|elaborate|thorough\w*"
            r"|long|every aspect|at least (?:\d{2,}|five|ten|twenty|fifty|a hundred|two hundred"
            r"|five hundred) (?:words|sentences|lines|pages|paragraphs))\b",
        ),
        (
            r"\b(?:short|brief|concise)\b",
            r"\b(?:as long as possible|at least (?:\d{3,}|five hundred|a thousand) words|exhaustive|in full detail)\b",
        ),
        (
            r"\b(?:formal|professional)(?:ly)?\b",
            r"\b(?:slang|very casual|emojis?|swear|informal(?:ly)?|like a pirate)\b",
        ),
        (
            r"\bwithout (?:using |any )?numbers\b",
            r"\b(?:give|with|include) (?:the )?(?:exact )?(?:numbers|figures|percentages)\b",
        ),
        (r"\bonly (?:in )?(?:french|german|spanish|italian)\b", r"\bonly (?:in )?english\b|\bin english only\b"),
        (
            r"\b(?:do not|don't|without) (?:mention|name|say|use|using|mentioning|naming)",
            r"\b(?:be sure|make sure|remember) to (?:mention|name|say)\b",
        ),
        (
            r"\bdo(?:n't| not) (?:explain|give reasons)|\bno explanation",
            r"\bexplain (?:why|your|each|every|how)\b|\bstep[- ]by[- ]step\b",
        ),
        (r"\brhym\w+\b", r"\b(?:without|no|must not) rhym\w+\b"),
    )
)
LEAST, MOST = (
    re.compile(rf"\b{word} (\d+) (words|sentences|lines|items|paragraphs|characters)")
    for word in ("at least", "(?:at most|no more than|under|below|fewer than|less than)")
)


def empty_input(text: str) -> bool:
    """The prompt speaks of a text and ends there, or has a place where one should be."""
    return not any(map(str.isalnum, text)) or (len(text) <= OWN // 2 and bool(MISSING.search(text)))


def ambiguous(text: str) -> bool:
    """A short prompt with a pronoun and no word that it could stand for."""
    told = words(text[:OWN])
    return (
        len(text) <= OWN and len(told) <= POINTING and bool(POINTERS & set(told)) and not set(told) - POINTERS - HOLLOW
    )


def underspecified(text: str) -> bool:
    """Up to three words that ask no question and do not say what is to be done with what."""
    told = words(text[:OWN])
    complete = len(told) > 1 and told[0] in COMPLETE
    return 0 < len(text.split()) <= FEW and not complete and not re.search(r"[\d=+*/?]", text)


def typos(text: str) -> bool:
    """Two common misspellings or short forms, or one in a prompt without a capital letter or of few words."""
    if len(text) > OWN:
        return False
    said = ADDRESS.sub(" ", without_code(text))
    found = len(MISSPELT.findall(said.lower().replace("’", "'"))) + len(TYPED.findall(said))
    return found >= 2 or (found == 1 and (said == said.lower() or len(said.split()) < 12))


def multi_question(text: str) -> bool:
    """Two sentences that end with a question mark, or a question that goes on with `and how`."""
    asks = re.findall(r"[^\s?][^?.!\n]{6,}\?", without_code(text[-1500:]))
    return len(asks) > 1 or bool(
        re.search(r"\band (?:also )?(?:what|how|why|when|where|who|which)\b[^.\n]*\?", text[-400:])
    )


def contradictory(text: str) -> bool:
    """Two demands of CONTRARY, or a least length above the greatest."""
    said = text[:1500].lower()
    if any(first.search(said) and second.search(said) for first, second in CONTRARY):
        return True
    least, most = LEAST.search(said), MOST.search(said)
    return bool(least and most and least[2] == most[2] and int(least[1]) > int(most[1]))


DETECTORS: dict[str, Callable[[str], bool]] = {
    "empty_input": empty_input,
    "ambiguous": ambiguous,
    "underspecified": underspecified,
    "typos": typos,
    "multi_question": multi_question,
    "contradictory": contradictory,
}
ALONE = ("empty_input", "ambiguous", "underspecified")  # what was said before may hold what the prompt lacks


def signs(text: str) -> tuple[str, ...]:
    """The kinds that an English text shows by itself."""
    return tuple(kind for kind, shows in DETECTORS.items() if shows(text))


def kinds(each: "Asked", main: str, config: CoverageConfig) -> list[str]:
    """The kinds of edge case that a prompt belongs to; `main` is the language of the set."""
    found = ["over_long"] if len(each.text.split()) >= config.long_words else []
    if each.language not in (main, UNKNOWN):
        found.append("wrong_language")
    elif main in (ENGLISH, UNKNOWN):
        found += [kind for kind in each.signs if not (kind in ALONE and len(each.requests) > 1)]
    return found


def main_language(asked: "Sequence[Asked]") -> str:
    """The most frequent language of those that are known."""
    counts = Counter(each.language for each in asked if each.language != UNKNOWN)
    return counts.most_common(1)[0][0] if counts else UNKNOWN


def edge_cases(asked: "Sequence[Asked]", found: Sequence[Sequence[str]], config: CoverageConfig) -> Shortfall | None:
    """Kinds of edge cases that the set lacks; `found`: the kinds of every prompt."""
    if len(asked) < config.fewest_rows or not config.edge:
        return None
    counts = Counter(kind for mine in found for kind in mine)
    wanted = math.ceil(config.edge * len(asked))
    lacking = [kind for kind in judged(main_language(asked)) if counts[kind] < wanted]
    if not lacking:
        return None
    none, few = [k for k in lacking if not counts[k]], [f"{k} ({counts[k]} of {wanted})" for k in lacking if counts[k]]
    return Shortfall(
        "edge_cases",
        sum(map(bool, found)),
        len(asked),
        f"{share(sum(map(bool, found)), len(asked))} prompts are edge cases."
        + (f" None of: {', '.join(none)}." if none else "")
        + (f" Fewer than the target of: {', '.join(few)}." if few else ""),
        f"Collect at least {wanted} prompts of each, with the answer that is wanted: "
        + "; ".join(f"{kind}: {KINDS[kind][0]}; the answer {KINDS[kind][1]}" for kind in lacking)
        + ".",
        [(each.item.located, each.text) for each, mine in zip(asked, found, strict=True) if mine],
        {"kinds": dict(counts), "lacking": lacking},
    )


def judged(main: str) -> list[str]:
    """The kinds that can be told in a set of that language."""
    return [kind for kind in KINDS if main in (ENGLISH, UNKNOWN) or kind not in DETECTORS]


def table(asked: "Sequence[Asked]", found: Sequence[Sequence[str]]) -> Table:
    """How many prompts of each kind there are."""
    counts = Counter(kind for mine in found for kind in mine)
    told = judged(main_language(asked))
    return Table(
        "Edge cases",
        ("kind", "what it is", "prompts", "share"),
        tuple((kind, KINDS[kind][0], counts[kind], percent(counts[kind], len(asked))) for kind in told),
        "Counted by simple signs; a prompt may be of several kinds. Kinds told by English words are left out of "
        "other sets.",
    )
