"""Training against a declared sample of production: shift of every feature, and the subtopics that training lacks."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.data.coverage.asked import UNKNOWN, Asked, words
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.divergence import SURE, chance, jensen_shannon, psi
from stages.data.coverage.result import Shortfall, Table, percent
from stages.data.coverage.topics import topics
from stages.data.misuse.exchanges import ASKING, TELLING

LENGTHS = (5, 10, 20, 40, 80, 160, 320, 640, 1280)  # words up to which a bucket goes
SAMPLED = 3000  # texts of either side whose topics are looked at
SHOWN = 5  # subtopics that are named
HELD = 5  # texts of production that make a subtopic
PLENTY = 400  # training texts that topics are fitted on, at least; else twice as many as of production
WORDLESS = "(no telling word)"


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


@dataclass(frozen=True)
class Subtopic:
    """A topic that is rarer in training than in production, with one text of production."""

    terms: tuple[str, ...]
    production: float
    training: float
    example: Asked

    @property
    def weight(self) -> float:
        """Its part of the PSI; half a thousandth stands for a share of none."""
        least = max(self.training, 0.0005)
        return (self.production - least) * float(np.log(self.production / least))

    @property
    def name(self) -> str:
        return ", ".join(self.terms)


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
    from stages.data.coverage.tasks import task_of

    return task_of(each.text) if each.english else None


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


def subtopics(
    training: Sequence[Asked], production: Sequence[Asked], config: CoverageConfig
) -> tuple[Shift, list[Subtopic]]:
    """The shift of topics, and those that production has more of than chance explains, the heaviest first."""
    ours, theirs = _evenly(training, SAMPLED), _evenly(production, SAMPLED)
    both = [*ours, *theirs]
    fitted = _evenly(range(len(ours)), max(PLENTY, 2 * len(theirs)))
    found = topics([each.text for each in both], config.topics, [*fitted, *range(len(ours), len(both))])
    names = [", ".join(terms) or WORDLESS for terms in found.terms] + [WORDLESS]
    sides = (found.of[: len(ours)], found.of[len(ours) :])
    counts = [
        np.array([(side == topic).sum() for topic in (*range(len(names) - 1), -1)], dtype=float) for side in sides
    ]
    shift = Shift("topic", names, *counts)
    lacking = [topic for topic in range(len(found.terms)) if _rarer(shift, topic)]
    told = [
        Subtopic(
            found.terms[topic],
            shift.production[topic] / len(theirs),
            shift.training[topic] / len(ours),
            theirs[int(np.flatnonzero(sides[1] == topic)[0])],
        )
        for topic in lacking
    ]
    return shift, sorted(told, key=lambda each: -each.weight)


def _rarer(shift: Shift, topic: int) -> bool:
    """Whether production has more of a topic, by a test of two proportions."""
    ours, theirs = shift.training.sum(), shift.production.sum()
    here, there = shift.training[topic] / ours, shift.production[topic] / theirs
    pooled = (shift.training[topic] + shift.production[topic]) / (ours + theirs)
    spread = float(np.sqrt(pooled * (1 - pooled) * (1 / ours + 1 / theirs)))
    return bool(shift.production[topic] >= HELD and there - here > SURE * spread)


def _evenly(items: Sequence, most: int) -> list:
    return list(items) if len(items) <= most else [items[i * len(items) // most] for i in range(most)]


def production_gap(
    found: Sequence[Shift], lacking: Sequence[Subtopic], sizes: tuple[int, int], config: CoverageConfig
) -> Shortfall | None:
    """Features that differ from production, or subtopics that training has hardly any of. `sizes`: of either side."""
    told = [each for each in found if each.told(config.psi)]
    missing = [
        each for each in lacking if each.production >= config.topic and each.training < config.lacking * each.production
    ]
    if min(sizes) < config.fewest_rows or not (told or missing):
        return None
    named = lacking[:SHOWN]
    return Shortfall(
        "production_gap",
        len(told) + len(missing),
        len(found),
        _message(told, named),
        _remedy(named, sizes[0]) if named else _shares(told),
        [(each.example.item.located, f"{each.name}: {each.example.text}") for each in named],
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


def tables(found: Sequence[Shift], lacking: Sequence[Subtopic], config: CoverageConfig) -> list[Table]:
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
            tuple((t.name, percent(t.training, 1), percent(t.production, 1), t.example.text[:160]) for t in lacking),
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
