"""`generic_data_as_domain`: documents of no domain, or of another one than the sample's."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from misuse_rows import BEES, WELDS, handbook, texts

from stages.data.misuse.config import GenericConfig
from stages.data.misuse.generic import DENSE, declared, generic_data_as_domain, judge, unusable_sample

CONFIG = GenericConfig()


def test_documents_of_a_field_are_no_finding(bees, welds):
    assert generic_data_as_domain(texts(bees), None, CONFIG) is None
    assert generic_data_as_domain(texts(bees + welds), None, CONFIG) is None


def test_general_prose_is_an_error_that_shows_documents(prose):
    found = generic_data_as_domain(texts(prose), None, CONFIG)
    assert (found.level, found.code, found.count, found.of) == ("error", "generic_data_as_domain", 60, 60)
    assert "60 of 60 (100.0 %) documents have no specialist vocabulary" in found.message
    assert found.examples[0].file == "texts.jsonl" and found.examples[0].line == 1
    assert found.detail["kind"] == "general" and found.detail["density"] < CONFIG.density


def test_conversations_written_as_documents_are_general(requests):
    said = ["\n".join(part["content"] for part in row.row["messages"]) for row in requests]
    assert generic_data_as_domain(texts(said), None, CONFIG).detail["kind"] == "general"


@pytest.mark.parametrize(("general", "found"), [(0.2, False), (0.4, False), (0.6, True), (0.8, True)])
def test_the_border_lies_at_half_of_the_documents(bees, prose, general, found):
    count = round(60 * general)
    mixed = random.Random(0).sample(prose, count) + bees[: 60 - count]
    finding = generic_data_as_domain(texts(mixed), None, CONFIG)
    assert (finding is not None) == found
    assert finding is None or abs(finding.count - count) <= 4


def test_the_sample_s_own_domain_is_no_finding():
    documents, sample = handbook(BEES, 80, seed=1), handbook(BEES, 60, seed=2)
    assert generic_data_as_domain(texts(documents), declared(sample, CONFIG), CONFIG) is None


def test_another_domain_than_the_sample_s_is_an_error_that_names_both(bees, welds):
    found = generic_data_as_domain(texts(welds), declared(bees, CONFIG), CONFIG)
    assert found.detail["kind"] == "far" and found.detail["far"] == found.count > 40
    assert found.detail["closeness"] < CONFIG.closeness
    theirs, sample = found.message.split("theirs is ")[1].split("; the sample's is ")
    assert set(theirs.split(", ")) <= set(WELDS) and set(sample.rstrip(".").split(", ")) <= set(BEES)


def test_general_prose_is_general_whatever_the_sample(bees, prose):
    assert generic_data_as_domain(texts(prose), declared(bees, CONFIG), CONFIG).detail["kind"] == "general"


def test_a_sample_that_tells_nothing_is_as_none(bees):
    assert declared(bees[:3], CONFIG) is None and declared([], CONFIG) is None


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        (
            ["Der Wagen steht seit gestern vor dem Haus, und niemand weiß, wem er gehört."] * 9,
            "too little English prose",
        ),
        ([], "too little English prose; 30 different texts"),
        ("prose", "words that tell its field from general English; 40 are needed"),
    ],
)
def test_a_sample_that_is_not_used_is_told(prose, sample, says):
    rows = texts(prose if sample == "prose" else sample)
    assert declared([row.row["text"] for row in rows], CONFIG) is None
    found = unusable_sample([(row, row.row["text"]) for row in rows], CONFIG)
    assert (found.level, found.count, found.of) == ("warning", len(rows), len(rows)) and says in found.message
    assert len(found.examples) == min(3, len(rows)) and "data.domain_sample" in found.remedy


def test_a_sample_counts_by_halves(bees):
    """Its words must be weighed on texts that they were not read off."""
    first, second = declared(bees, CONFIG), declared([*bees, *bees], CONFIG)
    assert first.weight == second.weight and first.terms == second.terms  # a repetition adds nothing


def test_a_sample_that_is_a_list_of_terms_does_not_make_documents_far(welds):
    found = random.Random(0)
    listed = [f"{'It is in the list: ' * 5}{' '.join(found.choices(WELDS + BEES, k=60))}." for _ in range(60)]
    assert declared(listed, CONFIG).weight == DENSE
    assert generic_data_as_domain(texts(welds), declared(listed, CONFIG), CONFIG) is None


def test_too_few_documents_or_words_tell_nothing(prose):
    assert generic_data_as_domain(texts(prose[:20]), None, CONFIG) is None
    assert generic_data_as_domain(texts([text[:40] for text in prose]), None, CONFIG) is None
    assert generic_data_as_domain([], None, CONFIG) is None


def test_what_recurs_because_it_is_repeated_is_no_vocabulary(prose):
    repeated = [prose[i % 3] for i in range(200)]
    judged, terms = judge(texts(repeated), None, CONFIG)
    assert judged == [] and terms == {}


def test_a_few_long_documents_are_read_in_pieces(bees, prose):
    assert generic_data_as_domain(texts([" ".join(bees)]), None, CONFIG) is None
    assert len(judge(texts([" ".join(bees)]), None, CONFIG)[0]) == 1
    long = [" ".join(prose * 2) for _ in range(2)]
    assert generic_data_as_domain(texts([*long, "Another text. " + long[0]]), None, CONFIG) is None  # one text thrice


def test_other_languages_are_not_judged(prose):
    german = ["Der Wagen steht seit gestern vor dem Haus und niemand weiß, wem er gehört. " * 8] * 60
    assert generic_data_as_domain(texts(german), None, CONFIG) is None


def test_thresholds_are_read(bees, prose):
    rows = texts(bees[:40] + prose[:20])
    assert generic_data_as_domain(rows, None, GenericConfig(max_share=0.1)) is not None
    assert generic_data_as_domain(texts(bees), None, GenericConfig(density=0.9)) is not None
    assert generic_data_as_domain(texts(bees), None, GenericConfig(vocabulary=500)) is not None
    assert generic_data_as_domain(texts(prose), None, GenericConfig(fewest_rows=10_000, fewest_words=1)) is None
    assert generic_data_as_domain(texts(prose), None, GenericConfig(fewest_words=100_000)) is None
    assert generic_data_as_domain(
        texts(bees), declared(handbook(BEES, 60, seed=2), CONFIG), GenericConfig(closeness=5.0)
    )
    assert generic_data_as_domain(texts(prose), None, GenericConfig(most_rows=35, fewest_words=1)).of <= 35


@given(st.lists(st.text(max_size=200), max_size=60), st.lists(st.text(max_size=200), max_size=40))
def test_any_texts_can_be_judged(documents, sample):
    config = GenericConfig(fewest_rows=2, fewest_words=5, vocabulary=1)
    found = generic_data_as_domain(texts(documents), declared(sample, config), config)
    assert found is None or 0 < found.count <= found.of <= len(documents)
