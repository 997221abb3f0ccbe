"""Overlap with reference texts: BLEU and chrF by sacrebleu, ROUGE by rouge-score, all between 0 and 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError
from stages.evaluation.generate import answers_of
from stages.evaluation.intervals import Places, clustered, mean_of
from stages.evaluation.measurement import Measurement, Row, Scored, at_least, option, scored

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

    from stages.models.chain import Policy

ROUGE = ("rouge1", "rouge2", "rougeL")
SCORES = ("bleu", "chrf", *ROUGE)


@dataclass
class OverlapParams:
    score: str = option("chrf", *SCORES)  # what is compared and gated; the details have all of them
    tokenize: str = option("13a", "13a", "intl", "char", "zh", "none")  # of BLEU, as sacrebleu names it
    stem: bool = False  # ROUGE without English endings
    max_new_tokens: int = at_least(1, 128)


@dataclass
class Compared(Scored):
    """An answer beside its references, one by one."""

    references: Sequence[str] = ()


class Overlap(Measurement):
    """Mean overlap of the greedy answers with their `references`, of which an item may have several.

    An item's score is that of the sentence (BLEU with effective order, as sacrebleu advises). `corpus_bleu` and
    `corpus_chrf` of the details are those of all answers together, as papers report them; sacrebleu's signatures are
    in the remarks. rouge-score reads Latin letters and digits only.
    """

    params, fields = OverlapParams, ("prompt", "references")

    def metric(self, params: OverlapParams) -> tuple[str, bool]:
        return params.score, True

    def check(self, row: Row, params: OverlapParams) -> None:
        if not row["references"] or not all(text.strip() for text in row["references"]):
            raise DataError(f"item {row['id']}: `references` needs at least one text, none of them empty")

    def run(self, policy: "Policy", rows: list[Row], params: OverlapParams, micro_batch: int) -> list[Scored]:
        answers = answers_of(policy, rows, params.max_new_tokens, micro_batch)
        found = sentence_scores(answers, [row["references"] for row in rows], params)
        return [result(row, *each, params.score) for row, *each in zip(rows, answers, found, strict=True)]

    def details(self, items: list[Scored], params: OverlapParams) -> dict[str, Any]:
        clusters = [item.cluster for item in items]
        others = {name: mean_of([item.values[name] for item in items], clusters)
                  for name in SCORES if name != params.score}  # fmt: skip
        corpus = {name: of_corpus(metric, items) for name, metric in corpus_metrics(params.tokenize).items()}
        return {
            "metrics": others | {f"corpus_{name}": found for name, (found, _) in corpus.items()},
            "remarks": [told for _, told in corpus.values()],
        }


def sentence_scores(answers: list[str], references: list[list[str]], params: OverlapParams) -> list[dict[str, float]]:
    """Every score of every answer against the nearest of its references."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(effective_order=True, tokenize=params.tokenize), CHRF()
    rouge = RougeScorer(ROUGE, use_stemmer=params.stem)
    return [
        {
            "bleu": bleu.sentence_score(answer, texts).score / 100,
            "chrf": chrf.sentence_score(answer, texts).score / 100,
            **{name: score.fmeasure for name, score in rouge.score_multi(texts, answer).items()},
        }
        for answer, texts in zip(answers, references, strict=True)
    ]


def result(row: Row, answer: str, scores: dict[str, float], score: str) -> Compared:
    texts = row["references"]
    found = scored(row, scores[score], answer=answer, reference="\nor: ".join(texts), values=scores)
    return Compared(**vars(found), references=texts)


def corpus_metrics(tokenize: str) -> "dict[str, Metric]":
    from sacrebleu.metrics import BLEU, CHRF

    return {"bleu": BLEU(tokenize=tokenize), "chrf": CHRF()}


def of_corpus(metric: "Metric", items: list[Compared]) -> tuple[dict[str, Any], str]:
    """The score of all answers together with its interval over resampled clusters, and as sacrebleu prints it."""
    answers = [item.answer for item in items]
    references = list(zip_longest(*(item.references for item in items)))  # None where an item has fewer than others
    printed = metric.corpus_score(answers, references).format(signature=metric.get_signature().format())
    # What corpus_score adds up, so that a resample need not read the texts again.
    counts = np.array(metric._extract_corpus_statistics(answers, references))

    def statistic(places: Places) -> float:
        return metric._compute_score_from_stats(counts[places].sum(axis=0).tolist()).score / 100

    return clustered(statistic, [item.cluster for item in items]), printed
