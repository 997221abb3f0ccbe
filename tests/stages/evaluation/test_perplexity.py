"""Perplexity: what is scored, in which context, and how texts are weighted."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.errors import DataError
from stages.evaluation.perplexity import Perplexity, PerplexityParams, read_bytes, sequence
from stages.evaluation.results import SuiteResult, summarise

TEXTS = [
    {"id": "a", "text": "You must give the source code to those who receive the program."},
    {"id": "b", "text": "Keep the notice.", "cluster": "k", "slices": {"family": "MIT"}},
]
ACCENTS = [{"id": "c", "text": "Der Schlüssel gehört zur Tür."}, {"id": "d", "text": "Ça coûte 5 € à Noël."}]


def test_score_is_the_mean_nll_after_the_end_of_the_document_before(policy, reference):
    found = Perplexity().run(policy, TEXTS, PerplexityParams(), 0)
    for row, item in zip(TEXTS, found, strict=True):
        ids = policy.tokenizer.encode(row["text"], add_special_tokens=False)
        values = reference(policy, [policy.tokenizer.eos_token_id], ids)
        assert item.score == pytest.approx(-sum(values) / len(values), abs=1e-6)
        assert item.weight == len(ids)
    assert (found[0].cluster, found[1].cluster, found[1].slices) == ("a", "k", {"family": "MIT"})


def test_max_length_cuts_the_text_but_not_the_context(policy):
    assert len(sequence(policy, TEXTS[0]["text"], 5)) == 6
    (item,) = Perplexity().run(policy, TEXTS[:1], PerplexityParams(max_length=5), 0)
    assert item.weight == 5


def test_bos_is_the_context_where_there_is_one(policy):
    tokenizer = copy.deepcopy(policy.tokenizer)
    tokenizer.bos_token = "<|im_start|>"
    ids = sequence(replace(policy, tokenizer=tokenizer), "Keep", 9)
    assert ids[0] == tokenizer.bos_token_id != policy.tokenizer.eos_token_id


def test_an_empty_text_is_refused():
    with pytest.raises(DataError, match="item a: `text` is empty"):
        Perplexity().check({"id": "a", "text": "  "}, PerplexityParams())


def test_for_each_byte_it_is_the_same_likelihood_shared_by_more(policy):
    tokens, bytes_ = (Perplexity().run(policy, ACCENTS, PerplexityParams(unit=unit), 0) for unit in ("token", "byte"))
    for row, one, other in zip(ACCENTS, tokens, bytes_, strict=True):
        assert other.weight == len(row["text"].encode()) > len(row["text"])
        assert other.score * other.weight == pytest.approx(one.score * one.weight)
    assert Perplexity().metric(PerplexityParams(unit="byte")) == ("perplexity", False)


def test_only_the_bytes_that_were_read_count(policy):
    (whole,) = Perplexity().run(policy, ACCENTS[:1], PerplexityParams(), 0)
    (cut,) = Perplexity().run(policy, ACCENTS[:1], PerplexityParams(max_length=5, unit="byte"), 0)
    ids = policy.tokenizer.encode(ACCENTS[0]["text"], add_special_tokens=False)[:5]
    read = policy.tokenizer.decode(ids)
    assert ACCENTS[0]["text"].startswith(read) and cut.weight == len(read.encode()) < whole.values["bytes"]


def test_a_first_token_without_a_context_has_no_bytes(policy):
    text = ACCENTS[0]["text"]
    ids = policy.tokenizer.encode(text, add_special_tokens=False)
    rest = len(text.encode()) - len(policy.tokenizer.decode(ids[:1]).encode())
    assert read_bytes(policy, text, ids[1:], 99) == rest


def test_a_tokenizer_that_tells_no_places_writes_its_tokens_out(policy):
    text = ACCENTS[0]["text"]
    slow = SimpleNamespace(is_fast=False, decode=policy.tokenizer.decode)
    ids = policy.tokenizer.encode(text, add_special_tokens=False)
    assert read_bytes(SimpleNamespace(tokenizer=slow), text, ids, 99) == len(text.encode())


@pytest.mark.parametrize("unit", ["token", "byte"])
def test_bits_per_byte_are_those_of_all_texts_together(policy, unit):
    items = Perplexity().run(policy, [*TEXTS, *ACCENTS], PerplexityParams(unit=unit), 0)
    found = Perplexity().details(items, PerplexityParams(unit=unit))["metrics"]["bits_per_byte"]
    nats = sum(item.score * item.weight for item in items)
    size = sum(len(row["text"].encode()) for row in [*TEXTS, *ACCENTS])
    assert found["value"] == pytest.approx(nats / math.log(2) / size)
    assert found["low"] <= found["value"] <= found["high"] and found["n"] == 4


def test_perplexity_for_each_byte_is_two_to_the_bits(policy):
    result = SuiteResult("s", "perplexity", "perplexity", False, Perplexity().run(
        policy, ACCENTS, PerplexityParams(unit="byte"), 0))  # fmt: skip
    bits = Perplexity().details(result.items, PerplexityParams(unit="byte"))["metrics"]["bits_per_byte"]["value"]
    assert summarise(result)["value"] == pytest.approx(2**bits)
