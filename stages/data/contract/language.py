"""Texts in another language than the others of their task, and answers in another one than their prompt."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from stages.data.contract.identifier import identifier
from stages.data.contract.spans import requests
from stages.data.contract.view import Found, Item, Mark, Scope, share, without_code

WINDOW = 300  # letters that are looked at, at the start of a text and at the end of a long one
LONG = 3 * WINDOW
NO_PROSE = re.compile(r"https?://\S+|\S+@\S+|<[^<>]{1,80}>|\\\w+|[\d_]+")
IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
SAME = {  # names of one written language, or of such as differ too little for a paragraph to tell
    **dict.fromkeys(["nn", "da"], "no"), **dict.fromkeys(["bs", "sr"], "hr"), **dict.fromkeys(["ms", "jv"], "id"),
    **dict.fromkeys(["an", "ext"], "es"), **dict.fromkeys(["ary", "arz"], "ar"), **dict.fromkeys(["wuu", "yue"], "zh"),
    "pcm": "en", "uzs": "uz", "gcr": "ht", "gcf": "ht",
}  # fmt: skip
NO_LANGUAGE = "zxx"
MOST = 0.6  # of the texts whose language can be told: from there it is the rule, below a set of several languages
SURE = 0.999  # probability from which the other languages are not asked
LIKELY, UNLIKELY = 0.5, 0.01  # a text that is likely Spanish or Catalan, and so unlikely English, is not English
NAMES = {
    "en": "English", "sv": "Swedish", "no": "Norwegian or Danish", "de": "German", "fr": "French", "es": "Spanish",
    "pt": "Portuguese", "it": "Italian", "nl": "Dutch", "fi": "Finnish", "pl": "Polish", "ru": "Russian",
    "tr": "Turkish", "zh": "Chinese", "ja": "Japanese", "ko": "Korean", "ar": "Arabic",
    "hi": "Hindi", "vi": "Vietnamese",
}  # fmt: skip
ASKED = re.compile(  # a prompt that speaks of languages may be answered in any
    r"translat|traduc|traduz|tradui|übersetz|översätt|oversett|oversæt|vertaal|vertalen|перевед|перевод|tłumacz|翻译|翻訳|"
    r"번역|ترجم|अनुवाद|çevir|languages?\b|lingual|\b(?:English|German|Deutsch|French|français|Spanish|español|Italian|"
    r"Portuguese|Dutch|Swedish|svenska|Norwegian|Danish|Finnish|Icelandic|Polish|Czech|Slovak|Hungarian|Romanian|"
    r"Bulgarian|Serbian|Croatian|Russian|Ukrainian|Greek|Turkish|Arabic|Hebrew|Persian|Farsi|Hindi|Urdu|Bengali|"
    r"Gujarati|Marathi|Punjabi|Tamil|Telugu|Kannada|Malayalam|Nepali|Sinhala|Thai|Vietnamese|Indonesian|Malay|Tagalog|"
    r"Filipino|Swahili|Yoruba|Hausa|Igbo|Zulu|Somali|Amharic|Chinese|Mandarin|Cantonese|Japanese|Korean|Latin|Esperanto|Catalan|"
    r"Galician|Basque|Welsh|Irish|Gaelic|Albanian|Armenian|Georgian|Kazakh|Mongolian|engelska|Englisch|anglais|"
    r"inglés|английск\w*)\b",
    re.I,
)


@lru_cache(maxsize=2**14)
def _shares(text: str) -> dict[str, float]:
    """Language -> probability, the most likely first, without those that it is unlikely in; those of SAME are one."""
    shares: Counter[str] = Counter()
    for name, probability in identifier().likely(text, SURE):
        shares[SAME.get(name, name)] += probability
    (first, *others) = shares.most_common()
    return dict([first, *(share for share in others if share[1] > UNLIKELY)])


def languages(text: str, letters: int) -> list[dict[str, float]]:
    """Probabilities of the languages (ISO 639) of a text's start, and of a long one's end; none for too few letters."""
    return [_shares(prose) for prose in _prose(text, letters)]


def _prose(text: str, letters: int) -> list[str]:
    """What is looked at of a text; nothing of too few letters."""
    windows = (" ".join(NO_PROSE.sub(" ", window).split()) for window in _windows(without_code(text)))
    return [prose for prose in windows if _letters(prose) >= letters]


def _letters(text: str) -> int:
    """Its letters; a Chinese or Japanese one says as much as two others."""
    return sum(map(str.isalpha, text)) + (0 if text.isascii() else len(IDEOGRAPH.findall(text)))


def known(shares: Mapping[str, float], probability: float) -> str | None:
    """The language, if it is sure enough."""
    name, sure = next(iter(shares.items()))
    return name if sure >= probability and name != NO_LANGUAGE else None


def is_another(shares: Mapping[str, float], names: Collection[str], probability: float) -> bool:
    """Whether the text is in none of these languages, also where it is unclear in which it is."""
    name, sure = next(iter(shares.items()))
    if name in names or name == NO_LANGUAGE:
        return False
    return sure >= probability or (sure >= LIKELY and all(shares.get(each, 0.0) <= UNLIKELY for each in names))


def _windows(text: str) -> Iterator[str]:
    yield text[:WINDOW]
    if len(text) > LONG:
        yield text[-WINDOW:]


@dataclass(frozen=True)
class Spoken:
    """Languages of a row: of its prompt, and of each text that is trained on; a lone prompt is one itself."""

    prompt: list[dict[str, float]]
    texts: list[list[dict[str, float]]]

    def names(self, probability: float) -> set[str]:
        """Those that are known."""
        parts = [self.prompt[:1], *(shares[:1] for shares in self.texts)]
        return {name for part in parts for shares in part if (name := known(shares, probability))}


def language_mix(scope: Scope) -> Found | None:
    """Rows in another language than the others of their task, or whose answer is in another one than its prompt.

    A prompt that asks for a translation or names a language may have any answer.
    """
    spoken = dict(zip((item.index for item in scope.items), scope.each(spoken_in), strict=True))
    rules = _rules(scope, spoken)
    differs = partial(_differs, probability=scope.config.language)
    told = {item.index: hit for item in scope.items if (hit := differs(item, spoken[item.index], rules.get(item.task)))}
    if not told:
        return None
    counts = Counter(name for name, _ in told.values())
    named = ", ".join(f"{NAMES.get(name, name)} in {count}" for name, count in counts.most_common(5))
    what = "rows are in another language than the others, or than their prompt"
    return Found(
        [Mark(index, text) for index, (_, text) in told.items()],
        f"{share(len(told), len(scope.rows))} {what}: {named}.",
        "Give each language a `task` or a data set of its own, or take the rows out; if the mix is meant, accept it.",
        detail={"languages": dict(counts), "rule": dict(Counter(rules.values()))},
    )


def spoken_in(items: Sequence[Item], scope: Scope) -> list[Spoken]:
    """The languages of each item."""
    letters = scope.config.language_letters
    identifier().read(
        prose for item in items for text in (item.prompt, *item.answers) for prose in _prose(text, letters)
    )
    return [_spoken(item, letters) for item in items]


def _spoken(item: Item, letters: int) -> Spoken:
    prompt = languages(item.prompt, letters) if item.answers and item.prompt else []
    return Spoken(prompt, [languages(text, letters) for text in _texts(item)])


def _texts(item: Item) -> tuple[str, ...]:
    return item.answers or (item.prompt,)


def _rules(scope: Scope, spoken: Mapping[int, Spoken]) -> dict[str, str]:
    """Task -> its language, where MOST of its texts, prompts included, have one.

    A task in which fewer than `group` rows tell their language follows the whole set.
    """
    everywhere: Counter[str] = Counter()
    told: dict[str, Counter[str]] = {}
    for item in scope.items:
        names = spoken[item.index].names(scope.config.language)
        told.setdefault(item.task, Counter()).update(names)
        everywhere.update(names)
    large = {task: counts.total() >= scope.config.group for task, counts in told.items()}
    rules = {task: _dominant(counts if large[task] else everywhere) for task, counts in told.items()}
    return {task: name for task, name in rules.items() if name}


def _dominant(counts: Counter[str]) -> str:
    """The language of at least MOST of the texts, or nothing."""
    name, count = counts.most_common(1)[0] if counts else ("", 0)
    return name if count and count >= MOST * counts.total() else ""


def _differs(item: Item, spoken: Spoken, rule: str | None, probability: float) -> tuple[str, str] | None:
    """(the language that is not expected, the text in it), or None."""
    prompt = [name for shares in spoken.prompt if (name := known(shares, probability))]
    strange = [
        (next(iter(shares)), text)
        for text, windows in zip(_texts(item), spoken.texts, strict=True)
        for shares in windows
        if (rule and is_another(shares, [rule], probability)) or (prompt and is_another(shares, prompt, probability))
    ]
    if rule and spoken.prompt and all(is_another(shares, [rule], probability) for shares in spoken.prompt):
        strange.append((next(iter(spoken.prompt[0])), item.prompt))
    if strange and item.form != "text" and ASKED.search(f"{item.system}\n{requests(item)}"):
        return None
    return strange[0] if strange else None
