"""MinHash: pairs become candidates as often as theory says, and only the first of rows that are alike stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.data import minhash
from stages.data.minhash import band_keys, first_like, mixed, recall


def keys(sets, threshold=0.8):
    codes = mixed(np.concatenate([np.array(each, dtype=np.uint64) for each in sets]))
    return band_keys(codes, np.cumsum([0, *map(len, sets[:-1])]), threshold)


def pair(number, similarity, size=200):
    """Two sets of this Jaccard similarity and of `size` elements in all."""
    common, start = round(size * similarity), number * size
    own = (size - common) // 2
    return range(start, start + common + own), [
        *range(start, start + common),
        *range(start + common + own, start + size),
    ]


@pytest.mark.parametrize("similarity", [0.6, 0.8, 0.9])
def test_pairs_become_candidates_as_often_as_theory_says(similarity):
    sets = [each for number in range(500) for each in pair(number, similarity)]
    found = keys(sets)
    met = (found[::2] == found[1::2]).any(axis=1).mean()
    expected = recall(similarity, 0.8)
    assert met == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 500) + 0.01)


def test_pairs_at_the_threshold_are_rarely_missed():
    assert all(recall(threshold, threshold) > 0.96 for threshold in (0.5, 0.6, 0.7, 0.8, 0.9))
    assert recall(0.85, 0.8) > 0.998 and recall(1.0, 1.0) == 1.0


def test_equal_sets_have_equal_keys_in_any_order():
    found = keys([[5, 6, 7, 2**63], [2**63, 7, 6, 5], [5, 6, 7, 8]])
    assert (found[0] == found[1]).all() and (found[0] != found[2]).any()


def test_sets_without_a_common_element_are_no_candidates():
    found = keys([range(100 * i, 100 * i + 50) for i in range(300)])
    assert all(len(set(column.tolist())) == 300 for column in found.T)


rows = st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), max_size=12)


@given(rows, st.integers(2, 3))
@settings(max_examples=200)
def test_the_first_stays_as_in_comparing_all(drawn, modulus):
    """Candidates are rows with an equal key in one place; of these, rows with equal sums (mod) count as alike."""

    def alike(a, b):
        return sum(drawn[a]) % modulus == sum(drawn[b]) % modulus

    staying, expected = [], []
    for late, row in enumerate(drawn):
        met = [e for e in staying if any(x == y for x, y in zip(drawn[e], row, strict=True)) and alike(e, late)]
        if met:
            expected.append(late)
        else:
            staying.append(late)
    found = dict(first_like(np.array(drawn, dtype=np.uint64).reshape(-1, 3), alike))
    assert sorted(found) == expected and not set(found.values()) & set(found)


def test_the_nearest_candidate_is_asked_first():
    table = np.array([[1, 2, 3], [1, 9, 9], [1, 2, 9], [1, 9, 9]], dtype=np.uint64)
    assert dict(first_like(table, lambda a, b: b == 3)) == {3: 1}


def test_a_crowd_is_not_compared_with_everyone(monkeypatch):
    monkeypatch.setattr(minhash, "CROWD", 3)
    asked = []
    list(first_like(np.zeros((50, 1), dtype=np.uint64), lambda a, b: asked.append((a, b))))
    assert len(asked) == 1 + 2 + 3 * 47
