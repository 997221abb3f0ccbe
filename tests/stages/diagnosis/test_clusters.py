"""Discovered slices: prompts that share words belong together, under a name that a person can read."""

import random

from stages.diagnosis.clusters import discover

WORDS = {
    "tea": ["teapot", "kettle", "leaves", "oolong", "steep", "saucer", "brew", "cup"],
    "trains": ["railway", "platform", "carriage", "locomotive", "ticket", "station", "signal", "track"],
    "bees": ["hive", "honey", "swarm", "queen", "nectar", "pollen", "beekeeper", "comb"],
}


def prompts(count=20):
    rng = random.Random(2)
    return [" ".join(rng.sample(words, 4)) for words in WORDS.values() for _ in range(count)]


def test_subjects_are_found_and_named_by_their_words():
    found = discover(prompts())
    assert sorted(found.values()) == [list(range(20)), list(range(20, 40)), list(range(40, 60))]
    for name, places in found.items():
        assert set(name.split(", ")) <= set(WORDS[list(WORDS)[places[0] // 20]]) and name.count(",") == 2


def test_it_is_the_same_every_time():
    assert discover(prompts()) == discover(prompts())


def test_few_items_and_prompts_without_words_have_no_clusters():
    assert discover(prompts()[:20]) == {} and discover(["?"] * 60) == {} and discover(["the same words"] * 60) == {}
