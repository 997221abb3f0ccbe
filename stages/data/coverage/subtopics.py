"""Subtopics that one set of texts has more of than another, found by the words that tell the two sets apart.

Key terms are words, and pairs of words, that more texts of production hold than training and chance explain: Dunning's
log-likelihood ratio (1993) of the texts that hold them. From the strongest on, terms that stand in the same texts of
production make one subtopic; a text belongs to a subtopic if it holds one of its terms.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stages.data.coverage.topics import terms_of

KEY = 18.0  # log-likelihood ratio of a key term: chance exceeds it about twice in 100,000 terms
HELD = 5  # texts of production that hold a key term, at least
TOGETHER = 0.3  # share of a term's texts, among those of the subtopic, from which it is one of its terms
TERMS = 5  # that a subtopic is named by
MOST = 12  # subtopics that are looked for
LEAST = 0.0005  # share that stands for none


@dataclass(frozen=True)
class Subtopic:
    """`terms`: the strongest first; shares of the texts of either side that hold one of them; `example`: a place."""

    terms: tuple[str, ...]
    production: float
    training: float
    example: int

    @property
    def weight(self) -> float:
        """What it adds to the population stability index."""
        least = max(self.training, LEAST)
        return (self.production - least) * math.log(self.production / least)

    @property
    def name(self) -> str:
        return ", ".join(self.terms)


def subtopics(training: Sequence[str], production: Sequence[str]) -> list[Subtopic]:
    """What production has more of, the heaviest first."""
    ours, theirs = ([set(terms_of(text)) for text in side] for side in (training, production))
    held = Counter(term for terms in ours for term in terms)
    key = _key_terms(held, theirs, len(ours))
    found = [_subtopic(terms, ours, theirs) for terms in _grouped(key, theirs)]
    return sorted((each for each in found if each.production > each.training), key=lambda each: -each.weight)


def _key_terms(held: Counter[str], theirs: Sequence[set[str]], ours: int) -> dict[str, float]:
    """Term -> its log-likelihood ratio, the strongest first; pairs only of words that are no key terms themselves."""
    counts = Counter(term for terms in theirs for term in terms)
    scores = {
        term: log_likelihood(count, len(theirs), held[term], ours)
        for term, count in counts.items()
        if count >= HELD and count * ours > held[term] * len(theirs)
    }
    kept = [(term, score) for term, score in scores.items() if score >= KEY]
    single = {term for term, _ in kept if " " not in term}
    kept = [(term, score) for term, score in kept if term in single or single.isdisjoint(term.split())]
    return dict(sorted(kept, key=lambda pair: (-pair[1], pair[0])))


def log_likelihood(a: int, of_a: int, b: int, of_b: int) -> float:
    """Dunning's G2 for `a` of `of_a` against `b` of `of_b`: twice the sum of observed log(observed / expected)."""
    whole, hits = of_a + of_b, a + b
    cells = (
        (a, of_a * hits / whole),
        (b, of_b * hits / whole),
        (of_a - a, of_a * (whole - hits) / whole),
        (of_b - b, of_b * (whole - hits) / whole),
    )
    return 2 * sum(seen * math.log(seen / expected) for seen, expected in cells if seen)


def _grouped(key: dict[str, float], theirs: Sequence[set[str]]) -> Iterator[list[str]]:
    """Key terms that stand in the same texts, from the strongest on."""
    texts = {term: {i for i, terms in enumerate(theirs) if term in terms} for term in key}
    left, uncovered = dict(key), set(range(len(theirs)))
    for _ in range(MOST):
        weights = {term: left[term] * len(texts[term] & uncovered) / len(texts[term]) for term in left}
        seed = max(weights, key=lambda term: weights[term], default=None)
        if seed is None or len(texts[seed] & uncovered) < HELD:
            return
        group = _joined(seed, left, texts)
        yield group
        left = {term: score for term, score in left.items() if term not in group}
        uncovered -= set().union(*(texts[term] for term in group))


def _joined(seed: str, left: Iterable[str], texts: Mapping[str, set[int]]) -> list[str]:
    """The seed and the terms that stand in the texts of those that joined before, until none joins any more."""
    group, mine, size = [seed], set(texts[seed]), 0
    while size < len(group):
        size = len(group)
        for term in left:
            if term not in group and len(texts[term] & mine) >= TOGETHER * len(texts[term]):
                group.append(term)
                mine |= texts[term]
    return group


def _subtopic(terms: Sequence[str], ours: Sequence[set[str]], theirs: Sequence[set[str]]) -> Subtopic:
    told = set(terms)
    shares = [sum(not told.isdisjoint(text) for text in side) / len(side) for side in (theirs, ours)]
    example = max(range(len(theirs)), key=lambda place: (len(told & theirs[place]), -place))
    return Subtopic(tuple(terms[:TERMS]), *shares, example)
