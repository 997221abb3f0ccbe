"""What people's choices contradict, and what a reward model could learn from them in place of quality."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.data.contract.view import WRITES, Found, Item, Mark, Scope, plain, share

CHANCE = 0.01  # probability from which a share is put down to chance
FIRST = 0.6  # share of votes for the first answer above which its place decides
SHOWN = 60  # letters of each answer of a contradiction


@dataclass(frozen=True)
class Preference:
    """One answer over another, by the row that says so; `by`: the annotator, where it is that one's alone."""

    index: int
    prompt: str
    better: str
    worse: str
    by: str = ""


def chosen_is_rejected(scope: Scope) -> Found | None:
    """Rows that prefer an answer to one that is the same up to white space and Unicode form.

    Case and punctuation count: a prompt may be about just these.
    """
    compared = _compared(scope)
    told = {item.index: each.better for item in compared for each in _preferred(item) if each.better == each.worse}
    if not told:
        return None
    return Found(
        [Mark(i, text) for i, text in told.items()],
        f"{share(len(told), len(compared))} rows prefer an answer to itself.",
        "Take these rows out: they teach nothing.",
        of=len(compared),
    )


def contradicting_preferences(scope: Scope) -> Found | None:
    """Preferences of one prompt that no order of its answers satisfies: A over B and B over A, or a circle of several.

    Votes count by the majority of a pair; annotators may differ, but each is held to their own votes. An answer with
    both labels is a contradiction too.
    """
    stated = [each for item in _compared(scope) if item.form != "votes" for each in _preferred(item)]
    voted = [each for item in _compared(scope) if item.form == "votes" for each in _votes(item)]
    told = _circles([*stated, *_majorities(voted), *(each for each in voted if each.by)]) | _both_labels(scope)
    if not told:
        return None
    compared = _compared(scope)
    return Found(
        [Mark(i, text) for i, text in sorted(told.items())],
        f"{share(len(told), len(compared))} rows contradict others about the same answers to the same prompt.",
        "Have these pairs judged again, or keep one of each contradiction.",
        of=len(compared),
    )


def length_bias(scope: Scope) -> Found | None:
    """A set in which the longer answer is preferred (or the shorter one) more often than chance explains."""
    pairs = [pair for each in _compared(scope) if (pair := _best_and_worst(each))]
    signed = [(i, len(best) - len(worst)) for i, best, worst in pairs if len(best) != len(worst)]
    for word, sign in (("longer", 1), ("shorter", -1)):
        heavy = [i for i, difference in signed if difference * sign > 0]
        if len(heavy) > scope.config.chosen_longer * len(signed) and _beyond_chance(len(heavy), len(signed)):
            return _length_told(scope, pairs, word, heavy, len(signed))
    return None


def _length_told(
    scope: Scope, pairs: Sequence[tuple[int, str, str]], word: str, heavy: Sequence[int], of: int
) -> Found:
    best, worst = (sum(len(pair[place]) for pair in pairs) / len(pairs) for place in (1, 2))
    lengths = {i: (len(best), len(worst)) for i, best, worst in pairs}
    return Found(
        [Mark(i, f"{lengths[i][0]} letters over {lengths[i][1]}") for i in heavy],
        f"The {word} answer is preferred in {share(len(heavy), of)} pairs; preferred answers have {best:.0f} letters "
        f"on average, the others {worst:.0f}. A model can learn the length in place of the quality.",
        f"Add pairs in which the {word} answer is the worse one, or take out pairs in which nothing but the length "
        "tells them apart.",
        of=of,
        detail={"share": len(heavy) / of, "letters_preferred": best, "letters_other": worst},
    )


def label_imbalance(scope: Scope) -> Found | None:
    """Labels nearly all good or bad, votes mostly tied, or votes that follow the place of an answer."""
    if len(_compared(scope)) < scope.config.group:
        return None
    return _labels(scope) or _ties(scope) or _places(scope)


def _labels(scope: Scope) -> Found | None:
    rows = [each for each in scope.items if each.form == "label"]
    counts = Counter(each.row["label"] for each in rows)
    if not rows or max(counts.values()) <= scope.config.majority * len(rows):
        return None
    label, count = counts.most_common(1)[0]
    return Found(
        [Mark(each.index, each.answer) for each in rows if each.row["label"] == label],
        f"{share(count, len(rows))} answers are labelled {'good' if label else 'bad'}.",
        f"Add answers labelled {'bad' if label else 'good'}, or weigh the labels in the loss.",
        of=len(rows),
        detail={"good": counts[True], "bad": counts[False]},
    )


def _ties(scope: Scope) -> Found | None:
    tied = [(each, vote["prefers"] == "tie") for each, vote in _each_vote(scope)]
    count = sum(tie for _, tie in tied)
    if not tied or count <= scope.config.tied * len(tied):
        return None
    return Found(
        [Mark(i, "tie") for i in dict.fromkeys(each.index for each, tie in tied if tie)],
        f"{share(count, len(tied))} votes are ties: the annotators cannot tell the answers apart.",
        "Compare answers that differ more, or say in the guideline what makes one better.",
        of=len(tied),
        detail={"tied": count, "votes": len(tied)},
    )


def _places(scope: Scope) -> Found | None:
    votes = [(each, vote["prefers"]) for each, vote in _each_vote(scope) if vote["prefers"] != "tie"]
    for place, name in (("a", "first"), ("b", "second")):
        heavy = [each for each, prefers in votes if prefers == place]
        if len(heavy) > FIRST * len(votes) and _beyond_chance(len(heavy), len(votes)):
            return Found(
                [Mark(i, f"prefers the {name}") for i in dict.fromkeys(each.index for each in heavy)],
                f"{share(len(heavy), len(votes))} votes prefer the {name} answer: its place may decide.",
                "Show the answers in random order, and have a part of the pairs judged in both orders.",
                of=len(votes),
                detail={"share": len(heavy) / len(votes)},
            )
    return None


def _each_vote(scope: Scope) -> Iterator[tuple[Item, Mapping[str, Any]]]:
    for each in scope.items:
        if each.form == "votes":
            for vote in each.row["votes"]:
                yield each, vote


def _beyond_chance(count: int, of: int) -> bool:
    """Exact binomial test against one half."""
    from scipy.stats import binomtest

    return bool(binomtest(count, of, 0.5, alternative="greater").pvalue < CHANCE)


def _compared(scope: Scope) -> list[Item]:
    """Rows with answers that are judged; `ppo` reads their prompts alone."""
    return [] if scope.stage in WRITES else scope.items


def _preferred(each: Item) -> list[Preference]:
    """All that the row says of pairs of its answers; votes by their majority."""
    if each.form == "preference":
        return [Preference(each.index, _prompt(each), *map(spelt, each.answers))]
    if each.form == "ranking":
        prompt, ranked = _prompt(each), list(map(spelt, each.answers))
        return [Preference(each.index, prompt, a, b) for i, a in enumerate(ranked) for b in ranked[i + 1 :]]
    return _majorities(_votes(each)) if each.form == "votes" else []


def _prompt(each: Item) -> str:
    return plain(f"{each.system}\n{each.prompt}")


def spelt(text: str) -> str:
    """The answer for comparison with another: one Unicode form, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _votes(each: Item) -> list[Preference]:
    a, b = map(spelt, each.answers)
    sides = {"a": (a, b), "b": (b, a)}
    prompt = _prompt(each)
    return [
        Preference(each.index, prompt, *sides[vote["prefers"]], by=str(vote.get("by") or ""))
        for vote in each.row["votes"]
        if vote["prefers"] in sides
    ]


def _majorities(votes: Iterable[Preference]) -> list[Preference]:
    """One preference for each pair of answers that has a majority, over all rows that ask about it."""
    pairs: dict[tuple[str, ...], list[Preference]] = {}
    for each in votes:
        pairs.setdefault((each.prompt, *sorted((each.better, each.worse))), []).append(each)
    found = []
    for part in pairs.values():
        (better, count), *others = Counter(each.better for each in part).most_common()
        if not others or count > others[0][1]:
            found += [
                Preference(each.index, each.prompt, each.better, each.worse) for each in part if each.better == better
            ]
    return found


def _best_and_worst(each: Item) -> tuple[int, str, str] | None:
    """(row, the preferred answer, the one it was preferred to); of a ranking its ends; None for a tie."""
    if each.form == "votes":
        count = Counter(vote["prefers"] for vote in each.row["votes"])
        order = (count["a"] > count["b"]) - (count["a"] < count["b"])
        return (each.index, *each.answers[::order]) if order else None
    if each.form in ("preference", "ranking") and len(each.answers) > 1:
        return each.index, each.answers[0], each.answers[-1]
    return None


def _circles(preferences: Sequence[Preference]) -> dict[int, str]:
    """Rows whose preference lies on a circle: its answers are in one strongly connected component.

    Each annotator's own votes form a graph of their own, and so do those of all.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    real = [each for each in preferences if each.better != each.worse]
    if not real:
        return {}
    nodes: dict[tuple[str, str, str], int] = {}
    better = [nodes.setdefault((each.by, each.prompt, each.better), len(nodes)) for each in real]
    worse = [nodes.setdefault((each.by, each.prompt, each.worse), len(nodes)) for each in real]
    graph = coo_array((np.ones(len(real), dtype=bool), (better, worse)), shape=(len(nodes), len(nodes)))
    _, part = connected_components(graph, directed=True, connection="strong")
    return {
        each.index: f"{each.by or 'prefers'}: {each.better[:SHOWN]} | over: {each.worse[:SHOWN]}"
        for each, a, b in zip(real, better, worse, strict=True)
        if part[a] == part[b]
    }


def _both_labels(scope: Scope) -> dict[int, str]:
    rows: dict[tuple[str, str], list[Item]] = {}
    for each in _compared(scope):
        if each.form == "label":
            rows.setdefault((_prompt(each), spelt(each.answer)), []).append(each)
    return {
        each.index: f"labelled {'good' if each.row['label'] else 'bad'}: {each.answer}"
        for part in rows.values()
        if len({each.row["label"] for each in part}) > 1
        for each in part
    }
