"""Which training rows are near an item, and whether they agree, on prompts made of known words."""

import random

import numpy as np
import pytest

from stages.diagnosis.neighbours import RADIUS, Space

WORDS = {topic: [f"{topic}{i}" for i in range(12)] for topic in ("tea", "rail", "bee")}


def prompts(topic, count, seed):
    rng = random.Random(f"{topic} {seed}")
    return [f"please sort this letter on {' '.join(rng.sample(WORDS[topic], 4))} today" for _ in range(count)]


@pytest.fixture
def suite(made):
    asked = [prompt for topic in WORDS for prompt in prompts(topic, 30, 1)]
    return made.suite(asked, references=["left"] * 90)


def test_topics_that_are_trained_on_are_near_and_the_missing_one_is_not_although_all_share_a_wording(suite, made):
    rows = [made.lesson(prompt, "left") for topic in ("tea", "rail") for prompt in prompts(topic, 60, 2)]
    around = Space([suite], rows).around(suite)
    assert (around.counts[:60] > 0).mean() > 0.9 and (around.counts[60:] == 0).all()
    assert all(place < 60 for near in around.rows[:30] for place in near)  # of its own topic


def test_the_number_of_rows_near_tells_how_many_there_are_for_an_item(suite, made):
    twice, half = [made.lesson(p) for p in prompts("tea", 60, 2)], [made.lesson(p) for p in prompts("rail", 15, 2)]
    counts = Space([suite], [*twice, *half]).around(suite).counts
    assert counts[:30].mean() == pytest.approx(2 * RADIUS, rel=0.3)
    assert counts[30:60].mean() == pytest.approx(RADIUS / 2, rel=0.4)


def test_items_of_one_source_are_no_measure_of_what_is_near(made):
    asked = prompts("tea", 12, 1)
    copies = made.suite([one for one in asked for _ in range(8)], clusters=[f"c{i // 8}" for i in range(96)])
    rows = [made.lesson(prompt) for prompt in prompts("tea", 40, 2)]
    assert (Space([copies], rows).around(copies).counts > 0).mean() > 0.9


def test_with_one_source_everything_is_as_near(made):
    suite = made.suite(prompts("tea", 3, 1), clusters=["one"] * 3)
    assert Space([suite], [made.lesson(p) for p in prompts("bee", 2, 1)]).around(suite).counts.tolist() == [2, 2, 2]


def test_disagreement_is_the_chance_that_two_neighbours_answer_differently(suite, made):
    rng = random.Random(5)
    rows = [made.lesson(p, "left") for p in prompts("tea", 60, 2)]
    rows += [made.lesson(p, rng.choice(["left", "right"])) for p in prompts("rail", 60, 2)]
    found = Space([suite], rows).around(suite)
    assert np.nanmax(found.disagreement[:30]) == 0 and np.nanmean(found.disagreement[30:60]) == pytest.approx(
        0.5, abs=0.1
    )
    assert np.isnan(found.disagreement[60:]).all()  # nothing is near


def test_contradiction_is_how_much_less_than_elsewhere_the_suite_s_answer_is_given(suite, made):
    rows = [made.lesson(p, "left") for p in prompts("tea", 60, 2)]
    rows += [made.lesson(p, "right") for p in prompts("rail", 60, 2)]
    found = Space([suite], rows).around(suite).contradiction
    assert np.nanmean(found[:30]) == pytest.approx(-0.5, abs=0.05)
    assert np.nanmean(found[30:60]) == pytest.approx(0.5, abs=0.05)


def test_answers_in_other_words_disagree_by_how_unlike_they_are(suite, made):
    texts = ("put it on the left shelf", "put it on the right shelf")
    rows = [made.lesson(p, texts[i % 2]) for i, p in enumerate(prompts("tea", 60, 2))]
    found = Space([suite], rows).around(suite).disagreement
    assert 0.02 < np.nanmean(found) < 0.35


def test_documents_have_no_answers_and_empty_prompts_no_neighbours(made):
    suite = made.suite(["", "", ""])
    found = Space([suite], [made.lesson("")]).around(suite)
    assert found.counts.tolist() == [0, 0, 0] and np.isnan(found.disagreement).all()
