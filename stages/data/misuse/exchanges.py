"""What one prompt and its answer look like: a request with a reply, or two pieces of a text. Made for English."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|\n+")
CLAUSE = re.compile(r"[,:;]\s+(?:so |and |then )?")
END = re.compile(r"[.!?:;…。！？][\"'”’)\]*_`]*$")


def listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


WONDERING = listed("what why how what's how's")  # at the head of a sentence they ask, whatever ends it
ASKING = listed(  # so do these, unless a full stop ends the sentence: "When it is full, ..."
    "when where who whom whose which can could would should shall will may might do does did is are am was were has "
    "have had isn't aren't don't doesn't didn't can't couldn't won't wouldn't who's where's"
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
    "remove reorder repeat rephrase replace reply report respond restate return reverse review revise reword rewrite "
    "round say search select separate shorten show simplify sketch solve sort speak spell split state substitute "
    "subtract suggest sum summarise summarize supply swap take talk teach tell test think trace transform translate "
    "try turn underline unscramble use verify visualize walk weigh welcome write please"
)
NAMED = listed("of is are was were shall may will must can means has have had")  # after a noun: "List of ..."
LEADING = listed("now then also next first finally kindly just and so")  # may stand before an order
GIVEN = listed("given using based as from suppose imagine assuming considering with for in")  # "Given a list, sort it."
WANTED = listed(  # what a few words without a verb ask for: "A haiku about autumn"
    "list recipe story poem haiku letter email essay tips ideas summary description explanation example examples query "
    " function program script code title slogan headline joke pros difference differences instructions steps plan"
)
FACING = listed("i'm i've i'd i'll me my mine we're let's hi hello hey thanks")
REPLYING = listed("yes no sure ok okay sorry certainly absolutely hi hello hey thanks well oh yeah yep nope i'm here")
THE = listed("a an the this that these those all any each every some my your me us him her it its two three four five")
LINKING = listed(  # of words that may stand before one of those, no orders
    "in on at by of to for from with without under over into upon after before during since until through per than as "
    "if when while where because although unless whether and or but nor so that this is are was were be not no only "
    "all both such he she it they we who which both half like within among between against about above below except"
)
UNORDERLY = ("s", "ed", "ing", "ly")  # endings of words that are no orders
SPEAKER = re.compile(r"\bI\b(?=\s+[a-z])|(?<![(\w.])i (?!in\b|is\b|th\b)(?=[a-z])")  # neither a numeral nor an index
WRAPPED = re.compile(r"(?<=[a-z,])\n(?=[a-z(])")  # a line that ends inside a sentence
ACTED = re.compile(r"(?:^|\s)\*[^\W\d_][^*\n]{2,}\*")  # role-play: *opens the door*
SMALL = listed("the of and to in a is that for it as with on be by this or an are from at not")
TURN = "human|user|customer|assistant|agent|bot|ai|person|speaker"
LABELLED = re.compile(
    rf"^[^\n]{{0,40}}[:?>-]\s*\Z|^(?:q|question|input|problem|task|instructions?|{TURN})\b[^\n]{{0,20}}:", re.I | re.M
)
ROLE = re.compile(
    r"^(?:you (?:are|will|have|need|must|should|can|want)|your (?:task|job|role|goal)|given|in this task)\b",
    re.IGNORECASE,
)
EMPTY = re.compile(  # an instruction that says nothing but: go on
    r"\b(?:continu|complet|finish|proceed|go on|carry on|keep (?:going|writing)|next|rest of|second half|remaind"
    r"|respon[ds]|reply|answer|read|process|predict|generate (?:the|more) text)",
    re.IGNORECASE,
)
TRANSFORMING = re.compile(
    r"\b(?:translat|summar|re-?writ|rephras|paraphras|correct|proofread|classif|categori|label|extract|convert|simplif"
    r"|shorten|grade|score)",
    re.IGNORECASE,
)
SHORT = 5  # words of an answer that can still be a label, a number or a name, and no piece of a text
TYPED = 12  # words of a prompt that can still be what one types into a search
LONG = 60  # words of a prompt in which somebody may speak of himself without speaking to anybody
ENGLISH = 0.12  # share of small words from which words are English prose
SOME = 10  # words from which one side of an exchange tells its language, or that it stops inside a sentence
REACH = 2  # sentences at either end of a prompt in which a request is looked for


@dataclass(frozen=True)
class Exchange:
    """One prompt and its answer, and what they show."""

    prompt: str
    answer: str
    asks: bool  # a question or an order at the start or the end of the prompt
    faces: bool  # somebody speaks to somebody
    broken: bool  # the prompt stops inside a sentence that the answer goes on with
    english: bool
    short: bool  # too few words in the answer for a piece of a text

    @property
    def cut(self) -> bool:
        """Nothing is asked, nobody speaks: two pieces of a text. In another language only a broken sentence tells."""
        if self.short:
            return False
        return self.broken or (self.english and not self.asks and not self.faces)


def exchange(prompt: str, answer: str, told: bool = False) -> Exchange:
    """Read off one prompt and its answer. `told`: the system turn has said what is to be done with the prompt."""
    prompt, answer = WRAPPED.sub(" ", prompt), WRAPPED.sub(" ", answer)
    asked, replied = words(prompt), words(answer)
    return Exchange(
        prompt,
        answer,
        asks=told or _request(prompt),
        faces=_faces(prompt, asked, answer, replied),
        broken=_broken(prompt, answer),
        english=_english(asked, replied),
        short=len(answer.split()) < SHORT,
    )


def transforms(instruction: str) -> bool:
    """Whether it says what is to be made of the texts that follow, such as a translation."""
    return bool(TRANSFORMING.search(instruction))


def asking(text: str) -> bool:
    """Whether any sentence of an instruction asks for more than to go on."""
    return any(_asks(sentence) and not EMPTY.search(sentence) for sentence in sentences(text))


def sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in SENTENCE.split(text) if sentence.strip()]


def _request(prompt: str) -> bool:
    """A question or an order at either end, a label where the answer goes, a role; or a few words as one types them."""
    every = sentences(prompt)
    if any(map(_asks, every[:REACH] + every[-REACH:])) or ROLE.match(prompt.lstrip()):
        return True
    few = 1 < len(prompt.split()) <= TYPED and not prompt.rstrip().endswith(".")
    if few and (prompt.lstrip()[:1].islower() or set(words(prompt)[:4]) & WANTED):
        return True
    return bool(LABELLED.search(prompt[:200]) or LABELLED.search(prompt[-200:]))


def _faces(prompt: str, told: list[str], answer: str, replied: list[str]) -> bool:
    """Somebody says I, greets or answers; in a long prompt, which may be a tale, the answer must turn to him."""
    if (ACTED.search(prompt) and ACTED.search(answer)) or answer.startswith("```"):
        return True
    speaks = bool(set(told) & FACING) or bool(SPEAKER.search(prompt))
    begun = sentences(answer)[:2]
    replies = bool(set(replied[:4]) & (FACING | REPLYING)) or any(said.endswith("?") for said in begun)
    if len(told) > LONG:
        return speaks and (replies or bool({"you", "your", "you're"} & set(words(" ".join(begun[:1])))))
    return speaks or replies


def _broken(prompt: str, answer: str) -> bool:
    """Both are written prose, and the prompt has no end, the answer no beginning."""
    begun, rest = prompt.strip(), answer.strip()
    if len(begun.split()) < SOME or END.search(begun) or not re.match(r"[a-zà-öø-ÿ,;:.)\-]", rest):
        return False
    return begun[:1].isupper() and bool(re.search(r"[.!?;:。][\"'”’)\]]*(?:\s+\W*[^\W\d_a-z]|\Z)", rest))


def _english(told: list[str], replied: list[str]) -> bool:
    """Both together are, and neither is plainly not, as a translation is."""
    both, parts = told + replied[:200], (told, replied[:200])
    return _small(both) >= ENGLISH and all(len(part) < SOME or _small(part) >= ENGLISH / 2 for part in parts)


def _small(part: Sequence[str]) -> float:
    return sum(word in SMALL for word in part) / max(1, len(part))


def words(text: str) -> list[str]:
    return [word.replace("’", "'") for word in WORD.findall(text.lower())]


def _asks(sentence: str) -> bool:
    if sentence.rstrip("\"'”’)*").endswith(("?", "？")) or re.search(r"\bplease\b", sentence, re.I):
        return True
    whole, *clauses = words(sentence), *map(words, CLAUSE.split(sentence)[1:])
    while whole and whole[0] in LEADING:
        whole = whole[1:]
    if not whole:
        return False
    if _orders(whole) or whole[0] in WONDERING or (whole[0] in ASKING and not sentence.endswith((".", ";"))):
        return True
    later = _orders if whole[0] in GIVEN else _orders_something
    return any(later(clause) or clause[0] in WONDERING for clause in clauses if clause)


def _orders(said: list[str]) -> bool:
    """Begins with a verb of requests, or with a word that can only be an order: "Devise a plan"."""
    first, second, third = [*said, "", "", ""][:3]
    if first in TELLING:
        return third in TELLING if second in ("and", "or") else second not in NAMED
    return second in THE and first not in LINKING | THE and not first.endswith(UNORDERLY)


def _orders_something(said: list[str]) -> bool:
    return bool({*said[:1]} & TELLING) and bool({*said[1:2]} & THE)


def without_shared_ends(prompts: Sequence[str], share: float) -> list[str]:
    """The prompts without an opening and an ending that at least `share` of them have and that ask for nothing.

    `Continue the text:` and `### Response:` tell nothing about a row; `Translate into German:` does.
    """
    opening = _shared([prompt.split(None, LONG)[:LONG] for prompt in prompts], share)
    ended = max((place for place, word in enumerate(opening, 1) if word[-1] in ":.!?>-"), default=0)
    if ended or not EMPTY.search(" ".join(opening)):
        opening = opening[:ended]  # the rest is a beginning of sentences, such as "Write a function that"
    begun = [_without(prompt, opening) for prompt in prompts] if not asking(" ".join(opening)) else list(prompts)
    ending = _shared([prompt.rsplit(None, LONG)[:0:-1] for prompt in begun], share)[::-1]
    empty = EMPTY.search(" ".join(ending)) and not asking(" ".join(ending))
    return [_without(prompt, ending, at_end=True) for prompt in begun] if empty else begun


def _shared(split: Sequence[Sequence[str]], share: float) -> list[str]:
    """The words that so many begin with."""
    opening: list[str] = []
    while len(split) > 1:
        at = len(opening)
        nexts = Counter(parts[at] for parts in split if len(parts) > at + 1 and list(parts[:at]) == opening)
        if not nexts or nexts.most_common(1)[0][1] < share * len(split):
            break
        opening.append(nexts.most_common(1)[0][0])
    return opening


def _without(prompt: str, shared: list[str], at_end: bool = False) -> str:
    """The prompt without as many of the shared words as it has at that end."""
    left = prompt.strip()
    for word in reversed(shared) if at_end else shared:
        if not (left.endswith(word) if at_end else left.startswith(word)):
            break
        left = left.removesuffix(word).rstrip() if at_end else left.removeprefix(word).lstrip()
    return left
