"""Topics of texts: words weighted by rarity, a few directions of them, groups around centres. The same every time."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stages.data.coverage.reading import words
from stages.data.misuse.exchanges import listed

VOCABULARY = 2500  # words and pairs of words, the most frequent of those that fewer than half the texts have
DIRECTIONS = 60  # of the latent semantic analysis
ROUNDS = 25  # of k-means at most
READ = 300  # words of a text
SEED = 0
STOP = listed(
    "a about after all also am an and any are as at be because been before being between both but by can could did "
    "do does doing don't for from had has have having he her here him his how i i'm if in into is it it's its just "
    "let like make me more most my need no not now of on one only or other our out over own please same she should "
    "so some such than that the their them then there these they this those through to too under until up us use "
    "using very want was we were what what's when where which while who whom why will with without would you your "
    "give tell write explain describe list following get much many may must shall yes new way good given find name "
    "suggest create generate rewrite sentence word words summarize summarise classify identify provide compare "
    "translate text question answer please example examples thing things one two three four five ten first best help "
    "know say think want need show take come see work people something someone okay yeah sure thank thanks really "
    "that's you're don't"
)


def topics(texts: Sequence[str], count: int, fitted: Sequence[int]) -> np.ndarray:
    """Latent semantic analysis (Deerwester et al. 1990) of tf-idf, then spherical k-means (Dhillon and Modha 2001).

    Words, directions and centres come from the texts at `fitted`; then every text goes to its nearest centre.
    Returns the topic of every text, from 0; -1 where a text has no word that counts.
    """
    weights = tfidf(texts, fitted)
    held = weights.any(axis=1)
    of = np.full(len(texts), -1)
    base = [place for place in fitted if held[place]]
    if len(base) < 2:
        return of
    basis = _directions(weights[base])
    points = _unit(weights @ basis)
    centres = _k_means(points[base], min(count, len(base)))
    of[held] = np.argmax(points[held] @ centres.T, axis=1)
    return of


def tfidf(texts: Sequence[str], fitted: Sequence[int]) -> np.ndarray:
    """Unit rows of (1 + ln tf) ln(n / df) over words and pairs of words that at least two of the fitted texts have."""
    counts = [Counter(terms_of(text)) for text in texts]
    frequent = Counter(term for place in fitted for term in counts[place])
    kept = [(term, n) for term, n in frequent.items() if 2 <= n <= max(2, len(fitted) // 2)]
    vocabulary = [term for term, _ in sorted(kept, key=lambda each: (-each[1], each[0]))[:VOCABULARY]]
    places = {term: place for place, term in enumerate(vocabulary)}
    weights = np.zeros((len(texts), len(vocabulary)), dtype=np.float32)
    for row, count in enumerate(counts):
        for term in count.keys() & places.keys():
            weights[row, places[term]] = 1 + math.log(count[term])
    rarity = np.log(len(fitted) / np.array([frequent[term] for term in vocabulary], dtype=np.float32))
    return _unit(weights * rarity)


def terms_of(text: str) -> list[str]:
    """The telling words of the text's start, without plurals, and pairs of neighbours among them."""
    told = [_singular(word) for word in words(text)[:READ] if word not in STOP and len(word) > 2]
    return told + [f"{first} {second}" for first, second in pairwise(told)]


def _singular(word: str) -> str:
    word = word.removesuffix("'s")
    plural = word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 4
    return word[:-1] if plural else word


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _directions(weights: np.ndarray) -> np.ndarray:
    """The first directions of the rows, by a randomised singular value decomposition (Halko et al. 2011)."""
    rank = min(DIRECTIONS, *weights.shape)
    basis = np.random.default_rng(SEED).standard_normal((weights.shape[1], rank)).astype(np.float32)
    for _ in range(3):
        basis = np.linalg.qr(weights.T @ (weights @ basis))[0]
    return basis


def _k_means(points: np.ndarray, count: int) -> np.ndarray:
    """Centres, each the direction of the points that are nearest to it by angle; they start far apart (k-means++)."""
    centres = _far_apart(points, count)
    nearest = np.full(len(points), -1)
    for _ in range(ROUNDS):
        moved = np.argmax(points @ centres.T, axis=1)
        if (moved == nearest).all():
            break
        nearest = moved
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, points)
        centres = np.where(sums.any(axis=1, keepdims=True), _unit(sums), centres)
    return centres


def _far_apart(points: np.ndarray, count: int) -> np.ndarray:
    chance = np.random.default_rng(SEED)
    chosen = [int(chance.integers(len(points)))]
    far = 1 - points @ points[chosen[0]]
    while len(chosen) < count:
        squares = np.maximum(far, 0) ** 2
        total = squares.sum()
        place = (
            int(chance.choice(len(points), p=squares / total)) if total > 1e-9 else int(chance.integers(len(points)))
        )
        chosen.append(place)
        far = np.minimum(far, 1 - points @ points[place])
    return points[chosen].copy()
