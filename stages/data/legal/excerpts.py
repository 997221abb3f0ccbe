"""Pieces of licence texts: whole paragraphs for training, telling excerpts for questions."""

import random
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from stages.data.legal.licences import Licence, licences, on

if TYPE_CHECKING:
    import numpy as np

SENTENCE = re.compile(r"(?<=[a-z)\"']{2}[.])\s+(?=[A-Z(\"'0-9])|(?<=[a-z)\"']{2}[;:])\s+")
TITLE = re.compile(r"^[^a-z]*$")  # no lower-case letter: headings, dates
ENUMERATOR = re.compile(r"\s+\(?(?:[0-9.]+|[a-z]|[ivx]+)[.)]?$")  # the number of a clause that is cut off
# What tells a category: grants, duties and their reach. An excerpt is chosen for the cues that it holds.
CUES = (
    "public domain",
    "dedicat",
    "waive",
    "no rights",
    "copyleft",
    "same licen",
    "this licen",
    "under the terms of",
    "derivative",
    "modif",
    "source code",
    "object code",
    "source form",
    "binary",
    "distribut",
    "sublicen",
    "permission",
    "permitted",
    "provided",
    "notice",
    "acknowledg",
    "larger work",
    "library",
    "linking",
    "combin",
    "free of charge",
    "royalty-free",
    "without fee",
    "any purpose",
)


def pieces(licence: Licence, max_words: int) -> list[str]:
    """The text cut at paragraph borders into pieces of at most `max_words`; a longer paragraph at sentence borders."""
    blocks = [(block, "\n\n") for block in licence.paragraphs]
    small = [(part, gap) for block, gap in blocks for part, gap in _small(block, gap, max_words)]
    found: list[str] = []
    size = max_words
    for part, gap in small:
        words = len(part.split())
        if found and size + words <= max_words:
            found[-1] += gap + part
            size += words
        else:
            found.append(part)
            size = words
    return found


def _small(block: str, gap: str, max_words: int) -> list[tuple[str, str]]:
    """A paragraph as (part, what joins it to the part before)."""
    if len(block.split()) <= max_words:
        return [(block, gap)]
    parts = SENTENCE.split(block)
    return [(part, gap if i == 0 else " ") for i, part in enumerate(parts)]


def excerpts(licence: Licence, low: int, high: int, cues: int = 1) -> list[str]:
    """Runs of whole sentences, `low` to `high` words long, that hold `cues` different cues or more.

    The most telling come first, and none overlaps another.
    """
    sentences = [s for block in licence.paragraphs for s in SENTENCE.split(block) if not TITLE.match(s)]
    sizes = [len(s.split()) for s in sentences]
    held = [{cue for cue in CUES if cue in s} for s in map(str.lower, sentences)]
    runs = []
    for start in range(len(sentences)):
        end, size = start, 0
        while end < len(sentences) and size + sizes[end] <= high:
            size += sizes[end]
            end += 1
        found = len(set().union(*held[start:end]))
        if size >= low and found >= cues:
            runs.append((-found, start, end))
    chosen = [" ".join(sentences[start:end]) for start, end in _without_overlap(sorted(runs))]
    return [ENUMERATOR.sub("", text) for text in chosen]


def _without_overlap(runs: list[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    taken: set[int] = set()
    for _, start, end in runs:
        if taken.isdisjoint(range(start, end)):
            taken.update(range(start, end))
            yield start, end


def trained_on(licence: Licence) -> bool:
    """Whether training may show the text or anything said about this licence."""
    return licence.side == "train"


@lru_cache
def side_shingles(training: bool) -> "np.ndarray":
    """All 5-word shingles of the texts for training, or of the others."""
    import numpy as np

    from stages.data import similar

    return np.unique(np.concatenate([similar.shingles(x.text) for x in licences() if trained_on(x) == training]))


def unseen(text: str, share: float = 0.5) -> bool:
    """Whether less than `share` of the text's shingles stand in any text for training: no shared boilerplate."""
    from stages.data import similar

    return similar.contained(similar.shingles(text), side_shingles(True)) < share


def free_of_heldout(text: str, share: float = 0.5) -> bool:
    """Whether less than `share` of the text's shingles stand in any dev or held-out text."""
    from stages.data import similar

    return similar.contained(similar.shingles(text), side_shingles(False)) < share


def measured(side: str, low: int, high: int, cues: int, each: int, seed: int) -> Iterator[tuple[Licence, str]]:
    """Up to `each` unseen excerpts of every licence of a measured side."""
    rng = random.Random(f"{seed} {side}")
    for licence in on(side):
        fresh = [text for text in excerpts(licence, low, high, cues)[: 3 * each] if unseen(text)]
        for text in rng.sample(fresh, min(each, len(fresh))):
            yield licence, text
