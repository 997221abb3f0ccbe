"""Plain-text sets: licence texts for continued training, and excerpts for perplexity."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

from stages.data.legal.excerpts import measured, pieces
from stages.data.legal.licences import Licence, on
from stages.data.legal.notices import notices
from stages.data.split import interleave

REPEATED = 0.75  # share of a piece's shingles from which it teaches nothing new
NOTICE_WORDS = (12, 120)  # shorter ones are bare names


def domain(max_words: int, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Pieces of every licence for training, mixed so that every beginning holds all of them, with `count` notices."""
    parts = [
        [
            {
                "id": f"{licence.key}-{i}",
                "text": text,
                "cluster": licence.group,
                "task": "licence text",
                "tags": ["legal"],
            }
            for i, text in enumerate(part)
        ]
        for licence, part in _fresh(max_words)
    ]
    random.Random(seed).shuffle(parts)
    short = [
        {"id": f"notice-{name}", "text": text, "cluster": f"notice-{name}", "task": "notice", "tags": ["legal"]}
        for name, text, _ in islice(notices(seed, *NOTICE_WORDS), count)
    ]
    yield from interleave([part for part in [*parts, short] if part], seed)


def _fresh(max_words: int) -> Iterator[tuple[Licence, list[str]]]:
    """Each licence's pieces, without those of which most was already in an earlier one: families repeat themselves."""
    from stages.data.similar import shingles

    seen: set[int] = set()
    for licence in on("train"):
        fresh = []
        for text in pieces(licence, max_words):
            own = shingles(text).tolist()
            if sum(item in seen for item in own) < REPEATED * len(own):
                fresh.append(text)
            seen.update(own)
        yield licence, fresh


def heldout(side: str, low: int, high: int, each: int, seed: int) -> Iterator[dict[str, Any]]:
    """Unseen excerpts; the groups take turns, so that a limit keeps as many groups as it can."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for number, (licence, text) in enumerate(measured(side, low, high, cues=1, each=each, seed=seed)):
        row = {
            "id": f"{licence.key}-{number}",
            "text": text,
            "cluster": licence.group,
            "task": "licence text",
            "tags": ["legal"],
        }
        parts.setdefault(licence.group, []).append(row)
    yield from round_robin(list(parts.values()), seed)


def round_robin(parts: list[list[dict[str, Any]]], seed: int) -> Iterator[dict[str, Any]]:
    """The first row of each part, then the second of each, and so on; parts and rows in seeded order."""
    rng = random.Random(seed)
    rng.shuffle(parts)
    for part in parts:
        rng.shuffle(part)
    for place in range(max(map(len, parts), default=0)):
        yield from (part[place] for part in parts if place < len(part))
