"""Topics: texts of one vocabulary come together, the same every time; texts without words have none."""

import numpy as np
from test_subtopics import POOLS, texts

from stages.data.coverage.topics import terms_of, tfidf, topics


def test_texts_of_one_vocabulary_come_together():
    said = [text for seed, name in enumerate(POOLS) for text in texts([name], 40, seed)]
    of = topics(said, 5, range(len(said)))
    largest = [np.bincount(of[i : i + 40], minlength=5).max() for i in range(0, 200, 40)]
    assert sum(largest) >= 180
    assert (of == topics(said, 5, range(len(said)))).all()


def test_texts_that_were_not_fitted_go_to_the_nearest_topic():
    said = texts(["music"], 40, 1) + texts(["garden"], 40, 2)
    of = topics(said, 2, [*range(30), *range(40, 70)])
    assert (of[30:40] == np.bincount(of[:30]).argmax()).mean() > 0.8


def test_a_text_without_words_has_no_topic():
    assert list(topics(["", "!!", "the of"], 3, range(3))) == [-1, -1, -1]
    assert topics(["violin melody", "violin melody", ""], 2, range(3))[2] == -1


def test_terms_are_words_without_plurals_and_their_pairs():
    assert terms_of("What are the guitars of two orchestras?") == ["guitar", "orchestra", "guitar orchestra"]


def test_weights_are_those_of_a_loop():
    said = ["violin melody melody", "violin chord", "chord rhythm"]
    weights = tfidf(said, range(3))
    raw = np.array([[np.log(1.5), 0], [np.log(1.5)] * 2, [0, np.log(1.5)]])  # violin, chord; others stand in one text
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.allclose(weights, expected) or np.allclose(weights[:, ::-1], expected)
