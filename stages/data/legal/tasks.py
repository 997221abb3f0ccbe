"""Questions about texts, names and identifiers of licences. Each function yields the items of one task for one side."""

import random
import re
from collections.abc import Iterator
from functools import lru_cache

from stages.data.legal.excerpts import excerpts, unseen
from stages.data.legal.facts import cells, labels
from stages.data.legal.licences import CATEGORIES, Licence, on
from stages.data.legal.notices import notices
from stages.data.legal.wording import (
    Item,
    by,
    fill,
    named,
    phrasings,
    pick,
    presentable,
    sentence,
    several,
    wording,
)

EXCERPT_WORDS = (28, 58)
EXCERPTS = 4  # of one licence, at most
EXCERPT_CUES = 3  # different cues in an excerpt, so that it tells its category
DEFINES = re.compile(r"\bmeans?\b|\bmean\(s\)|Definitions")  # definitions seldom tell a category
COMMON = re.compile(  # words of licence names that tell nothing
    r"licen[sc]e|public|general|software|version|open|source|free|notice|exception|variant|style|agreement|attribution"
    r"|domain|code|data|clause|document|community|limited|original|modified|research|university|permissi|library|the$"
    r"|terms|copyright|distribution|linking|system|object|and$|for$|with$|international|project|without|author",
    re.IGNORECASE,
)
COMMENTS = {
    "Python": "# {}",
    "shell": "# {}",
    "YAML": "# {}",
    "Ruby": "# {}",
    "C": "/* {} */",
    "CSS": "/* {} */",
    "C++": "// {}",
    "Rust": "// {}",
    "Go": "// {}",
    "JavaScript": "// {}",
    "TypeScript": "// {}",
    "SQL": "-- {}",
    "Lua": "-- {}",
    "Haskell": "-- {}",
    "HTML": "<!-- {} -->",
    "XML": "<!-- {} -->",
    "Lisp": ";; {}",
}


def four(*key: str) -> str:
    """The four categories in an order that the key decides."""
    names = several(list(CATEGORIES), 4, *key)
    return f"{names[0]}, {names[1]}, {names[2]} or {names[3]}"


def reason(category: str, text: str, *key: str) -> str:
    """Why a text is of the category: a sentence whose cue the text holds, else a general one."""
    known = wording()["category_reasons"][category]
    fitting = [says for cue, says in known if cue and re.search(cue, text, re.IGNORECASE)]
    return pick(fitting or [says for cue, says in known if not cue], *key)


def other_category(category: str, *key: str) -> str:
    """A category that is not this one; each is wrong about as often as it is right, so that none gives itself away."""
    others = [name for name in CATEGORIES if name != category]
    return pick([name for name in others for _ in range(1 if name == "Public Domain" else 13)], "other", *key)


def category_excerpt(side: str) -> Iterator[Item]:
    """Which of the four categories a passage belongs to."""
    for licence, number, text in telling(side):
        key = f"{licence.key}-{number}"
        wrong = other_category(licence.category, key)
        prompt = pick(phrasings(wording()["category_excerpt"], side), "category_excerpt", key)
        yield Item(
            id=f"category-excerpt-{key}",
            task="category of an excerpt",
            cluster=licence.group,
            label=licence.category,
            prompt=prompt.format(four=four(key), E=text),
            answer=f"{licence.category}. {reason(licence.category, text, key)}",
            wrong=f"{wrong}. {reason(wrong, text, key)}",
            slices={"category": licence.category},
        )


@lru_cache
def telling(side: str) -> list[tuple[Licence, int, str]]:
    """A few short telling excerpts of every licence of a side; for a measured side none that training shows."""
    chosen = []
    for licence in on(side):
        cues = 1 if licence.category == "Public Domain" else EXCERPT_CUES
        found = excerpts(licence, *EXCERPT_WORDS, cues)[: 3 * EXCERPTS]
        fresh = [text for text in found if not DEFINES.search(text) and (side == "train" or unseen(text))][:EXCERPTS]
        chosen += [(licence, number, text) for number, text in enumerate(fresh)]
    return chosen


def category_name(side: str) -> Iterator[Item]:
    """Which category a licence belongs to, by its name."""
    for licence in on(side):
        if presentable(licence) and not licence.exception:
            wrong = other_category(licence.category, "name", licence.key)
            prompt = pick(phrasings(wording()["category_name"], side), "category_name", licence.key)
            yield Item(
                id=f"category-name-{licence.key}",
                task="category of a name",
                cluster=licence.group,
                label=licence.category,
                prompt=fill(prompt, L=named(licence.name)),
                answer=f"{licence.category}. {reason(licence.category, '', licence.key)}",
                wrong=f"{wrong}. {reason(wrong, '', licence.key)}",
                slices={"category": licence.category},
            )


def identify(side: str) -> Iterator[Item]:
    """Which licence a passage is from, where the passage lets it be known."""
    task = wording()["identify"]
    named_ones = [x for x in telling(side) if presentable(x[0]) and x[0].owner != "Unspecified" and gives_away(*x)]
    found = list({x[0].key: x for x in named_ones}.values())  # one passage of each licence
    for licence, number, text in found:
        key = f"{licence.key}-{number}"
        answer, prompt = pick(task["answers"], "answer", key), pick(phrasings(task, side), "identify", key)
        yield Item(
            id=f"identify-{key}",
            task="identify",
            cluster=licence.group,
            label="",
            prompt=prompt.format(E=text),
            answer=introduce(answer, licence),
            wrong=introduce(answer, pick([x for x, *_ in found if x.group != licence.group], "wrong", key)),
        )


def gives_away(licence: Licence, number: int, text: str) -> bool:
    """Whether the passage holds a word that is the licence's own, such as its project's name."""
    own = {word for word in re.findall(r"[A-Z][\w.+-]{2,}", licence.name) if not COMMON.search(word)}
    return any(re.search(rf"\b{re.escape(word)}\b", text) for word in own)


def introduce(template: str, licence: Licence) -> str:
    """The template filled with a licence's name, owner and category."""
    phrase = wording()["category_phrase"][licence.category]
    if licence.exception:
        phrase = "an exception that widens another licence"
    filled = fill(template, L=named(licence.name), ID=licence.spdx, phrase=phrase, owner=by(licence.owner))
    return filled.replace("..", ".")  # an owner that ends in Inc.


def listed_in_spdx(side: str) -> list[Licence]:
    """Licences of a side with an SPDX id and a name that reads well."""
    return [x for x in on(side) if x.spdx and presentable(x) and x.name != x.spdx]


def familiar(side: str) -> list[Licence]:
    """Those of them that people meet: OSADL or choosealicense.com knows them too."""
    known = {x.key for cell in cells() for x in (cell.outbound, cell.inbound)} | {x.licence.key for x in labels()}
    return [x for x in listed_in_spdx(side) if x.key in known]


def spdx_expand(side: str) -> Iterator[Item]:
    """What an SPDX id stands for."""
    found = listed_in_spdx(side)
    for licence in found:
        answer = pick(wording()["spdx_expand"]["answers"], "answer", licence.key)
        wrong = introduce(answer, neighbour(licence, found)).replace(neighbour(licence, found).spdx, licence.spdx, 1)
        prompt = pick(phrasings(wording()["spdx_expand"], side), "spdx_expand", licence.key)
        yield Item(
            id=f"spdx-expand-{licence.key}",
            task="expand an SPDX id",
            cluster=licence.group,
            label="",
            prompt=fill(prompt, ID=licence.spdx),
            answer=introduce(answer, licence),
            wrong=wrong,
        )


def spdx_id(side: str) -> Iterator[Item]:
    """Which SPDX id a licence has."""
    found = listed_in_spdx(side)
    for licence in found:
        answer = pick(wording()["spdx_id"]["answers"], "answer", licence.key)
        prompt = pick(phrasings(wording()["spdx_id"], side), "spdx_id", licence.key)
        yield Item(
            id=f"spdx-id-{licence.key}",
            task="find an SPDX id",
            cluster=licence.group,
            label="",
            prompt=fill(prompt, L=named(licence.name)),
            answer=introduce(answer, licence),
            wrong=introduce(answer, neighbour(licence, found)),
        )


def neighbour(licence: Licence, found: list[Licence]) -> Licence:
    """Another licence that could be mistaken for this one: its id begins with the same letter where one does."""
    others = [x for x in found if x.name != licence.name and x.spdx != licence.spdx]
    alike = [x for x in others if x.spdx[0].lower() == licence.spdx[0].lower() and x.group != licence.group]
    return pick(alike or others, "neighbour", licence.key)


def expression(side: str, count: int = 240) -> Iterator[Item]:
    """What an SPDX expression of two licences asks for."""
    task = wording()["expression"]
    found = [x.spdx for x in familiar(side)]
    rng = random.Random(f"expressions {side}")
    for number in range(count):
        first, second = rng.sample(found, 2)
        word, other = ("OR", "AND") if number % 2 else ("AND", "OR")
        text = f"{first} {word} {second}"
        answers = {name: pick(task[name.lower()], "answer", text) for name in (word, other)}
        yield Item(
            id=f"expression-{side}-{number}",
            task="read an SPDX expression",
            cluster=f"expression:{text}",
            label=word,
            prompt=fill(pick(phrasings(task, side), "expression", text), X=text),
            answer=fill(answers[word], A=first, B=second),
            wrong=fill(answers[other], A=first, B=second),
        )


def notice(side: str, count: int = 420) -> Iterator[Item]:
    """The SPDX expression of a licence notice, for training: measured licences have too few notices."""
    task = wording()["notice"]
    taken: dict[str, int] = {}
    names = {x.spdx: named(x.name) for x in on(side)}
    for name, text, found in notices(0, 6, 34):
        if taken.get(found, 0) >= count // 10:  # no licence takes more than a tenth
            continue
        taken[found] = taken.get(found, 0) + 1
        prompt = pick(phrasings(task, side), "notice", name)
        wrong = slightly_other(found, sorted(names), name)
        yield Item(
            id=f"notice-{name}",
            task="notice to SPDX",
            cluster=f"notice-{name}",
            label=found,
            prompt=prompt.format(E=text),
            answer=f"`{found}`. {expression_reason(found, names, name)}",
            wrong=f"`{wrong}`. {expression_reason(wrong, names, name)}",
        )
        if sum(taken.values()) == count:
            return


def expression_reason(text: str, names: dict[str, str], *key: str) -> str:
    """The remark that goes with an SPDX expression."""
    reasons = wording()["notice"]["reasons"]
    for mark, kind in ((" OR ", "or"), (" AND ", "and"), (" WITH ", "with"), ("-or-later", "later"), ("-only", "only")):
        if mark in text:
            return pick(reasons[kind], *key)
    return fill(pick(reasons["plain"], *key), L=names.get(text, text))


def slightly_other(text: str, ids: list[str], *key: str) -> str:
    """A wrong expression near the right one: the other reach, the other operator, or another licence."""
    for mark, swapped in ((" OR ", " AND "), (" AND ", " OR "), ("-or-later", "-only"), ("-only", "-or-later")):
        if mark in text:
            return text.replace(mark, swapped)
    return pick([x for x in ids if x and x[0] == text[0] and x != text] or ids, "other", *key)


def header(side: str, count: int = 160) -> Iterator[Item]:
    """The identifier comment for a source file."""
    task = wording()["header"]
    found = familiar(side)
    rng = random.Random(f"headers {side}")
    for number in range(count):
        licence, other = rng.sample(found, 2)
        lang = rng.choice(sorted(COMMENTS))
        answer = rng.choice(task["answers"])
        lines = [COMMENTS[lang].format(f"SPDX-License-Identifier: {x.spdx}") for x in (licence, other)]
        yield Item(
            id=f"header-{side}-{number}",
            task="licence header",
            cluster=licence.group,
            label="",
            prompt=sentence(fill(rng.choice(phrasings(task, side)), ID=licence.spdx, lang=lang)),
            answer=answer.format(line=lines[0]),
            wrong=answer.format(line=lines[1]),
        )


MAKERS = (category_excerpt, category_name, identify, spdx_expand, spdx_id, expression, header, notice)
