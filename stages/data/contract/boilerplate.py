"""Phrases of other assistants in answers: a model that is trained on them says them to everybody."""

import re
from collections import Counter
from collections.abc import Sequence

from stages.data.contract.spans import Span, blanked, requests, shown
from stages.data.contract.view import Found, Item, Mark, Scope, share

AI = (
    r"(?:(?:AI|artificial intelligence|machine learning)(?:[- ](?:powered|based))?(?:[- ]?language)?"
    r"(?:[- ](?:model|assistant|chatbot|system|bot))?|(?:large )?language model|LLM)"
)
MACHINE = r"(?:(?:digital |virtual |computer )?(?:assistant|program)|chatbot|bot|robot|machine)"
UNABLE = (
    r"(?:do not|don['’]t|can ?not|can['’]t|am not|have no|lack|am unable|['’]m not|['’]m unable|was trained|"
    r"am designed|could not)"
)
PHRASES = (  # (kind, letters of which one is in every such phrase, pattern)
    (
        "disclaimer",
        ("AI", "rtificial", "odel", "ssistant", "rogram", "bot", "achine", "LLM"),
        rf"\b[Aa]s (?:just |only |merely )?an? (?:{AI}\b[^.!?\n]{{0,60}}?[, ]|{MACHINE}, )(?:I|my|I['’]\w+)\b"
        rf"|\bI(?:['’]| a)m (?:just|only|simply|merely) an? (?:{AI}|{MACHINE})\b"
        rf"|\bI(?:['’]| a)m an? (?:{AI}|{MACHINE})\b[^.!?\n]{{0,40}}?\b{UNABLE}",
    ),
    (
        "disclaimer",
        ("KI-", "AI-", "KI ", "IA", "odel", "intelligen", "inteligen", "ссистент", "модель", "ИИ", "模型", "助手"),
        r"\b[Aa]ls (?:ein(?:e)? )?(?:KI|AI)-?(?:[Ss]prachmodell|[Aa]ssistent|[Mm]odell|taalmodel)"
        r"|\b[Ee]n tant qu(?:['’]|e )(?:IA|intelligence artificielle|modèle de langage|assistant)"
        r"|\b[Cc]omo (?:un |uma? )?(?:modelo de (?:lenguaje|linguagem|IA)|IA\b|AI\b|inteligencia artificial)"
        r"|\b[Ss]om (?:en )?AI-(?:språk)?modell|\b[Cc]ome modello linguistico|\b[Кк]ак (?:языковая модель|ИИ\b)"
        r"|作为(?:一个|一名)?(?:AI|人工智能)(?:语言)?(?:模型|助手)",
    ),
    (
        "cutoff",
        ("knowledge", "training", "access", "update"),
        r"\b[Mm]y (?:knowledge|training)(?: data)?['’]?s? cut-?\s?off"
        r"|\b[Aa]s of my (?:last|latest|most recent|knowledge|training)"
        r"|\b[Mm]y (?:training data|knowledge)(?: base)?(?: only)? (?:goes|extends|ends|stops|was last updated|"
        r"is (?:limited|current) (?:to|as of|up to))|\b[Bb]ased on my training\b"
        r"|\bI (?:do not|don['’]t|cannot|can['’]t) (?:have )?access (?:to )?"
        r"(?:real-?time|up-to-date|current|the internet|the latest)",
    ),
    (
        "filler",
        ("Certainly", "Sure", "course", "Absolutely", "question!", "question.", "Great question"),
        r"\A\s*(?:Certainly|Sure(?: thing)?|Of course|Absolutely|Great question|Good question)[!,.]+ "
        r"(?:[Hh]ere(?:['’]s| is| are)|I(?:['’]d| would|['’]ll) be (?:more than )?(?:happy|glad))"
        r"|\A\s*(?:Great|Good|Excellent|What a great) question!",
    ),
    (
        "filler",
        ("hope", "et me know", "eel free", "anything else"),
        r"\bI hope (?:this|that|it|these)(?: \w+){0,2} helps?\b[^\n]{0,120}\Z"
        r"|\b(?:[Ll]et me know|[Ff]eel free to (?:ask|reach out|let me know))\b[^.!?\n]{0,40}\b(?:other|further|more|"
        r"additional|any) (?:questions?|help|assistance|information|details)[^.!?\n]{0,60}[.!]?\s*\Z"
        r"|\bIs there anything else I can (?:help|assist|do)[^.!?\n]{0,40}\?\s*\Z",
    ),
)
PATTERNS = [(kind, hints, re.compile(pattern)) for kind, hints, pattern in PHRASES]
ABOUT_AI = re.compile(
    r"\bA\.?I\b|artificial intelligence|language model|chat ?bot|chatgpt|\bgpt|\brobots?\b|\bassistant|cut-?off|"
    r"machine learning|\bwho (?:are|made|created|built|trained|developed) you|\bwhat are you\b|yourself|\babout you\b|"
    r"\byour (?:name|creators?|developers?|makers?|purpose|training|knowledge)|"
    r"\bare you (?:an?|the|real|human|alive|conscious|sentient)\b",
    re.I,
)
QUOTES = tuple("\"“”'‘’«»„「『*_")
CALLED = {
    "disclaimer": 'disclaimers ("As an AI ...")',
    "cutoff": "remarks on what it was trained on",
    "filler": 'fillers ("Certainly! Here is ...", "I hope this helps")',
}


def boilerplate(scope: Scope) -> Found | None:
    """Rows that teach a disclaimer of being an AI, a remark on its knowledge, or an empty opening or end of an answer.

    Not where the prompt speaks of AI or asks the assistant about itself, and not in answers that are taught against.
    """
    told = {item.index: hit for item, hit in zip(scope.items, scope.each(phrases_of), strict=True) if hit}
    if not told:
        return None
    counts = Counter(span.kind for _, span in told.values())
    named = ", ".join(f"{counts[kind]} {name}" for kind, name in CALLED.items() if counts[kind])
    order = sorted(told, key=lambda index: (list(CALLED).index(told[index][1].kind), index))
    return Found(
        [Mark(index, shown(*told[index])) for index in order],
        f"{share(len(told), len(scope.rows))} rows have answers with the phrases of an assistant: {named}.",
        "Take the phrases out of these answers, or the rows; write limits and refusals in your own assistant's words.",
        detail=dict(counts),
    )


def phrases_of(items: Sequence[Item], scope: Scope) -> list[tuple[str, Span] | None]:
    """The text of each item in which a phrase is found, and where."""
    return [_in_item(item) for item in items]


def _in_item(item: Item) -> tuple[str, Span] | None:
    """The first phrase; where the talk is of AI itself only fillers count."""
    for text in taught(item):
        for span in _phrases(text):
            if span.kind == "filler" or not ABOUT_AI.search(requests(item)):
                return text, span
    return None


def taught(item: Item) -> Sequence[str]:
    """The answers that training makes more likely."""
    if item.form in ("chat", "text"):
        return item.answers
    if item.form == "label":
        return item.answers if item.row["label"] else ()
    if item.form == "votes":
        counts = Counter(vote.get("prefers") for vote in item.row["votes"])
        sides = zip(item.answers, "ab", "ba", strict=True)
        return [text for text, side, other in sides if counts[side] >= counts[other]]
    return item.answers[:1]


def _phrases(text: str) -> list[Span]:
    """Those outside code and quotation marks, by kind."""
    asked = [(kind, pattern) for kind, hints, pattern in PATTERNS if any(hint in text for hint in hints)]
    prose = blanked(text) if asked else text
    found = ((kind, match.start(), match.end()) for kind, pattern in asked for match in pattern.finditer(prose))
    return [Span(kind, start, end) for kind, start, end in found if not prose[:start].endswith(QUOTES)]
