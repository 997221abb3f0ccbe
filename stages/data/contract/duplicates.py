"""Rows that say the same as others, that contradict others, or that repeat their own prompt."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from stages.data import similar
from stages.data.contract.agreement import Exchange, disagree, exchanges
from stages.data.contract.view import WORD, Found, Item, Mark, Scope, plain, share
from stages.data.findings import Located

WORDS_OF_A_ROW = 8  # fewer words are alike by chance
OWN_SHINGLES = 4  # what a row must hold beside the wording of its task to be compared without it
EXACT_JOIN = 20_000  # rows from which near-duplicates are found by MinHash: its memory grows with the rows alone
PERMUTATIONS = 128
ANSWERS_ALIKE = 0.5  # share of common words of two rows' answers, below which one prompt was asked about twice
ECHO_WORDS = 8  # words of an answer that stand in its prompt by no accident
ECHO_SHARE = 0.3  # of the prompt; a smaller piece of a long prompt is an answer found in a passage
COMPARED = 20  # answers to one prompt that are compared with one another
TASK_WORDS = 20  # of a prompt that holds a task with a text to work on
NOT_LATIN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\x00-\x7f]+")
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
    """Rows whose 5-word shingles are nearly those of an earlier row; what a task's rows all say is not counted."""
    asked = list({tuple(sorted(map(said, each.said))): each for each in reversed(scope.items)}.values())[::-1]
    sets = [similar.shingles(text) for text in map(_content, asked)]
    long = [i for i, each in enumerate(sets) if len(each) > WORDS_OF_A_ROW - similar.SIZE]
    own = _without_wording([sets[i] for i in long], scope.config.group)
    alike: dict[int, Located] = {}
    for i, j in sorted(_alike(own, scope.config.near_duplicates)):
        a, b = asked[long[i]], asked[long[j]]
        if _answers_alike(a, b):
            alike.setdefault(b.index, a.located)
    if not alike:
        return None
    return Found(
        [Mark(i, f"nearly the same as {place(located)}") for i, located in sorted(alike.items())],
        f"{share(len(alike), len(scope.items))} rows are nearly the same as an earlier one "
        f"(Jaccard similarity of 5-word shingles from {scope.config.near_duplicates}).",
        "Keep one of each group, and keep groups on one side of a split: give them one 'cluster'.",
        of=len(scope.items),
    )


def conflicting_answers(scope: Scope) -> Found | None:
    """Rows that answer one prompt in ways that cannot both be right."""
    asked: dict[str, dict[str, list[Exchange]]] = {}
    for each in exchanges(scope.items if scope.stage != "ppo" else ()):
        asked.setdefault(plain(each.before), {}).setdefault(said(each.answer), []).append(each)
    told: dict[int, str] = {}
    for answers in asked.values():
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


def answer_in_prompt(scope: Scope) -> Found | None:
    """Rows whose long answer stands in their own prompt, where the prompt asks for no piece of it."""
    marks = [Mark(each.index, each.answer) for each in scope.items if scope.stage != "ppo" and _echoes(each)]
    if not marks:
        return None
    return Found(
        marks,
        f"{share(len(marks), len(scope.items))} rows give as answer what already stands in their prompt.",
        "Take the answer out of the prompt, or write one that adds something.",
        of=len(scope.items),
    )


def place(located: Located) -> str:
    return f"{located.file}, line {located.line}"


def said(text: str) -> str:
    """The text for comparison; a text of punctuation alone stays as it is."""
    return plain(text) or text.strip()


def _repeated(scope: Scope) -> dict[int, int]:
    """Row -> the first row with the same content."""
    first: dict[tuple[str, ...], int] = {}
    found = {}
    for each in scope.items:
        earlier = first.setdefault(_content_key(each), each.index)
        if earlier != each.index:
            found[each.index] = earlier
    return found


def _content_key(each: Item) -> tuple[str, ...]:
    """Everything that a model would learn from: texts, and calls of tools, labels and votes as they are."""
    row = each.row
    calls = [turn["tool_calls"] for turn in row.get("messages", ()) if turn.get("tool_calls")]
    judged = [row.get(name) for name in ("tools", "label", "votes") if name in row]
    other = json.dumps([calls, judged], sort_keys=True, default=str) if calls or judged else ""
    return (other, *map(said, each.said))


def _content(each: Item) -> str:
    """The row without its system turn, which many rows share; letters beyond ASCII as words that `similar` can read."""
    answers = each.answers[-1:] if each.form == "chat" else each.answers
    text = "\n".join((each.prompt, *answers))
    return text if text.isascii() else NOT_LATIN.sub(_spelt, text.lower())


def _spelt(letters: re.Match[str]) -> str:
    code = letters.group().encode().hex()
    return f" {code} " if letters.group() >= "\u3040" else code


def _without_wording(sets: Sequence[np.ndarray], common: int) -> list[np.ndarray]:
    """The sets without shingles that `common` rows or more hold, where enough else is left to tell rows apart."""
    if not sets:
        return []
    codes, counts = np.unique(np.concatenate(sets), return_counts=True)
    shared = codes[counts >= common]
    if not len(shared):
        return list(sets)
    own = [each[~np.isin(each, shared, assume_unique=True)] for each in sets]
    return [less if len(less) >= OWN_SHINGLES else whole for less, whole in zip(own, sets, strict=True)]


def _alike(sets: Sequence[np.ndarray], threshold: float) -> Iterator[tuple[int, int]]:
    """(i, j), i < j, with Jaccard >= threshold."""
    return similar.pairs(sets, threshold) if len(sets) <= EXACT_JOIN else _minhash_pairs(sets, threshold)


def _answers_alike(a: Item, b: Item) -> bool:
    """Whether the answers say the same too: one long document may be asked about twice."""
    words = [set(WORD.findall(" ".join(each.answers).casefold())) for each in (a, b)]
    return len(words[0] & words[1]) >= ANSWERS_ALIKE * len(words[0] | words[1])


def _minhash_pairs(sets: Sequence[np.ndarray], threshold: float) -> Iterator[tuple[int, int]]:
    """(i, j), i < j, with Jaccard >= threshold; candidates by MinHash: a few pairs at the threshold are missed."""
    from datasketch import MinHashLSH

    lsh = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.2, 0.8))
    for j, each in enumerate(sets):
        signature = _signature(each)
        for i in lsh.query(signature):
            if similar.jaccard(sets[i], each) >= threshold:
                yield i, j
        lsh.insert(j, signature, check_duplication=False)


def _signature(codes: np.ndarray):
    from datasketch import MinHash

    found = MinHash(num_perm=PERMUTATIONS, hashfunc=lambda code: int(code) >> 32)
    found.update_batch(codes)
    return found


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
