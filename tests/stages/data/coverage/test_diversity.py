"""Wording: templates are found in what they fill, measures equal plain loops."""

import random
from itertools import combinations

import pytest
from coverage_rows import PLACES, THINGS, ordinary
from hypothesis import given
from hypothesis import strategies as st

from stages.data.coverage.diversity import distinct, evenly, shared, similarity, wordings
from stages.data.coverage.reading import words

texts = st.lists(st.lists(st.sampled_from(["ash", "bay", "cove", "dell"]), max_size=7).map(" ".join), max_size=9)


def test_slots_are_found_inside_a_template():
    said = [f"{thing} from {place} cost how much today" for thing in THINGS for place in PLACES[:4]]
    found = wordings(said)
    assert found.counts.most_common(1)[0][0].endswith("how much today") and found.covered(10) == len(said)


def test_prompts_of_their_own_wording_have_no_template():
    found = wordings([f"{a} {b} {c}" for a, b, c in combinations(THINGS[:12], 3)][:60])
    assert set(found.of) == {None} and found.effective == pytest.approx(60)


def test_a_few_words_in_common_make_no_template():
    chance = random.Random(0)
    made = [["".join(chance.choices("abcdefghij", k=6)) for _ in range(8)] for _ in range(60)]
    said = ["the {} {} {} of {} {} {} and {} {}".format(*each) for each in made]
    assert set(wordings(said).of) == {None}


def test_effective_wordings_lie_between_one_and_all():
    assert wordings(["tell me about the sea"] * 20).effective == pytest.approx(1)
    assert 1 < wordings(ordinary(200)).effective < 200 and wordings([]).effective == 0


@given(texts, st.sampled_from([1, 2, 3]))
def test_distinct_n_is_what_a_loop_counts(said, n):
    grams = [tuple(text.split()[i : i + n]) for text in said for i in range(len(text.split()) - n + 1)]
    assert distinct(said, n) == pytest.approx(len(set(grams)) / max(1, len(grams)))


@given(texts)
def test_similarity_is_the_mean_over_all_pairs(said):
    sets = [set(words(text)) for text in said]
    pairs = [len(a & b) / max(1, len(a | b)) for a, b in combinations(sets, 2)]
    assert similarity(said) == pytest.approx(sum(pairs) / max(1, len(pairs)), abs=1e-5)


def test_shared_trigrams():
    assert shared(["one two three four", "one two three five"]) == pytest.approx(0.5)
    assert shared(["one two three", "four five six"]) == 0 and shared([]) == 0


@given(st.lists(st.integers(), max_size=40), st.integers(1, 50))
def test_an_even_sample_keeps_the_order_and_the_size(items, most):
    assert len(evenly(items, most)) == min(len(items), most)
