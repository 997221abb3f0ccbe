"""Near-duplicates: the fast search finds exactly the pairs that comparing everything finds."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.data.similar import Groups, contained, jaccard, pairs, shingles

texts = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=14).map(" ".join), max_size=8)


@given(texts, st.sampled_from([0.3, 0.5, 0.9, 1.0]))
@settings(max_examples=200)
def test_the_search_finds_what_comparing_all_finds(texts, threshold):
    sets = [shingles(text) for text in texts]
    expected = {(i, j) for i, j in combinations(range(len(sets)), 2) if jaccard(sets[i], sets[j]) >= threshold}
    assert set(pairs(sets, threshold)) == expected


def test_case_and_punctuation_do_not_count():
    assert jaccard(shingles("You may copy this, freely & always."), shingles("you MAY copy this freely always")) == 1


def test_a_short_text_is_one_shingle():
    assert len(shingles("MIT")) == 1 and len(shingles("")) == 0


def test_containment_is_not_symmetric():
    part, whole = shingles("one two three four five six"), shingles("one two three four five six seven eight nine")
    assert contained(part, whole) == 1 and contained(whole, part) < 1 and contained(shingles(""), whole) == 0


def test_groups_take_the_name_of_their_first_member():
    groups = Groups(4)
    groups.join(3, 2)
    groups.join(1, 3)
    assert [groups.find(i) for i in range(4)] == [0, 1, 1, 1]
