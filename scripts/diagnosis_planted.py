"""Does `journeyman eval diagnose` find what was done to the data? Damage is planted, the diagnosis is counted.

A world of texts: in each of six offices clerks sort letters into three trays by the things the letters are about; which
thing belongs in which tray has to be learned from rows. A linear classifier learns it in place of a language model, and
its results go through the analysis of the command: items, training rows, points of a learning curve.

    python scripts/diagnosis_planted.py                    seeds 0 to 9, writes benchmarks/diagnosis_planted.json
    python scripts/diagnosis_planted.py --seeds 100 120    the seeds on which the thresholds were chosen
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.data.split import first
from stages.diagnosis.analysis import diagnose
from stages.diagnosis.failures import Suite
from stages.diagnosis.lessons import Lesson
from stages.diagnosis.slices import slices
from stages.diagnosis.verdicts import LABELS, MISSING, MORE

RESULT = Path(__file__).parent.parent / "benchmarks" / "diagnosis_planted.json"
OFFICES = ("harbour", "library", "brewery", "observatory", "tannery", "orchard")
TRAYS = ("approve", "refuse", "forward")
WORDINGS = (
    "{office}: a letter about {a}, {b} and {c}. Which tray?",
    "Sort this for the {office}. It mentions {a}, also {b}, and {c}.",
    "The {office} clerk has mail on {a} with {b} and {c}; where does it go?",
)
THINGS, ROWS, ITEMS = 42, 140, 40  # of an office: things that letters are about, training rows, items
PURE = 0.9  # chance that a thing of a letter belongs in the letter's tray
SHARES = (0.25, 0.5, 1.0)
HARD = 4  # times as many things in an office that is harder to learn
EXPECTED = {"volume": MORE, "removed": MISSING, "flipped": LABELS, "turned": LABELS}
NOTHING = ("control", "hard", "volume")  # nothing is wrong with the rows of any one slice
PLANTS = (  # and how much: of all rows, of an office's rows, of an office's labels
    ("control", 0.0), ("hard", 0.0), ("volume", 0.9), ("volume", 0.8), ("volume", 0.65), ("removed", 1.0),
    ("removed", 0.9), ("removed", 0.8), ("flipped", 0.5), ("flipped", 0.35), ("flipped", 0.2), ("turned", 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Letter:
    office: str
    text: str
    tray: str


def letters(seed: int, count: int, world: int, hard: str = "") -> list[Letter]:
    """`count` letters of every office; `world` decides which things there are, `hard` which office has more of them."""
    rng, things = random.Random(seed), _things(world, hard)
    return [_letter(rng, office, things[office]) for office in OFFICES for _ in range(count)]


def _letter(rng: random.Random, office: str, things: dict[str, list[str]]) -> Letter:
    tray = rng.choice(TRAYS)
    trays = [tray if rng.random() < PURE else rng.choice(TRAYS) for _ in range(3)]
    a, b, c = (rng.choice(things[each]) for each in trays)
    return Letter(office, rng.choice(WORDINGS).format(office=office, a=a, b=b, c=c), tray)


def _things(world: int, hard: str) -> dict[str, dict[str, list[str]]]:
    """Office -> tray -> made-up names, no two the same."""
    rng = random.Random(f"world {world}")
    syllables = [first + last for first in "bdfgklmnprstvz" for last in "aeiou"]
    names = list(dict.fromkeys("".join(rng.choices(syllables, k=3)) for _ in range(4000)))
    per_tray = {office: THINGS // len(TRAYS) * (HARD if office == hard else 1) for office in OFFICES}
    return {office: {tray: [names.pop() for _ in range(n)] for tray in TRAYS} for office, n in per_tray.items()}


def damaged(rows: Sequence[Letter], plant: str, share: float, office: str, seed: int) -> list[Letter]:
    """The training rows after what was done to a share of them; `control` and `hard`: as they are."""
    rng = random.Random(f"damage {seed}")
    if plant == "volume":
        return rng.sample(rows, round((1 - share) * len(rows)))
    if plant == "removed":
        return [row for row in rows if row.office != office or rng.random() >= share]
    if plant == "turned":
        after = dict(zip(TRAYS, (*TRAYS[1:], TRAYS[0]), strict=True))
        return [replace(row, tray=after[row.tray]) if row.office == office else row for row in rows]
    if plant == "flipped":
        return [replace(row, tray=_other(rng, row.tray)) if row.office == office and rng.random() < share else row
                for row in rows]  # fmt: skip
    return list(rows)


def _other(rng: random.Random, tray: str) -> str:
    return rng.choice([each for each in TRAYS if each != tray])


def answers(rows: Sequence[Letter], items: Sequence[Letter]) -> list[str]:
    """What a linear classifier that was trained on the rows says about the items."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10.0, max_iter=300))
    return list(model.fit([row.text for row in rows], [row.tray for row in rows]).predict([one.text for one in items]))


def results(rows: Sequence[Letter], items: Sequence[Letter], declared: bool) -> dict[str, Suite]:
    """What an evaluation of that classifier leaves behind; `declared`: offices are a column of the items."""
    said = answers(rows, items)
    failed = np.array([float(answer != item.tray) for answer, item in zip(said, items, strict=True)])
    ids = [str(i) for i in range(len(items))]
    columns = [{"office": item.office} if declared else {} for item in items]
    texts, trays = [item.text for item in items], [item.tray for item in items]
    return {"letters": Suite("letters", "accuracy", ids, ids, failed, columns, texts, said, trays)}


def case(seed: int, plant: str, share: float, declared: bool) -> list[tuple[str, str, float]]:
    """One damaged world, diagnosed: (slice, verdict, share of its items that are of the damaged office), all first."""
    office = OFFICES[seed % len(OFFICES)]
    hard = office if plant == "hard" else ""
    items = letters(10_000 + seed, ITEMS, seed, hard)
    rows = damaged(letters(20_000 + seed, ROWS, seed, hard), plant, share, office, seed)
    sizes = {str(i): 1 for i in range(len(rows))}
    points = {}
    for part in SHARES:
        kept = first(sizes, part, seed)
        points[part] = results([row for i, row in enumerate(rows) if str(i) in kept], items, declared)
    found = diagnose(points[1.0], [Lesson("letters", row.text, row.tray, {}) for row in rows], points)[0]["slices"]
    planted = np.array([item.office == office for item in items])
    hit = {one.name: float(planted[one.inside].mean()) for one in slices(points[1.0]["letters"])}
    return [(one["name"], one["verdict"], hit[one["name"]]) for one in found]


def verdict_on(plant: str, found: Sequence[tuple[str, str, float]]) -> str:
    """The verdict on what was planted: on the whole, or on the slice that is made of the damaged office most."""
    if plant in ("control", "volume"):
        return found[0][1]
    _, verdict, hit = max(found[1:], key=lambda one: one[2])
    return verdict if hit > 0.5 else "no slice holds it"


def blamed(plant: str, found: Sequence[tuple[str, str, float]]) -> int:
    """Slices said to be missing or to have wrong labels although nothing was done to their rows."""
    aside = [verdict for _, verdict, hit in found[1:] if plant in NOTHING or hit == 0]
    return sum(verdict in (MISSING, LABELS) for verdict in aside)


def count(seeds: Sequence[int], declared: bool) -> list[dict[str, Any]]:
    """For every plant, how often each verdict was given on it, and how many other slices were blamed."""
    table = []
    for plant, share in PLANTS:
        found = [case(seed, plant, share, declared) for seed in seeds]
        verdicts = Counter(verdict_on(plant, one) for one in found)
        expected = EXPECTED.get(plant)
        table.append({
            "plant": plant, "share": share, "expected": expected, "cases": len(found),
            "recognised": verdicts[expected] if expected else None, "verdicts": dict(verdicts),
            "other_slices": sum(len(one) - 1 for one in found),
            "wrongly_blamed": sum(blamed(plant, one) for one in found),
            "more_of_the_same": sum(verdict == MORE for one in found for _, verdict, _ in one[1:]),
        })  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FROM", "TO"), help="print these, write nothing")
    given = parser.parse_args().seeds
    seeds = list(range(*(given or (0, 10))))
    table = {name: count(seeds, name == "declared") for name in ("declared", "discovered")}
    text = json.dumps({"seeds": seeds, "slices": table}, indent=1)
    print(text)
    if not given:
        RESULT.write_text(text + "\n")


if __name__ == "__main__":
    main()
