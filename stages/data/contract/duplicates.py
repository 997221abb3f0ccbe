"""Rows that say the same as others, that contradict others, or that repeat their own prompt."""

import json
import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import combinations

from stages.data import dedupe
from stages.data.contract.agreement import Exchange, disagree, exchanges
from stages.data.contract.view import WRITES, Found, Item, Mark, Scope, plain, share
from stages.data.findings import Located

ECHO_WORDS = 8  # words of an answer that stand in its prompt by no accident
ECHO_SHARE = 0.3  # of the prompt; a smaller piece of a long prompt is an answer found in a passage
COMPARED = 20  # answers to one prompt that are compared with one another
TASK_WORDS = 20  # of a prompt that holds a task with a text to work on
CHOSEN = re.compile(  # tasks whose answer is a piece of the prompt
    r"\b(extract|cop(y|ies)|repeat|quote|cite|cho(ose|ice)|select|pick|sort|order|arrange|rank|divide|split|find|identify|highlight|"
    r"underline|locate|spot|which of|which (sentence|statement|option|line|one)|according to|based on|options?|"
    r"reorder|rearrange|unscramble|true or false)\b(?<!in order)",
    re.IGNORECASE,
)
REWORKED = re.compile(  # tasks whose answer may leave a given text as it is
    r"\b(re-?write|re-?phrase|re-?word|paraphrase|edit|correct(ed|ly)?|fix|proofread|classify|categori[sz]e|"
    r"summari[sz]e|shorten|translate|punctuat\w*|capitali[sz]e|convert|complete|grammar\w*|spelling|remove|delete|replace|"
    r"insert|combine|merge|(the|this|following|above|below|given) (passage|paragraph|excerpt|context|article|text|"
    r"sentences?))\b",
    re.IGNORECASE,
)


def exact_duplicates(scope: Scope) -> Found | None:
    """Rows equal to an earlier one up to case, white space, Unicode form and punctuation at the ends of texts."""
    repeated = _repeated(scope)
    if not repeated:
        return None
    return Found(
        [Mark(i, f"the same as {place(scope.rows[first])}") for i, first in repeated.items()],
        f"{share(len(repeated), len(scope.items))} rows say the same as an earlier one.",
        "Take the later rows out; where a row should weigh more, give its set a weight in the mixture.",
        of=len(scope.items),
    )


def near_duplicates(scope: Scope) -> Found | None:
    """Rows that are nearly an earlier one, as `dedupe` tells it; what says the same to the letter is not counted."""
    keys = scope.each(text_keys)
    first = list(dict(zip(reversed(keys), reversed(scope.items), strict=True)).values())
    asked = sorted(first, key=lambda each: each.index)
    alike = dedupe.near((each.row for each in asked), scope.config.near_duplicates)
    if not alike:
        return None
    return Found(
        [Mark(asked[i].index, f"nearly the same as {place(asked[j].located)}") for i, j in sorted(alike.items())],
        f"{share(len(alike), len(scope.items))} rows are nearly the same as an earlier one "
        f"(Jaccard similarity of 5-word shingles from {scope.config.near_duplicates}).",
        f"Set near_duplicates={scope.config.near_duplicates} in the data set to reject the later ones, or give each "
        "group one 'cluster', so that a split does not divide it.",
        of=len(scope.items),
    )


def text_keys(items: Sequence[Item], scope: Scope) -> list[bytes]:
    """Of each item a key of its texts, whatever their order."""
    return [digest(*sorted(map(said, each.said))) for each in items]


def conflicting_answers(scope: Scope) -> Found | None:
    """Rows that answer one prompt in ways that cannot both be right."""
    told: dict[int, str] = {}
    for answers in _asked_again(scope):
        for same, other in combinations(list(answers.values())[:COMPARED], 2):
            if same[0].index != other[0].index and disagree(same[0], other[0], scope.config.answer_overlap):
                told |= {each.index: f"against {place(scope.rows[other[0].index])}: {each.answer}" for each in same}
                told |= {each.index: f"against {place(scope.rows[same[0].index])}: {each.answer}" for each in other}
    if not told:
        return None
    return Found(
        [Mark(i, text) for i, text in sorted(told.items())],
        f"{share(len(told), len(scope.items))} rows answer a prompt that other rows answer otherwise.",
        "Decide which answer is right and take the others out, or say in the prompt what makes them differ.",
        of=len(scope.items),
    )


def _asked_again(scope: Scope) -> list[dict[bytes, list[Exchange]]]:
    """For each prompt with several answers the exchanges of each. Of all others only keys are held."""
    if not learns_answers(scope):
        return []
    keys = scope.each(exchange_keys)
    first: dict[bytes, bytes] = {}
    several = {asked for pairs in keys for asked, answer in pairs if first.setdefault(asked, answer) != answer}
    found: dict[bytes, dict[bytes, list[Exchange]]] = {}
    for item, pairs in zip(scope.items, keys, strict=True):
        if several.intersection(asked for asked, _ in pairs):
            for (asked, answer), each in zip(pairs, exchanges([item]), strict=True):
                found.setdefault(asked, {}).setdefault(answer, []).append(each)
    return list(found.values())


def exchange_keys(items: Sequence[Item], scope: Scope) -> list[list[tuple[bytes, bytes]]]:
    """Of each item's exchanges a key of all that was said before, and one of the answer."""
    return [[(digest(plain(each.before)), digest(said(each.answer))) for each in exchanges([item])] for item in items]


def answer_in_prompt(scope: Scope) -> Found | None:
    """Rows whose long answer stands in their own prompt, where the prompt asks for no piece of it."""
    if not learns_answers(scope):
        return None
    repeat = zip(scope.items, scope.each(echoes), strict=True)
    marks = [Mark(each.index, each.answer) for each, does in repeat if does]
    if not marks:
        return None
    return Found(
        marks,
        f"{share(len(marks), len(scope.items))} rows give as answer what already stands in their prompt.",
        "Take the answer out of the prompt, or write one that adds something.",
        of=len(scope.items),
    )


def learns_answers(scope: Scope) -> bool:
    return scope.stage not in WRITES


def place(located: Located) -> str:
    return f"{located.file}, line {located.line}"


def said(text: str) -> str:
    """The text for comparison; a text of punctuation alone stays as it is."""
    return plain(text) or text.strip()


def _repeated(scope: Scope) -> dict[int, int]:
    """Row -> the first row with the same content."""
    first: dict[bytes, int] = {}
    found = {}
    for each, key in zip(scope.items, scope.each(content_keys), strict=True):
        earlier = first.setdefault(key, each.index)
        if earlier != each.index:
            found[each.index] = earlier
    return found


def content_keys(items: Sequence[Item], scope: Scope) -> list[bytes]:
    """Of each item a key of everything that a model would learn from."""
    return [digest(*_content(each)) for each in items]


def digest(*texts: str) -> bytes:
    """Equal for the same texts in the same order; shorter than they are."""
    return blake2b(
        "\0".join(f"{len(text)} {text}" for text in texts).encode(errors="surrogatepass"), digest_size=16
    ).digest()


def _content(each: Item) -> tuple[str, ...]:
    """Texts, and calls of tools, labels and votes as they are."""
    row = each.row
    calls = [turn["tool_calls"] for turn in row.get("messages", ()) if turn.get("tool_calls")]
    judged = [row.get(name) for name in ("tools", "label", "votes") if name in row]
    other = json.dumps([calls, judged], sort_keys=True, default=str) if calls or judged else ""
    return (other, *map(said, each.said))


def echoes(items: Sequence[Item], scope: Scope) -> list[bool]:
    """Whether each item's answer stands in its prompt."""
    return [_echoes(each) for each in items]


def _echoes(each: Item) -> bool:
    turns = each.row.get("messages") or each.row.get("prompt") or ()
    prompt = "\n".join(turn.get("content") or "" for turn in turns if turn["role"] == "user")
    count, answer, asked = len(each.answer.split()), plain(each.answer), plain(prompt)
    if each.form not in ("chat", "preference") or count < max(ECHO_WORDS, ECHO_SHARE * len(asked.split())):
        return False
    return answer in asked and not _belongs(asked.replace(answer, " "), _ends_with(prompt, each.answer))


def _belongs(rest: str, appended: bool) -> bool:
    """Whether the prompt's other words ask for a piece of it, or hand over the answer as the text to work on.

    After a task with a text of its own, the same answer on the last lines of the prompt is no text to work on.
    """
    if CHOSEN.search(rest):
        return True
    return bool(REWORKED.search(rest)) and not (appended and len(rest.split()) >= TASK_WORDS)


def _ends_with(prompt: str, answer: str) -> bool:
    return prompt.strip().endswith("\n" + answer.strip())
