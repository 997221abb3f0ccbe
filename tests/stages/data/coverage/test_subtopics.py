"""Subtopics: the words that only one side has are found, grouped and named; equal sides have none."""

import random

import pytest

from stages.data.coverage.subtopics import log_likelihood, subtopics

POOLS = {
    "billing": ["invoice", "refund", "payment", "receipt", "charge"],
    "travel": ["airport", "luggage", "flight", "passport", "hotel"],
    "kitchen": ["oven", "recipe", "flour", "butter", "simmer"],
    "garden": ["compost", "seedling", "prune", "orchard", "weeds"],
    "music": ["violin", "melody", "chord", "orchestra", "rhythm"],
}
FILLER = [
    "today",
    "yesterday",
    "quickly",
    "usually",
    "maybe",
    "morning",
    "evening",
    "market",
    "street",
    "window",
    "table",
]


def texts(topics, count, seed):
    chance = random.Random(seed)
    return [
        f"Could anyone help with {' and '.join(chance.sample(POOLS[chance.choice(topics)], 2))} "
        f"{' '.join(chance.sample(FILLER, 3))}?"
        for _ in range(count)
    ]


def test_the_missing_topics_are_named_the_heaviest_first():
    ours = texts(["kitchen", "garden", "music"], 600, 1)
    theirs = texts(["kitchen", "garden", "music", "music"], 180, 2)
    theirs += texts(["billing"], 90, 3) + texts(["travel"], 40, 4)
    first, second = subtopics(ours, theirs)[:2]
    assert set(first.terms) <= set(POOLS["billing"]) and set(second.terms) <= set(POOLS["travel"])
    assert first.production == pytest.approx(90 / 310) and first.training == 0
    assert "invoice" in theirs[first.example] or set(POOLS["billing"]) & set(theirs[first.example].split())


def test_equal_sides_have_none():
    topics = list(POOLS)
    assert all(subtopics(texts(topics, 600, seed), texts(topics, 200, seed + 50)) == [] for seed in range(8))


def test_what_production_lacks_is_no_subtopic():
    found = subtopics(texts(["billing", "music"], 300, 1), texts(["music"], 300, 2))
    assert found and not {term for each in found for term in each.terms} & set(POOLS["billing"])


def test_log_likelihood_equals_scipy():
    contingency = pytest.importorskip("scipy.stats").contingency.chi2_contingency
    expected = contingency([[30, 170], [12, 488]], correction=False, lambda_="log-likelihood").statistic
    assert log_likelihood(30, 200, 12, 500) == pytest.approx(expected)
