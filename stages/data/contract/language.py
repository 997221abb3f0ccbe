"""Texts in another language than the others of their task, and answers in another one than their prompt."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from stages.data.contract.view import Found, Item, Mark, Scope, share, without_code

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

WINDOW = 300  # letters that are looked at, at the start of a text and at the end of a long one
LONG = 3 * WINDOW
NO_PROSE = re.compile(r"https?://\S+|\S+@\S+|<[^<>]{1,80}>|\\\w+|[\d_]+")
SAME = {  # names of one written language, or of such as differ too little for a paragraph to tell
    **dict.fromkeys(["nn", "da"], "no"), **dict.fromkeys(["bs", "sr"], "hr"), **dict.fromkeys(["ms", "jv"], "id"),
    **dict.fromkeys(["an", "ext"], "es"), **dict.fromkeys(["ary", "arz"], "ar"), **dict.fromkeys(["wuu", "yue"], "zh"),
    "pcm": "en", "uzs": "uz", "gcr": "ht", "gcf": "ht",
}  # fmt: skip
NO_LANGUAGE = "zxx"
MOST = 0.6  # of the texts whose language can be told: from there it is the rule, below a set of several languages
SURE = 0.999  # from which the others of a family are not asked
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


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=2**14)
def _identified(text: str) -> tuple[str, float]:
    """The language and its probability; those of SAME share one."""
    name, probability = _identifier().classify(text)
    family = SAME.get(name, name)
    if probability < SURE and family in SAME.values():
        probability = sum(part for other, part in _identifier().rank(text) if SAME.get(other, other) == family)
    return family, probability


def languages(text: str, probability: float, letters: int) -> list[str]:
    """Languages of a text's start, of a long one's end too, as ISO 639; none where it cannot be told."""
    found = []
    for window in _windows(without_code(text)):
        prose = " ".join(NO_PROSE.sub(" ", window).split())
        if sum(map(str.isalpha, prose)) < letters:
            continue
        name, sure = _identified(prose)
        if sure >= probability and name != NO_LANGUAGE:
            found.append(name)
    return found


def _windows(text: str) -> Iterator[str]:
    yield text[:WINDOW]
    if len(text) > LONG:
        yield text[-WINDOW:]


def language_mix(scope: Scope) -> Found | None:
    """Rows in another language than most of their task, or whose answer is in another one than its prompt.

    A prompt that asks for a translation or names a language may have any answer.
    """
    config = scope.config
    spoken = {item.index: _spoken(item, config.language, config.language_letters) for item in scope.items}
    rules = _rules(scope, spoken)
    told = {item.index: hit for item in scope.items if (hit := _differs(item, spoken[item.index], rules))}
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


def _spoken(item: Item, probability: float, letters: int) -> tuple[list[str], dict[str, list[str]]]:
    """Languages of the prompt, and of each text that is trained on; of a lone prompt that is itself."""
    texts = item.answers or (item.prompt,)
    asked = languages(item.prompt, probability, letters) if item.answers and item.prompt else []
    return asked, {text: languages(text, probability, letters) for text in texts}


def _rules(scope: Scope, spoken: Mapping[int, tuple[list[str], dict[str, list[str]]]]) -> dict[str, str]:
    """Task -> its language, where MOST of its texts, prompts included, have one.

    A task in which fewer than `group` rows tell their language follows the whole set.
    """
    told: dict[str, Counter[str]] = {"": Counter()}
    for item in scope.items:
        asked, texts = spoken[item.index]
        names = {found[0] for found in (asked, *texts.values()) if found}
        told.setdefault(item.task, Counter()).update(names)
        if item.task:
            told[""].update(names)
    everywhere = _dominant(told[""])
    rules = {}
    for task, counts in told.items():
        enough = counts.total() >= scope.config.group
        rules[task] = _dominant(counts) if enough else everywhere
    return {task: name for task, name in rules.items() if name}


def _dominant(counts: Counter[str]) -> str:
    """The language of at least MOST of the texts, or nothing."""
    name, count = counts.most_common(1)[0] if counts else ("", 0)
    return name if count and count >= MOST * counts.total() else ""


def _differs(
    item: Item, spoken: tuple[list[str], dict[str, list[str]]], rules: Mapping[str, str]
) -> tuple[str, str] | None:
    """(the language that is not expected, the text in it), or None."""
    asked, texts = spoken
    if item.form != "text" and ASKED.search(f"{item.system}\n{item.prompt}"):
        return None
    rule = rules.get(item.task)
    for text, names in texts.items():
        other = next((name for name in names if rule and name != rule), None)
        other = other or next((name for name in names if asked and name not in asked), None)
        if other:
            return other, text
    strange = next((name for name in asked if rule and name != rule), None)
    return (strange, item.prompt) if strange and not any(rule == name for name in asked) else None
