"""What kind of task a prompt sets, read off the lines that ask or order something. Made for English.

The first rule of `task_rules` that fits names the type; it is asked of the first line, of the last, and of both ends
together. docs/coverage.md has the accuracy on prompts that were labelled by hand.
"""

import re
from functools import cache

from stages.data.coverage.task_rules import ASKING, BOILERPLATE, COURTESY, RULES
from stages.data.literals import Sought

TASKS = {  # type -> what to collect where it is missing
    "question_answering": "questions of fact and requests to explain or compare",
    "closed_qa": "questions about a passage that stands in the prompt",
    "classification": "texts to be put into given classes, true-or-false and multiple choice",
    "extraction": "texts from which names, dates or fields are to be taken",
    "summarising": "texts to be shortened, titled or put into key points",
    "rewriting": "texts to be corrected, rephrased, reordered or put into another tone",
    "translation": "texts to be put into another language",
    "brainstorming": "requests for lists, ideas, names and examples",
    "writing": "letters, e-mails, stories, poems, posts and descriptions to be written",
    "code": "programs to be written, explained or mended",
    "mathematics": "calculations, word problems, proofs and puzzles",
    "advice": "plans, recommendations and how-to questions of one's own life and work",
    "chat": "greetings, thanks, feelings and small talk",
    "constraints": "answers in a prescribed form: JSON, a table, an exact number of words",
    "role_play": "conversations in which the assistant plays somebody",
}
OTHER = "other"
HEAD, TAIL = 320, 240  # letters of a prompt in which its task is looked for
READ = 2000  # letters of either end of a prompt in which boilerplate and lines are looked for
PASSAGE = 100  # letters from which what stands beside a question is a passage
_QUESTION = re.compile(r"\?[\"'”)\s]*$")
_OWN = re.compile(r"\b(?:I|my|we|our|me)\b")  # somebody's own affairs
_ORDER = re.compile(
    r"\?|^(?:please )?(?:explain|elaborate|expand|explore|discuss|describe|compare|consider|reflect)", re.I
)
WEAK = ("question_answering", "advice", "chat", OTHER)  # types that a passage beside the question turns to closed_qa


@cache
def _rules() -> tuple[tuple[str, Sought], ...]:
    return tuple((task, Sought(patterns, re.MULTILINE)) for task, *patterns in RULES)


_BOILERPLATE, _COURTESY, _ASKING = (
    re.compile("|".join(patterns), re.MULTILINE) for patterns in (BOILERPLATE, COURTESY, ASKING)
)


def task_of(prompt: str) -> str:
    """The type of the task that the prompt sets, a key of TASKS or OTHER."""
    told = OTHER
    for said in _asking_parts(prompt):
        found = _first(said)
        if found not in WEAK:
            return found
        told = found if told == OTHER else told
    if told == OTHER:  # perhaps nothing but the greeting that was taken off
        told = _first(prompt.strip().lower()[:HEAD])
    return "closed_qa" if told in WEAK and _beside_a_passage(prompt) else told


def _first(said: str) -> str:
    return next((task for task, rule in _rules() if rule.found(said)), OTHER)


def _asking_parts(prompt: str) -> list[str]:
    """The first line and the last where they ask or order something, and both ends of the whole, in small letters."""
    text = _BOILERPLATE.sub("", _ends(prompt).lower().replace("’", "'")).strip()
    head = text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        return [_COURTESY.sub("", head)]
    ends = (_COURTESY.sub("", lines[0][:HEAD]), _COURTESY.sub("", lines[-1][-TAIL:]))
    return [*(end for end in ends if _ASKING.search(end)), _COURTESY.sub("", head)]


def _ends(prompt: str) -> str:
    text = prompt.strip()
    return text if len(text) <= 2 * READ else f"{text[:READ]}\n{text[-READ:]}"


def _beside_a_passage(prompt: str) -> bool:
    """A question in the first or the last line, or sentence, and enough text beside it."""
    text = _ends(prompt)
    pieces = [line for line in text.splitlines() if line.strip()]
    if len(pieces) < 2:
        pieces = re.split(r"(?<=[.!?])\s+", text)
        if _OWN.search(text) or _ORDER.search(pieces[0]):
            return False
    asked = [piece for piece in (pieces[0], pieces[-1]) if _QUESTION.search(piece)]
    return len(pieces) > 1 and any(len(text) - len(piece) >= PASSAGE for piece in asked)
