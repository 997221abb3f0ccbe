"""Overlap: the scores are those of the libraries, of sentences and of all answers together."""

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from pipeline.errors import DataError
from stages.evaluation import forward
from stages.evaluation.overlap import SCORES, Overlap, OverlapParams

ANSWERS = ["The cat sat on the mat .", "A licence is a permission", "nothing alike", "Keep the notices, please!", "So"]
TEXTS = [
    ["The cat sat on the mat.", "A cat was sitting on a mat."],
    ["A licence is a written permission."],
    ["You must give the source code."],
    ["Keep the notice, please!", "Please keep all notices!", "Notices stay."],
    ["So it is."],
]


@pytest.fixture
def measured(policy, questions, monkeypatch):
    """measured(**params) -> items and details, of five answers that the model is made to give."""
    limits = []
    monkeypatch.setattr(forward, "greedy", lambda policy, prompts, limit, batch: limits.append(limit) or ANSWERS)

    def run(**params):
        rows = [{**row, "references": texts} for row, texts in zip(questions, TEXTS, strict=True)]
        asked = OverlapParams(**params)
        items = Overlap().run(policy, rows, asked, 0)
        assert limits.pop() == asked.max_new_tokens
        return items, Overlap().details(items, asked)

    return run


@pytest.mark.parametrize("score", SCORES)
def test_an_items_score_is_that_of_its_sentence(measured, score):
    items, _ = measured(score=score, max_new_tokens=9)
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for item, answer, texts in zip(items, ANSWERS, TEXTS, strict=True):
        wanted = {
            "bleu": sacrebleu.sentence_bleu(answer, texts).score / 100,
            "chrf": sacrebleu.sentence_chrf(answer, texts).score / 100,
            **{name: max(rouge.score(text, answer)[name].fmeasure for text in texts) for name in SCORES[2:]},
        }
        assert item.score == pytest.approx(wanted[score]) and item.values == pytest.approx(wanted)


@pytest.mark.parametrize("tokenize", ["13a", "char"])
def test_the_score_of_the_corpus_is_sacrebleus(measured, tokenize):
    _, details = measured(tokenize=tokenize)
    streams = [[texts[k] if k < len(texts) else None for texts in TEXTS] for k in range(3)]
    wanted = {
        "corpus_bleu": sacrebleu.corpus_bleu(ANSWERS, streams, tokenize=tokenize).score / 100,
        "corpus_chrf": sacrebleu.corpus_chrf(ANSWERS, streams).score / 100,
    }
    for name, value in wanted.items():
        found = details["metrics"][name]
        assert found["value"] == pytest.approx(value) and found["low"] <= value <= found["high"] and found["n"] == 5
    assert f"|tok:{tokenize}|smooth:exp|version:{sacrebleu.__version__}" in details["remarks"][0]
    assert details["remarks"][0].startswith("BLEU|nrefs:var|") and details["remarks"][1].startswith("chrF2|nrefs:var|")


def test_details_have_the_scores_that_are_not_the_metric(measured):
    items, details = measured(score="rougeL")
    assert set(details["metrics"]) == {"bleu", "chrf", "rouge1", "rouge2", "corpus_bleu", "corpus_chrf"}
    mean = sum(item.values["chrf"] for item in items) / 5
    assert details["metrics"]["chrf"]["value"] == pytest.approx(mean)


def test_stemming_takes_endings_away(measured):
    (plain, _), (stemmed, _) = measured(score="rouge1"), measured(score="rouge1", stem=True)
    assert stemmed[3].score > plain[3].score  # notices, notice


def test_references_are_shown_one_after_the_other(measured):
    items, _ = measured()
    assert items[0].reference == "The cat sat on the mat.\nor: A cat was sitting on a mat."


@pytest.mark.parametrize("texts", [[], ["  "], ["a", ""]])
def test_an_item_needs_references(texts):
    with pytest.raises(DataError, match="item i: `references` needs at least one text"):
        Overlap().check({"id": "i", "prompt": [], "references": texts}, OverlapParams())
