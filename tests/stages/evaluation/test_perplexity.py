"""Perplexity: what is scored, in which context, and how texts are weighted."""

import copy
from dataclasses import replace

import pytest

from pipeline.errors import DataError
from stages.evaluation.perplexity import Perplexity, PerplexityParams, sequence

TEXTS = [
    {"id": "a", "text": "You must give the source code to those who receive the program."},
    {"id": "b", "text": "Keep the notice.", "cluster": "k", "slices": {"family": "MIT"}},
]


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
