"""What one prompt and its answer look like: a request with a reply, or two pieces of a text. Made for English."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|\n+")
END = re.compile(r"[.!?:;…。！？][\"'”’)\]*_`]*$")


def listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


ASKING = listed(
    "what why how when where who whom whose which can could would should shall will may might do does did is are am "
    "was were has have had isn't aren't don't doesn't didn't can't couldn't won't wouldn't what's who's where's how's"
)
TELLING = listed(
    "act add advise analyse analyze answer anonymise appraise apply argue arrange ask assess assign assume brainstorm "
    "break build calculate capitalise categorise categorize change check choose cite clarify classify code combine "
    "come compare complete compose compute conclude condense construct continue contrast convert correct count craft "
    "create cut decide deduce define delete demonstrate derive describe design detect determine develop differentiate "
    "discuss distinguish divide draft draw edit elaborate eliminate enumerate estimate evaluate examine expand "
    "explain express extend extract fill filter find finish fix follow form format formulate gather generate get give "
    "group guess help highlight identify illustrate imagine implement improve include infer insert interpret "
    "introduce invent join judge justify label let list look make mark match measure modify multiply name narrate "
    "offer order organise organize outline paraphrase perform pick plan play point predict prepare present pretend "
    "print produce proofread propose prove provide put rank rate read rearrange recommend reduce refactor remind "
    "remove reorder repeat rephrase replace reply report respond restate reverse review revise reword rewrite round "
    "say search select separate shorten show simplify sketch solve sort speak spell split state substitute subtract "
    "suggest sum summarise summarize supply swap take talk teach tell test think trace transform translate try turn "
    "underline unscramble use verify visualize walk weigh welcome write please"
)
FACING = listed("i i'm i've i'd i'll me my mine we're let's hi hello hey thanks")
REPLYING = listed("yes no sure ok okay sorry certainly absolutely hi hello hey thanks well oh yeah yep nope i'm here")
SMALL = listed("the of and to in a is that for it as with on be by this or an are from at not")
LABELLED = re.compile(
    r"^[^\n]{0,40}[:?>-]\s*$|^(?:q|question|input|problem|task|instructions?)\b[^\n]{0,20}:", re.I | re.M
)
ROLE = re.compile(
    r"^(?:you (?:are|will|have|need|must|should|can|want)|your (?:task|job|role|goal)|given|in this task)\b",
    re.IGNORECASE,
)
SHORT = 5  # words of an answer that can still be a label, a number or a name, and no piece of a text
REACH = 2  # sentences at either end of a prompt in which a request is looked for


@dataclass(frozen=True)
class Exchange:
    """One prompt and its answer, and what they show."""

    prompt: str
    answer: str
    asks: bool  # a question or an order at the start or the end of the prompt
    faces: bool  # somebody speaks to somebody: I, me, or the opening of a reply
    broken: bool  # the prompt stops inside a sentence that the answer goes on with
    english: bool
    short: bool  # too few words in the answer for a piece of a text

    @property
    def cut(self) -> bool:
        """Nothing is asked, nobody speaks: two pieces of a text. In another language only a broken sentence tells."""
        if self.asks or self.short:
            return False
        return self.broken or (self.english and not self.faces)


def exchange(prompt: str, answer: str) -> Exchange:
    """Read off one prompt and its answer."""
    sentences = [s.strip() for s in SENTENCE.split(prompt) if s and s.strip()]
    ends = sentences[:REACH] + sentences[-REACH:]
    told, replied = words(prompt), words(answer)
    return Exchange(
        prompt,
        answer,
        asks=any(map(_asks, ends)) or bool(ROLE.match(prompt.lstrip())) or bool(LABELLED.search(prompt[-80:])),
        faces=bool(set(told) & FACING) or bool(set(replied[:4]) & (FACING | REPLYING)),
        broken=not END.search(prompt.rstrip()) and bool(re.match(r"[a-zà-öø-ÿ,;:.)\-]", answer.lstrip())),
        english=sum(word in SMALL for word in told + replied[:200]) >= 0.12 * len(told + replied[:200]),
        short=len(answer.split()) < SHORT,
    )


def words(text: str) -> list[str]:
    return [word.replace("’", "'") for word in WORD.findall(text.lower())]


def _asks(sentence: str) -> bool:
    if sentence.rstrip("\"'”’)*").endswith(("?", "？")):
        return True
    first = words(sentence)[:1]
    return bool(first) and first[0] in ASKING | TELLING


def without_shared_opening(prompts: Sequence[str], share: float) -> list[str]:
    """The prompts without the words that at least `share` of them open with, such as `Continue the text:`."""
    opening: list[str] = []
    split = [prompt.split() for prompt in prompts]
    while len(prompts) > 1:
        at = len(opening)
        nexts = Counter(parts[at] for parts in split if len(parts) > at + 1 and parts[:at] == opening)
        if not nexts or nexts.most_common(1)[0][1] < share * len(prompts):
            break
        opening.append(nexts.most_common(1)[0][0])
    return [_cut(prompt, parts, opening) for prompt, parts in zip(prompts, split, strict=True)]


def _cut(prompt: str, parts: list[str], opening: list[str]) -> str:
    """The prompt without as many words of the opening as it has."""
    for part, word in zip(parts, opening, strict=False):
        if part != word:
            break
        prompt = prompt.lstrip()[len(word) :]
    return prompt.strip()
