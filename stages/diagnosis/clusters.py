"""Discovered slices: items whose prompts share telling words, by tf-idf, latent semantic analysis and k-means."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.data.coverage.topics import terms_of

LEAST = 24  # items of a suite, below which nothing is looked for
MOST = 12  # clusters that are tried
SMALLEST = 6  # items of a cluster that becomes a slice
TERMS = 3  # that a cluster is named by
DIRECTIONS = 50  # of the latent semantic analysis (Deerwester et al. 1990)
SEPARATE = 0.05  # silhouette below which there are no clusters to speak of
SEED = 0


def discover(prompts: Sequence[str]) -> dict[str, list[int]]:
    """Name -> places of its items; as many clusters as have the best silhouette (Rousseeuw 1987).

    Empty for few items, and where prompts do not fall into clusters.
    """
    if len(prompts) < LEAST:
        return {}
    weights, terms = _weights(prompts)
    held = np.flatnonzero(np.asarray(weights.sum(axis=1)).ravel() > 0)
    if len(held) < LEAST or len(terms) < 3:
        return {}
    labels = _labels(weights[held])
    groups = [held[labels == label] for label in range(labels.max() + 1)] if labels is not None else []
    return {_name(weights, terms, group): group.tolist() for group in groups if len(group) >= SMALLEST}


def _weights(prompts: Sequence[str]) -> tuple[object, NDArray[np.str_]]:
    """Unit rows of tf-idf, shape (items, terms), and the terms: words of two items or more, not of nearly all."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=terms_of, sublinear_tf=True, min_df=2, max_df=0.9)
    try:
        weights = vectorizer.fit_transform(prompts)
    except ValueError:  # no term is left
        return np.zeros((len(prompts), 0)), np.array([], dtype=str)
    return weights, vectorizer.get_feature_names_out()


def _labels(weights: object) -> NDArray[np.int64] | None:
    """The cluster of every row, for the number of clusters that fits best."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.metrics import silhouette_score
    from sklearn.preprocessing import normalize

    rows, columns = weights.shape  # type: ignore[attr-defined]
    points = normalize(TruncatedSVD(min(DIRECTIONS, columns - 1, rows - 1), random_state=SEED).fit_transform(weights))
    different = len(np.unique(points.round(6), axis=0))
    best, found = SEPARATE, None
    for count in range(2, min(MOST, rows // (2 * SMALLEST), different) + 1):
        labels = KMeans(count, n_init=4, random_state=SEED).fit_predict(points)
        score = silhouette_score(points, labels) if len(set(labels)) > 1 else -1.0
        if score > best:
            best, found = score, labels
    return found


def _name(weights: object, terms: NDArray[np.str_], group: NDArray[np.int64]) -> str:
    """The terms that the group's items have more of than the others."""
    inside = np.asarray(weights[group].mean(axis=0)).ravel()  # type: ignore[index]
    everywhere = np.asarray(weights.mean(axis=0)).ravel()  # type: ignore[attr-defined]
    order = np.argsort(-(inside - everywhere), kind="stable")
    words: list[str] = []
    for place in order:
        if not any(set(terms[place].split()) & set(word.split()) for word in words):
            words.append(str(terms[place]))
        if len(words) == TERMS:
            break
    return ", ".join(words)
