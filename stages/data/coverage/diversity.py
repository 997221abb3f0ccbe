"""Task types of a set of prompts, and how far its prompts are wordings of a few templates."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from stages.data.contract.view import share
from stages.data.coverage.asked import Asked
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.reading import words
from stages.data.coverage.result import Shortfall, Table, percent
from stages.data.coverage.tasks import OTHER, TASKS

T = TypeVar("T")
SAMPLED = 1000  # prompts whose similarity is measured
OPENING = 4  # words of an opening
MASKED = 12  # words of a prompt in which a template is looked for
WORDS = 60  # of a prompt that count for n-grams
FIXED = 3  # words that a template must have beside its slots
RARE = 0.02  # share of prompts below which a word is what fills a slot
USED = 5  # prompts that make a template
SLOT = "_"


@dataclass(frozen=True)
class Wordings:
    """The templates of prompts: `of[i]` is the template of prompt i, or None where it has a wording of its own."""

    of: list[str | None]

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(template for template in self.of if template is not None)

    def covered(self, most: int) -> int:
        """Prompts of the `most` largest templates."""
        return sum(count for _, count in self.counts.most_common(most))

    @property
    def effective(self) -> float:
        """How many equally frequent wordings would be as diverse: exp of the entropy (Hill number of order 1, 1973)."""
        alone = len(self.of) - self.counts.total()
        shares = np.array([*self.counts.values(), *([1] * alone)]) / max(1, len(self.of))
        return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def wordings(texts: Sequence[str]) -> Wordings:
    """Each prompt under its most frequent template: its first words, or its opening with rare words as slots."""
    split = [words(text)[:MASKED] for text in texts]
    frequent = Counter(word for parts in split for word in set(parts))
    least = max(USED, RARE * len(texts))
    fixed = {word for word, count in frequent.items() if count >= least}
    candidates = [[each for each in (_opening(parts), _masked(parts, fixed)) if each] for parts in split]
    counts = Counter(each for pair in candidates for each in pair)
    best = [max(pair, key=lambda each: counts[each], default=None) for pair in candidates]
    return Wordings([each if each is not None and counts[each] >= USED else None for each in best])


def _opening(parts: Sequence[str]) -> str | None:
    return f"{' '.join(parts[:OPENING])} ..." if len(parts) >= OPENING else None


def _masked(parts: Sequence[str], fixed: set[str]) -> str | None:
    """`what is the capital of _` for `what is the capital of france`; None where hardly anything is fixed."""
    masked: list[str] = []
    for word in parts:
        if word in fixed or not masked or masked[-1] != SLOT:
            masked.append(word if word in fixed else SLOT)
    kept = sum(word != SLOT for word in masked)
    return " ".join(masked) if kept >= FIXED and kept * 2 >= len(parts) else None


def distinct(texts: Iterable[str], n: int) -> float:
    """Distinct n-grams over all n-grams (distinct-n, Li et al. 2016), of the first words of each text."""
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        grams.update(_grams(words(text)[:WORDS], n))
    return len(grams) / max(1, grams.total())


def shared(texts: Sequence[str], n: int = 3) -> float:
    """Mean share of a text's n-grams that another text has too: what self-BLEU (Zhu et al. 2018) asks, in one pass."""
    sets = [set(_grams(words(text)[:WORDS], n)) for text in texts]
    held = Counter(gram for grams in sets for gram in grams)
    shares = [sum(held[gram] > 1 for gram in grams) / len(grams) for grams in sets if grams]
    return sum(shares) / max(1, len(shares))


def _grams(parts: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(parts[i:] for i in range(n)), strict=False)


def similarity(texts: Sequence[str]) -> float:
    """Mean Jaccard similarity of the word sets of two prompts, over all pairs of an even sample."""
    sets = [set(words(text)) for text in evenly(texts, SAMPLED)]
    places = {word: place for place, word in enumerate(sorted(set().union(*sets)))} if sets else {}
    held = np.zeros((len(sets), len(places)), dtype=np.float32)
    for row, parts in enumerate(sets):
        held[row, [places[word] for word in parts]] = 1
    common, sizes = held @ held.T, held.sum(axis=1)
    union = np.maximum(sizes[:, None] + sizes[None, :] - common, 1)
    pairs = len(sets) * (len(sets) - 1)
    return float(((common / union).sum() - np.trace(common / union)) / pairs) if pairs else 0.0


def evenly(items: Sequence[T], most: int) -> Sequence[T]:
    """At most that many, spread evenly over the whole."""
    return items if len(items) <= most else [items[i * len(items) // most] for i in range(most)]


def task_diversity(asked: Sequence[Asked], config: CoverageConfig) -> Shortfall | None:
    """Too much of one task type, or too few types."""
    counts = Counter(each.task for each in asked)
    largest, most = max(((task, counts[task]) for task in TASKS), key=lambda pair: pair[1])
    held = [task for task in TASKS if counts[task] >= max(1, config.present * len(asked))]
    if len(asked) < config.fewest_rows or (most <= config.largest_task * len(asked) and len(held) >= config.task_types):
        return None
    missing = [task for task in TASKS if task not in held]
    wanted = math.ceil(config.present * len(asked))
    return Shortfall(
        "task_diversity",
        most,
        len(asked),
        f"{share(most, len(asked))} prompts are of the type {largest}, and {len(held)} of {len(TASKS)} task types are "
        f"held; hardly or not at all: {', '.join(missing) or 'none'}.",
        f"Collect prompts of other types, at least {wanted} of each that the model is to serve: "
        + "; ".join(f"{task} ({TASKS[task]})" for task in missing or [t for t in TASKS if t != largest])
        + ".",
        [(each.item.located, each.text) for each in asked if each.task == largest],
        {"tasks": dict(counts), "missing": missing},
    )


def wording_diversity(asked: Sequence[Asked], found: Wordings, config: CoverageConfig) -> Shortfall | None:
    """Prompts that are fillings of a few templates."""
    covered = found.covered(config.templates)
    if len(asked) < config.fewest_rows or covered <= config.templated * len(asked):
        return None
    top = found.counts.most_common(config.templates)
    chosen = {name for name, _ in top}
    return Shortfall(
        "wording_diversity",
        covered,
        len(asked),
        f"{share(covered, len(asked))} prompts are wordings of {len(top)} templates; the largest, '{top[0][0]}', makes "
        f"{top[0][1]}. A model tuned on them learns the templates and is lost where people ask in other words.",
        "Ask for the same things in words of different people: collect real questions, or have each template written "
        "in twenty or more ways, short and long, as a question and as an order.",
        [(each.item.located, each.text) for each, name in zip(asked, found.of, strict=True) if name in chosen],
        {"templates": dict(top), "effective_wordings": round(found.effective, 1)},
    )


def tables(asked: Sequence[Asked], english: Sequence[Asked], found: Wordings, config: CoverageConfig) -> list[Table]:
    """Task types of the English prompts, and n-gram diversity and the largest templates of all."""
    texts = [each.text for each in asked]
    counts = Counter(each.task for each in english)
    lengths = {task: [len(each.text.split()) for each in english if each.task == task] for task in counts}
    typed = [(task, counts[task]) for task in (*TASKS, OTHER)]
    numbers = [(f"distinct-{n}", round(distinct(evenly(texts, SAMPLED), n), 3)) for n in (1, 2, 3)]
    numbers += [
        ("mean similarity of two prompts", round(similarity(texts), 3)),
        ("trigrams shared with another prompt", round(shared(evenly(texts, SAMPLED)), 3)),
        ("effective number of wordings", round(found.effective, 1)),
        (f"share of the {config.templates} largest templates", percent(found.covered(config.templates), len(texts))),
    ]
    return [
        Table(
            "Task types of prompts",
            ("task type", "prompts", "share", "median words"),
            tuple((t, n, percent(n, len(english)), int(np.median(lengths[t])) if n else "-") for t, n in typed),
            f"Of {len(english)} English prompts; a type counts as held from {100 * config.present:g} % of them.",
        ),
        Table(
            "Diversity of wording",
            ("measure", "value"),
            tuple(numbers),
            f"N-grams and similarity are measured on at most {SAMPLED} prompts; high distinct-n and low "
            f"similarity are good.",
        ),
        Table(
            "Largest templates",
            ("template", "prompts", "share"),
            tuple((name, n, percent(n, len(asked))) for name, n in found.counts.most_common(config.templates)),
            f"'{SLOT}' stands for words that fill a slot; '...' for any ending.",
        ),
    ]
