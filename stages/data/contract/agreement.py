"""Whether two answers to one prompt can both be right: rules on yes and no, numbers, negation and common words."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stages.data.contract.view import WORD, Item, plain

SHORT = 6  # words up to which an answer is a value: a name, a number, a label
ALIKE = 0.6  # share of common words from which two answers are one statement with another value in it
COPY = 0.8  # the same where a prompt calls for invention
ON_TOPIC = 0.3  # share of the prompt's words that an answer to it takes up
TOPIC_WORDS = 10  # of an answer that has a topic
STATEMENT = 30  # words up to which one 'not' turns the whole answer round
STEM = 6  # letters of a word by which its forms are taken for one
CREATIVE = re.compile(
    r"\b(write|compose|create|generate|suggest|brainstorm|imagine|invent|design|draft|make up|come up|propose|"
    r"recommend|story|stories|poem|haiku|joke|song|lyrics|essay|blog|slogan|tagline|caption|headline|title|tweet|"
    r"e-?mail|letter|speech|dialog(ue)?|script|recipe|pun|riddle|random|list|examples?|ideas?|tips|ways|any|"
    r"(give|name)( me| us)? (an?|some|one|two|three|four|five|ten|\d+)|rewrite|rephrase|paraphrase|summari[sz]e|"
    r"translat\w+|continue|complete|edit|improve|your (favou?rite|name|opinion)|you think|would you|what if|"
    r"should (i|we|one) (use|take|choose|pick|try|read)|(what|which)[^.?!]* (fits|suits)|help me (pick|choose|find)|"
    r"how are you|tell me (about|something|a)|role-?play|act as|pretend|persona)\b",
    re.IGNORECASE,
)
QUESTION = re.compile(
    r"\s*(what|which|who|whose|when|where|why|how|is|are|was|were|do|does|did|can|could|may|must|should|will|has|have)\b"
    r"[^.!?]*\?\s*\Z",
    re.IGNORECASE,
)
EVASIVE = re.compile(
    r"\b(sorry|apologi[sz]e|don['’]t (know|understand)|not sure|clarify|can['’]?(no)?t (help|answer|assist)|"
    r"as an ai|what do you mean)\b|\?\s*\Z",
    re.IGNORECASE,
)
YES = re.compile(r"\W*(yes|yeah|yep|true|correct|right|certainly|absolutely|definitely|indeed)\b", re.IGNORECASE)
NO = re.compile(r"\W*(no|nope|false|incorrect|wrong)\b(?!\s+(problem|worries|one))", re.IGNORECASE)
NEGATED = re.compile(r"\b(not|no|never|cannot|without|neither|nor|\w+n['’]t)\b", re.IGNORECASE)
NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?!\w)")


@dataclass(frozen=True)
class Exchange:
    """An answer that is to be learned: all that stands before it, and the user's turn that it answers."""

    index: int
    before: str
    asked: str
    answer: str
    opening: bool  # nothing was answered before


def exchanges(items: Iterable[Item]) -> Iterator[Exchange]:
    """Every answer of a conversation, the chosen answer of a pair, an answer with a good label."""
    for each in items:
        if each.form == "chat":
            yield from _spoken(each)
        elif each.form == "preference" or (each.form == "label" and each.row["label"]):
            turns = each.row["prompt"]
            said = [turn.get("content") or "" for turn in turns]
            yield Exchange(each.index, "\n".join(said), said[-1], each.answer, _opens(turns))


def _spoken(each: Item) -> Iterator[Exchange]:
    before: list[str] = []
    turns = each.row["messages"]
    for number, turn in enumerate(turns):
        text, calls = turn.get("content") or "", turn.get("tool_calls")
        if turn["role"] == "assistant" and text and not calls:
            yield Exchange(each.index, "\n".join(before), before[-1], text, _opens(turns[:number]))
        before.append(text + (json.dumps(calls, sort_keys=True) if calls else ""))


def _opens(turns: Iterable[dict]) -> bool:
    return all(turn["role"] != "assistant" for turn in turns)


def disagree(a: Exchange, b: Exchange, overlap: float) -> bool:
    """Whether two answers to one prompt exclude each other. What calls for invention has many right answers.

    `overlap`: share of common words below which two longer answers to a closed prompt are about different things.
    """
    verdicts = _verdict(a.answer), _verdict(b.answer)
    if all(verdicts) and verdicts[0] != verdicts[1]:
        return True
    words = _words(a.answer), _words(b.answer)
    creative = bool(CREATIVE.search(a.asked))
    if _one_statement(*words, COPY if creative else ALIKE):
        return _numbers_differ(a.answer, b.answer) or _turned_round(a.answer, b.answer, *words)
    if creative or _evades(a) or _evades(b):
        return _off_topic(a.asked, *words, overlap / 2)
    if all(verdicts) or not _closed(a):
        return False
    least, most = sorted(map(len, words))
    if least <= SHORT and most <= 2 * SHORT:
        return _values_differ(a, b, *words)
    return _unlike(*words, overlap) or _off_topic(a.asked, *words, 2 * overlap)


def _one_statement(words_a: set[str], words_b: set[str], alike: float) -> bool:
    """Whether all but the numbers is nearly the same."""
    a, b = ({word for word in words if not word[0].isdigit()} for words in (words_a, words_b))
    return bool(a and b) and len(a & b) >= alike * max(len(a), len(b))


def _turned_round(a: str, b: str, words_a: set[str], words_b: set[str]) -> bool:
    """One 'not' more: in a short statement, or as the only difference of longer ones."""
    counts = len(NEGATED.findall(a)), len(NEGATED.findall(b))
    if max(len(words_a), len(words_b)) <= STATEMENT:
        return counts[0] % 2 != counts[1] % 2
    return counts[0] != counts[1] and all(NEGATED.fullmatch(word) for word in words_a ^ words_b)


def _off_topic(asked: str, words_a: set[str], words_b: set[str], overlap: float) -> bool:
    """One answer takes up the words of the prompt, the other none of them, and they have little in common."""
    topic, a, b = _content(_words(asked)), _content(words_a), _content(words_b)
    if min(len(a), len(b)) < TOPIC_WORDS or len(topic) < 3 or not _unlike(words_a, words_b, overlap):
        return False
    some, more = sorted((len(a & topic), len(b & topic)))
    return not some and more >= max(2, ON_TOPIC * len(topic))


def _values_differ(a: Exchange, b: Exchange, words_a: set[str], words_b: set[str]) -> bool:
    """Two values, neither of which holds the other."""
    if words_a <= words_b or words_b <= words_a:
        return _turned_round(a.answer, b.answer, words_a, words_b)
    return True


def _closed(each: Exchange) -> bool:
    """A request of its own, or a whole question within a conversation."""
    return each.opening or bool(QUESTION.match(each.asked))


def _evades(each: Exchange) -> bool:
    return bool(EVASIVE.search(each.answer))


def _unlike(words_a: set[str], words_b: set[str], overlap: float) -> bool:
    a, b = _content(words_a), _content(words_b)
    return bool(a and b) and len(a & b) < overlap * min(len(a), len(b))


def _content(words: set[str]) -> set[str]:
    """Words that are about something: numbers, and those of four letters or more, without their endings."""
    return {word[:STEM] for word in words if len(word) > 3 or word.isdigit()}


def _verdict(answer: str) -> str:
    """yes, no, or nothing."""
    return "no" if NO.match(answer) else "yes" if YES.match(answer) else ""


def _words(text: str) -> set[str]:
    return set(WORD.findall(plain(text)))


def _numbers_differ(a: str, b: str) -> bool:
    """Each answer has a number that the other lacks."""
    in_a, in_b = set(NUMBER.findall(a)), set(NUMBER.findall(b))
    return bool(in_a - in_b) and bool(in_b - in_a)
