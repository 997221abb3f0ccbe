"""Training against a declared sample of production: shift of every feature, and the subtopics that training lacks."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.data.coverage.asked import Asked
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.divergence import chance, jensen_shannon, psi
from stages.data.coverage.diversity import evenly
from stages.data.coverage.reading import UNKNOWN, words
from stages.data.coverage.result import Shortfall, Table, percent
from stages.data.coverage.subtopics import Subtopic
from stages.data.coverage.topics import topics
from stages.data.misuse.exchanges import ASKING, TELLING

LENGTHS = (5, 10, 20, 40, 80, 160, 320, 640, 1280)  # words up to which a bucket goes
SAMPLED = 2000  # texts of either side whose topics are looked at
SHOWN = 5  # subtopics that are named
PLENTY = 400  # training texts that topics are fitted on, at least; else twice as many as of production


@dataclass(frozen=True)
class Shift:
    """Counts of a feature's classes on either side."""

    feature: str
    classes: list[str]
    training: np.ndarray
    production: np.ndarray

    @property
    def psi(self) -> float:
        return psi(self.training, self.production)

    @property
    def divergence(self) -> float:
        return jensen_shannon(self.training, self.production)

    def told(self, least: float) -> bool:
        """As large as `least`, and larger than chance makes it."""
        return self.psi >= max(least, chance(self.training, self.production))


def shifts(training: Sequence[Asked], production: Sequence[Asked]) -> list[Shift]:
    """Every feature but topics. Task type and form of asking only where both sides are prompts."""
    features: list[tuple[str, Callable[[Asked], str | None]]] = [("length", bucket), ("language", _language)]
    if not any(each.item.form == "text" for each in training):
        features += [("task type", _task), ("form of asking", form)]
    return [_shift(name, read, training, production) for name, read in features]


def _shift(
    name: str, read: Callable[[Asked], str | None], training: Sequence[Asked], production: Sequence[Asked]
) -> Shift:
    sides = [Counter(value for each in side if (value := read(each)) is not None) for side in (training, production)]
    classes = sorted(set(sides[0]) | set(sides[1]))
    return Shift(name, classes, *(np.array([side[each] for each in classes], dtype=float) for side in sides))


def bucket(each: Asked) -> str:
    """The length of the text in words, as '0021 to 0040 words', so that names sort by length."""
    length = len(each.text.split())
    above = next((most for most in LENGTHS if length <= most), None)
    if above is None:
        return f"over {LENGTHS[-1]} words"
    place = LENGTHS.index(above)
    return f"{LENGTHS[place - 1] + 1 if place else 0:04d} to {above:04d} words"


def _language(each: Asked) -> str | None:
    return None if each.language == UNKNOWN else each.language


def _task(each: Asked) -> str | None:
    return each.task if each.english else None


def form(each: Asked) -> str | None:
    """A question, an order, or neither; None where the text is not English."""
    if not each.english:
        return None
    if "?" in each.text[-200:] or "?" in each.text[:200]:
        return "question"
    first = words(each.text[:80])[:1]
    if first and first[0] in TELLING:
        return "order"
    return "question without a mark" if first and first[0] in ASKING else "statement"


def topic_shift(training: Sequence[Asked], production: Sequence[Asked], config: CoverageConfig) -> Shift:
    """Counts of the topics that an even share of both sides makes; the topics have no names."""
    ours, theirs = evenly(training, SAMPLED), evenly(production, SAMPLED)
    fitted = evenly(range(len(ours)), max(PLENTY, 2 * len(theirs)))
    texts = [each.text for each in (*ours, *theirs)]
    of = topics(texts, config.topics, [*fitted, *range(len(ours), len(texts))])
    names = range(-1, int(of.max()) + 1)
    sides = [np.array([(side == name).sum() for name in names], dtype=float) for side in np.split(of, [len(ours)])]
    return Shift("topic", [str(name) for name in names], *sides)


def production_gap(
    found: Sequence[Shift],
    lacking: Sequence[Subtopic],
    ours: Sequence[Asked],
    theirs: Sequence[Asked],
    config: CoverageConfig,
) -> Shortfall | None:
    """Features in which training (`ours`) differs from production, or subtopics that it has hardly any of."""
    told = [each for each in found if each.told(config.psi)]
    missing = [
        each for each in lacking if each.production >= config.topic and each.training < config.lacking * each.production
    ]
    if min(len(ours), len(theirs)) < config.fewest_rows or not (told or missing):
        return None
    named = lacking[:SHOWN]
    examples = [(theirs[each.example].item.located, f"{each.name}: {theirs[each.example].text}") for each in named]
    return Shortfall(
        "production_gap",
        len(told) + len(missing),
        len(found),
        _message(told, named),
        _remedy(named, len(ours)) if named else _shares(told),
        examples,
        {
            "features": {each.feature: {"psi": round(each.psi, 4), "js": round(each.divergence, 4)} for each in found},
            "subtopics": [
                {
                    "terms": list(each.terms),
                    "production": round(each.production, 4),
                    "training": round(each.training, 4),
                }
                for each in named
            ],
        },
    )


def _message(told: Sequence[Shift], named: Sequence[Subtopic]) -> str:
    parts = [f"{each.feature} (PSI {each.psi:.2f}, Jensen-Shannon {each.divergence:.2f} bits)" for each in told]
    shifted = f"The data differs from production in {', '.join(parts)}. " if parts else ""
    if not named:
        return shifted.strip()
    rows = [f"'{t.name}' {percent(t.training, 1)} instead of {percent(t.production, 1)}" for t in named]
    return f"{shifted}Subtopics of production that it has too little of: {'; '.join(rows)}."


def _remedy(named: Sequence[Subtopic], size: int) -> str:
    wanted = [
        f"{max(1, round((each.production - each.training) * size))} on '{', '.join(each.terms[:3])}'" for each in named
    ]
    return f"Collect rows like those of production: about {', '.join(wanted)}; an example of each is below."


def _shares(told: Sequence[Shift]) -> str:
    rows = []
    for each in told:
        gap = each.production / each.production.sum() - each.training / each.training.sum()
        most = int(np.argmax(gap))
        rows.append(f"{each.feature} '{each.classes[most]}' (production has {100 * gap[most]:.0f} points more)")
    return f"Collect rows like those of production, above all: {', '.join(rows)}."


def tables(
    found: Sequence[Shift], lacking: Sequence[Subtopic], theirs: Sequence[Asked], config: CoverageConfig
) -> list[Table]:
    """The shift of every feature, its classes, and the subtopics that training lacks."""
    whole = [
        (each.feature, round(each.psi, 3), round(each.divergence, 3), round(chance(each.training, each.production), 3))
        for each in found
    ]
    return [
        Table(
            "Shift against production",
            ("feature", "PSI", "Jensen-Shannon in bits", "PSI that chance explains"),
            tuple(whole),
            f"A PSI below 0.1 is no shift to speak of; from {config.psi:g}, if chance does not explain it, it is told.",
        ),
        *(_classes(each) for each in found if each.feature != "topic"),
        Table(
            "Subtopics that production has more of",
            ("subtopic", "share here", "share in production", "an example from production"),
            tuple(
                (t.name, percent(t.training, 1), percent(t.production, 1), theirs[t.example].text[:160])
                for t in lacking
            ),
            "The heaviest first; each is named by the words that tell it from the others.",
        ),
    ]


def _classes(shift: Shift) -> Table:
    here, there = (np.maximum(side.sum(), 1) for side in (shift.training, shift.production))
    rows = zip(shift.classes, shift.training, shift.production, strict=True)
    return Table(
        f"Production: {shift.feature}",
        (shift.feature, "share here", "share in production"),
        tuple((name, percent(ours, here), percent(theirs, there)) for name, ours, theirs in rows),
        "Collect rows of the classes whose share here is far below that in production.",
    )
