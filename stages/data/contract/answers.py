"""Answers of one task that do not keep to the format or the register of the others."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from stages.data.contract.view import Found, Item, Mark, Scope, share, without_code

LABEL_WORDS = 4  # words of an answer that is a value and no sentence
PHRASE_WORDS = 8  # the same without a full stop
BRIEF = 20  # words of a task's usual answer, below which labels and prose are one
MARKS = 2  # of a register in a text that belongs to it
MOST = 0.6  # of an answer's lines that are rows or code, from which it is a table or code
ITEMS = 0.4  # of its lines that begin an item, from which it is a list
REQUEST = 200  # letters at either end of a prompt or system turn in which it says what is wanted
FENCE = re.compile(r"\s*```[^\n]*\n(.*?)```\s*", re.DOTALL)
NUMBERED = re.compile(r"\s*(?:\d{1,2}|[a-z])[.)]\s+\S", re.IGNORECASE)
BULLET = re.compile(r"\s*[-*•–]\s+\S")
ROW = re.compile(r"\s*\|.*\|\s*$")
CODE_LINE = re.compile(
    r"\s*(def |class |import |from \w+ import|function\b|const |let |var |public |private |#include|return\b|SELECT\b|"
    r"INSERT\b|UPDATE\b|CREATE TABLE|</?[a-z][a-z0-9]*(\s[\w-]+=[^>]*)?/?>|<!DOCTYPE|[\w.\[\]]+\s*=\s*\S|"
    r"(if|for|while)\b.*[:{]\s*$|.*[;{}]\s*$)"
)
FREE = ("prose", "list", "numbered list")  # where prose is the rule, lists are as good
ASKED = {  # format -> words of a prompt that call for it
    "json": re.compile(r"\b(json|dictionar\w+|objects?|arrays?|schema|api|payload|key.value|ya?ml)\b", re.IGNORECASE),
    "table": re.compile(r"\b(tables?|tabular|csv|dataset|spreadsheet|columns?|markdown|matrix|grid)\b", re.IGNORECASE),
    "code": re.compile(
        r"\b(cod(e|ing)|programs?|functions?|script|sql|quer(y|ies)|html|css|python|java|javascript|typescript|c\+\+|c#|"
        r"ruby|rust|php|bash|shell|commands?|regex|regular expression|algorithm|website|web ?page|class|equation|latex|"
        r"xml)(?!\w)",
        re.IGNORECASE,
    ),
    "list": re.compile(r"\b(lists?|bullets?|items|examples|steps?|ideas|ways|tips|enumerate)\b", re.IGNORECASE),
    "numbered list": re.compile(r"\b(lists?|number\w*|steps?|rank\w*|top|order)\b", re.IGNORECASE),
    "label": re.compile(
        r"\b(one word|single word|classif\w+|yes or no|true or false|only|name|which|who|or)\b", re.IGNORECASE
    ),
    "prose": re.compile(r"\b(explain|describe|(in|with) \w+ (full )?sentences?|paragraph|essay)\b", re.IGNORECASE),
}
VOICED = re.compile(
    r"\b(tweet|post|casual\w*|informal\w*|formal\w*|slang|friend\w*|tone|style|voice|e-?mail|letter|message|"
    r"dialog(ue)?|conversation|scenes?|screenplay|script|skit|lyrics|song|child|kid|year.old|story|poem|joke|funny|"
    r"humor\w*|slogan|caption|(act|speak|talk|answer) (as|like)|pretend|imagine|role-?play|rewrite)\b",
    re.IGNORECASE,
)
SPOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
SLANG = {
    "gonna", "wanna", "gotta", "kinda", "sorta", "dunno", "lemme", "ain't", "y'all", "lol", "lmao", "omg", "btw", "tbh",
    "imo", "idk", "thx", "pls", "plz", "ur", "yeah", "yep", "nope", "nah", "hey", "dude", "bro", "awesome", "oops",
    "haha",
}  # fmt: skip
SIGNS = re.compile(r"[\U0001F300-\U0001FAFF]|!!+|\?!|(?<=\s):-?[)D(](?=\s|\Z)")
CONTRACTED = re.compile(r".+(n't|'(re|ll|ve|m|d))|(it|that|there|here|what|let)'s")
STIFF = re.compile(
    r"\b(hereby|herein|thereof|therein|pursuant|notwithstanding|whereas|furthermore|moreover|nevertheless|therefore|"
    r"consequently|accordingly|hence|thus|shall|kindly|regarding|concerning|with respect to|in accordance with|"
    r"in order to|prior to|subsequent(ly)?|dear (sir|madam)|sincerely|upon|it is (recommended|advised|advisable|noted)|"
    r"please be advised|must be|is required to)\b",
    re.IGNORECASE,
)


Told = tuple[Item, str]  # a row that differs, and how


def mixed_format(scope: Scope) -> Found | None:
    """Answers in another format than most of their task, where the prompt does not ask for it.

    Formats: JSON, code, table, numbered list, list, a label of a few words, prose. Where prose is the rule, lists are
    as good; labels are too, unless the task is named and its answers are long.
    """
    if not learns_answers(scope):
        return None
    formats = dict(zip((each.index for each in scope.items), scope.each(formats_of), strict=True))
    dominant = scope.config.dominant
    told = [each for task, items in scope.tasks.items() for each in _other_formats(task, items, formats, dominant)]
    return _found(
        scope,
        told,
        "have another format than the other answers of their task",
        "Bring them into one format, or say in the prompt which one is wanted.",
    )


def mixed_register(scope: Scope) -> Found | None:
    """Casual answers where the task's others have no casual mark, or formal ones where most are casual.

    Casual: slang, emoji, smileys or repeated marks, two with contractions counted. Formal: two stiff words and none of
    these. All others go with either.
    """
    if not learns_answers(scope):
        return None
    marks = dict(zip((each.index for each in scope.items), scope.each(casual_marks_of), strict=True))
    told = [each for items in scope.tasks.values() for each in _other_registers(items, marks, scope.config.dominant)]
    return _found(
        scope,
        told,
        "speak in another register than the other answers of their task",
        "Rewrite them in one register, or name the wanted one in the prompt.",
    )


def format_of(text: str) -> str:
    """json | code | table | numbered list | list | label | prose."""
    whole = FENCE.fullmatch(text)
    body = whole.group(1) if whole else text
    if _is_json(body):
        return "json"
    if whole:
        return "code"
    lines = [line for line in text.splitlines() if line.strip()]
    for name, pattern, least in (
        ("table", ROW, MOST),
        ("numbered list", NUMBERED, ITEMS),
        ("list", BULLET, ITEMS),
        ("code", CODE_LINE, MOST),
    ):
        if sum(bool(pattern.match(line)) for line in lines) >= max(2, least * len(lines)):
            return name
    return "label" if len(lines) == 1 and _is_label(text) else "prose"


def _is_label(text: str) -> bool:
    """A value, a series of values, or a phrase that does not end like a sentence."""
    phrase = len(text.split()) <= PHRASE_WORDS and text.rstrip()[-1:] not in ".!?"
    return phrase or all(len(part.split()) <= LABEL_WORDS for part in re.split(r"[,;]", text))


def register_of(text: str) -> str:
    """casual | formal | plain."""
    slang, contracted = _casual_marks(text)
    if slang and slang + contracted >= MARKS:
        return "casual"
    return "formal" if not slang and not contracted and len(STIFF.findall(without_code(text))) >= MARKS else "plain"


def _casual_marks(text: str) -> tuple[int, int]:
    """(slang and signs, contractions)."""
    prose = without_code(text)
    said = [word.replace("’", "'") for word in SPOKEN.findall(prose.lower())]
    slang = sum(word in SLANG for word in said) + len(SIGNS.findall(prose))
    return slang, sum(bool(CONTRACTED.fullmatch(word)) for word in said if "'" in word)


def _is_json(text: str) -> bool:
    if text.strip()[:1] not in ("{", "["):
        return False
    try:
        return isinstance(json.loads(text), (dict, list))
    except ValueError:
        return False


def learns_answers(scope: Scope) -> bool:
    """Documents and prompts have none."""
    return scope.stage in ("sft", "kto", "dpo")


def formats_of(items: Sequence[Item], scope: Scope) -> list[str]:
    """The format of each item's answer."""
    return [format_of(each.answer) for each in items]


def casual_marks_of(items: Sequence[Item], scope: Scope) -> list[tuple[int, int]]:
    """The casual marks of each item's answer."""
    return [_casual_marks(each.answer) for each in items]


def _other_formats(task: str, items: Sequence[Item], every: Mapping[int, str], dominant: float) -> Iterator[Told]:
    formats = [every[each.index] for each in items]
    usual, count = Counter(formats).most_common(1)[0]
    same = {usual}
    if count < dominant * len(items) or usual == "prose":
        usual, same = "prose", {*FREE, *(("label",) if not task or _brief(items) else ())}
    if sum(name in same for name in formats) < dominant * len(items):
        return
    others = [(each, name) for each, name in zip(items, formats, strict=True) if name not in same]
    usually_asked = {name: _usually_asked(name, items) for name in {name for _, name in others}}
    for each, name in others:
        if name in FREE and format_of(each.prompt) == name:
            continue  # an answer for each item of the prompt
        if usually_asked[name] or not ASKED[name].search(_request(each)):
            yield each, f"{name}, not {usual}: {each.answer}"


def _brief(items: Sequence[Item]) -> bool:
    """Whether the task's answers are so short that one of a few words is none of another format."""
    return median(len(each.answer.split()) for each in items) < BRIEF


def _usually_asked(name: str, items: Sequence[Item]) -> bool:
    """Whether most prompts of the task have a word for the format, which then says nothing of one row."""
    return 2 * sum(bool(ASKED[name].search(_request(each))) for each in items) >= len(items)


def _request(each: Item) -> str:
    """The beginnings and ends of what was said before: what is wanted, rather than the text that it is wanted for."""
    return "\n".join(
        piece for text in (each.system, each.prompt) for piece in (text[:REQUEST], text[REQUEST:][-REQUEST:])
    )


def _other_registers(items: Sequence[Item], every: Mapping[int, tuple[int, int]], dominant: float) -> Iterator[Told]:
    marks = [every[each.index] for each in items]
    casual = [bool(slang) and slang + contracted >= MARKS for slang, contracted in marks]
    unmarked = marks.count((0, 0))
    if sum(casual) >= dominant * len(items):
        odd, usual, found = "formal", "casual", [register_of(each.answer) == "formal" for each in items]
    elif sum(casual) <= (1 - dominant) * len(items) and unmarked >= dominant * (len(items) - sum(casual)):
        odd, usual, found = "casual", "formal", casual
    else:
        return
    for each, differs in zip(items, found, strict=True):
        if differs and not VOICED.search(_request(each)):
            yield each, f"{odd}, not {usual}: {each.answer}"


def _found(scope: Scope, told: Sequence[Told], what: str, remedy: str) -> Found | None:
    if not told:
        return None
    tasks = Counter(each.task for each, _ in told)
    names = ", ".join(f"{task or 'rows without a task'} ({count})" for task, count in tasks.most_common(3))
    return Found(
        [Mark(each.index, text) for each, text in told],
        f"{share(len(told), len(scope.items))} rows {what}: {names}.",
        remedy,
        of=len(scope.items),
        detail={"tasks": dict(tasks)},
    )
