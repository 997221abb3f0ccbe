"""How things are said: the authored phrasings, and the small grammar that puts names into them."""

import random
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from stages.data.legal.licences import Licence
from stages.data.legal.talk import AUTHORED
from stages.data.split import unit

PROMPTS = AUTHORED / "legal_prompts.yaml"
NOUN = re.compile(
    r"licen[sc]e|eula|agreement|dedication|exception|notice|waiver|terms|copyright|permission|statement", re.I
)
BODY = re.compile(  # bodies that take an article
    r"^(Regents|University|Free Software|Board|Trustees|Institute|Academy|National|Open (Data|Knowledge))"
    r"|(Foundation|Project|Consortium|Council|Institute|Association|Initiative|Authority|Laboratory|Alliance|Group)$"
)
LETTER_NAME = re.compile(r"[AEFHILMNORSX][A-Z0-9]|[AEIOaeio]")  # begins with a vowel's sound: an MPL, an Apache


@dataclass(frozen=True)
class Item:
    """One question with its right answer and a wrong one in the same style. All sets are made of these."""

    id: str
    task: str
    prompt: str
    answer: str
    wrong: str
    cluster: str
    label: str  # the bare right answer: Yes, Copyleft ...; sets are balanced over it
    slices: dict[str, str] = field(default_factory=dict)


@lru_cache
def wording() -> dict[str, Any]:
    """The authored phrasings."""
    import yaml

    return yaml.load(PROMPTS.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def phrasings(task: dict[str, Any], side: str) -> list[str]:
    """The phrasings of a task for a side: training has its own."""
    return task["train" if side == "train" else "measure"]


def pick(choices: list[Any], *key: str) -> Any:
    """One of the choices, always the same for the same key."""
    return choices[int(unit("pick", *key) * len(choices))]


def several(choices: list[Any], count: int, *key: str) -> list[Any]:
    """`count` different choices in an order that the key decides."""
    return random.Random(f"several {key}").sample(choices, min(count, len(choices)))


def named(name: str) -> str:
    """A licence's name as it stands inside a sentence: the MIT License, the Copyheart licence."""
    name = re.sub(r"^The ", "", name).strip()
    if name == "WTFPL":
        return "the WTFPL"
    return f"the {name}" if NOUN.search(name) else f"the {name} licence"


def sentence(text: str) -> str:
    """With a capital first letter, unless it begins with an id such as zlib or 0BSD."""
    return "The " + text[4:] if text.startswith("the ") else text


def article(name: str) -> str:
    """The name with a or an."""
    return f"{'an' if LETTER_NAME.match(name) and not name.startswith(('Uni', 'One')) else 'a'} {name}"


def fill(template: str, **values: str) -> str:
    """The template with its {names} filled; each also as {name_cap}, at a sentence's start, and as {a_name}."""
    known = dict(values)
    for name, value in values.items():
        known[f"{name}_cap"] = sentence(value)
        known[f"a_{name}"] = article(value)
        known[f"a_{name}_cap"] = "A" + article(value)[1:]
    return template.format(**known)


def listed(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def presentable(licence: Licence) -> bool:
    """Whether the name reads well in a sentence: short, with a capital, and without code-like parts."""
    name = licence.name
    return len(name) <= 60 and name[0].isupper() and not re.search(r"[_/]|\d{4}-\d\d|\(.*\(|^[A-Z]+-[A-Z]+$", name)


def by(owner: str) -> str:
    """The owner without the parts that only a database needs, `FSF - ...` or `(FSF)`, and with its article."""
    owner = re.sub(r"\s*\([^)]*\)", "", owner)
    parts = owner.split(" - ")
    name = parts[1] if len(parts) == 2 and parts[0].isupper() else parts[0]
    return f"the {name}" if BODY.search(name) else name
