"""What a collection of texts speaks about."""

from collections import Counter
from math import log10

import pytest
from misuse_rows import BEES, WELDS

from stages.data.misuse.vocabulary import FLOOR, general_english, keyness, pieces, prose, read, specialist


def test_the_words_of_a_field_are_found_and_general_ones_are_not(bees, prose):
    found = specialist([read(text) for text in bees])
    assert found.keys() >= {"varroa", "propolis", "swarm", "nectar"}
    assert not found.keys() & {"the", "twice", "before", "weather", "days", "years"}
    assert len(specialist([read(text) for text in prose])) < 25


def test_a_weight_is_the_logarithm_of_how_many_times_more_often_a_word_is_used(bees):
    words = [word for text in bees for word in read(text).words]
    share = Counter(words)["nectar"] / len(words)
    expected = log10(share / (10 ** general_english()["nectar"] / 1e9))
    assert specialist([read(text) for text in bees])["nectar"] == pytest.approx(expected)
    assert keyness("zzyzx", 10 ** (FLOOR + 2) / 1e9) == pytest.approx(2)


def test_names_and_what_one_text_alone_repeats_are_left_out(bees):
    named = [f"{text} Then Sherwood and Ottoline went home to Varroa." for text in bees]
    once = [f"{bees[0]} {'kumquat ' * 40}", *bees[1:]]
    assert not specialist([read(text) for text in named]).keys() & {"sherwood", "ottoline"}
    assert "kumquat" not in specialist([read(text) for text in once])


def test_density_and_weight_are_shares_of_all_words():
    text = read("The Hive isn’t full of honeycomb")
    assert text.words == ("the", "hive", "isn't", "full", "of", "honeycomb")
    assert text.density({"hive", "honeycomb"}) == pytest.approx(2 / 6)
    assert text.weight({"hive": 1.0, "honeycomb": 3.0}) == pytest.approx(4 / 6)
    assert read("").density({"hive"}) == 0


def test_other_languages_code_and_tables_are_no_english_prose(bees):
    german = (
        "Der Wagen steht seit gestern vor dem Haus und niemand weiß, wem er gehört oder wann er abgeholt wird. " * 3
    )
    table = "total 12.5 net 11.0 gross 13.7 tax 2.1 " * 20
    assert prose([read(german)] * 5) == [] and prose([read(table)] * 5) == []
    mixed = [*map(read, bees), read(german)]
    assert prose(mixed) == mixed[:-1]


def test_pieces_hold_every_word_once(bees):
    text = " ".join(bees)
    found = pieces(text, 50)
    assert " ".join(found) == text and {len(piece.split()) for piece in found[:-1]} == {50}


def test_the_reference_knows_general_english_and_no_field():
    known = general_english()
    assert max(known, key=known.get) == "the" and 7 < known["the"] < 8
    assert known["water"] > 5 > known["parliament"] - 0.7
    assert sum(word in known for word in BEES + WELDS) < len(BEES + WELDS)
