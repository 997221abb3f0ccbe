"""Rows at their place, and a page with something in every section."""

import pytest

from stages.data.coverage.result import Table
from stages.data.findings import Finding, Located, Seen
from stages.data.quality.page import Page
from stages.data.quality.samples import Piece, Rendered, Sample

COUNTS = {
    "rows_read": 1000, "rows_kept": 950, "rows_repaired": 20, "rows_rejected": 30, "rows_train": 870,
    "rows_heldout": 100, "words": 54321, "tasks": {"explain": 600, "classify": 370}, "tags": {"legal": 970},
    "reasons": {"rejected: duplicate": 25, "rejected: broken": 5, "repaired: line ends": 20},
    "unused_fields": {"lang": 3},
}  # fmt: skip


@pytest.fixture
def counts():
    """What `prepare` counts of a data set in which nothing got lost."""
    return dict(COUNTS)


@pytest.fixture
def located():
    return lambda rows: [Located(row, "rows.jsonl", line) for line, row in enumerate(rows, 1)]


@pytest.fixture
def page(counts):
    """page(text=...) -> a Page in which every text from the data is `text`; keywords change its fields."""

    def make(text="plain", **changed):
        finding = Finding("warning", "near_duplicates", 3, 970, text, text, (Seen(text, 7, text),), {text: [text]})
        accepted = Finding("info", "length_outliers", 2, 970, text, text, accepted=text)
        pieces = (
            Piece("<|im_start|>", False, True),
            Piece(text, False),
            Piece(text, True),
            Piece("<|end|>", True, True),
        )
        fields = {
            "title": text, "stage": "sft", "counts": {**counts, "tasks": {text: 970}, "unused_fields": {text: 3}},
            "rejected": [{"file": text, "line": 9, "code": text, "reason": text, "row": {text: text}}],
            "findings": [accepted, finding], "tables": [Table(text, (text, "Rows"), ((text, 1), (text, 2)), text)],
            "mixture": {text: {"asked": 1.0, "realised": 1.0, "tokens": 9, "trained_tokens": 4, "rows": 1}},
            "lengths": {"tokens per answer": [3, 4, 4, 5]}, "max_length": 64,
            "samples": [Sample(text, 3, (Rendered(pieces, 12, 4, text, left_out=5),), note=text)],
        }  # fmt: skip
        return Page(**{**fields, **changed})

    return make
