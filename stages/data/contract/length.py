"""Texts that are far longer or shorter than the others of their task."""

from collections.abc import Sequence

import numpy as np

from stages.data.contract.view import Found, Item, Mark, Scope, share

NORMAL = 1.4826  # median absolute deviation of a normal distribution -> its standard deviation
NARROWEST = 0.35  # standard deviation, in parts of a length, below which lengths are taken as equal
ENOUGH = 8  # rows below which nothing is said of a usual length
POWERS = np.linspace(0, 1, 21)
LEAST = 100  # letters by which a length must differ from the usual one: below, nobody would look
GAP = 8.0  # times a length is the next smaller one where two kinds of rows part
RARE = 0.3  # of the rows: more of a kind are no outliers


def length_outliers(scope: Scope) -> Found | None:
    """Rows with an answer (a document: the text) far longer or shorter than usual.

    By `outlier` robust deviations, or beyond a wide gap, since many outliers widen the deviation. By task where
    the task has `group` rows; in letters, since not every examination has a tokenizer.
    """
    found = [mark for part in _groups(scope) for mark in _outliers(part, scope.config.outlier)]
    if not found:
        return None
    long = sum(mark.text.startswith("long") for mark in found)
    return Found(
        sorted(found, key=lambda mark: mark.index),
        f"{share(len(found), len(scope.rows))} rows are of an unusual length: {long} long, {len(found) - long} short.",
        "Look whether these rows were cut, joined or filled up; if not, give them a `task` of their own.",
        detail={"long": long, "short": len(found) - long},
    )


def _groups(scope: Scope) -> list[list[Item]]:
    """Tasks that are large enough, and all other rows together."""
    tasks = scope.tasks
    rest = [item for item in scope.items if item.task not in tasks]
    return [part for part in (*tasks.values(), rest) if len(part) >= ENOUGH]


def _outliers(items: Sequence[Item], limit: float) -> list[Mark]:
    pairs = [(item, text) for item in items for text in (item.answers or (item.prompt,))]
    lengths = np.array([max(1, len(text)) for _, text in pairs], dtype=float)
    usual = round(float(np.median(lengths)))
    worst: dict[int, Mark] = {}
    unusual = (np.abs(robust_z(lengths)) > limit) | apart(lengths)
    for (item, text), told in zip(pairs, unusual, strict=True):
        if told and abs(len(text) - usual) >= LEAST:
            kind = "long" if len(text) > usual else "short"
            worst.setdefault(item.index, Mark(item.index, f"{kind}, {len(text)} letters, usual {usual}: {text[:200]}"))
    return list(worst.values())


def apart(lengths: np.ndarray) -> np.ndarray:
    """Which lengths stand beyond a gap of a factor GAP, fewer than RARE of all; [n] -> [n] bool."""
    ordered = np.sort(lengths)
    gaps = np.flatnonzero((ordered[1:] >= GAP * ordered[:-1]) & (ordered[1:] - ordered[:-1] >= LEAST)) + 1
    low = max((ordered[at - 1] for at in gaps if at < RARE * len(ordered)), default=-1.0)
    high = min((ordered[at] for at in gaps if at > (1 - RARE) * len(ordered)), default=np.inf)
    return (lengths <= low) | (lengths >= high)


def robust_z(lengths: np.ndarray) -> np.ndarray:
    """How many standard deviations each length is from the median, of lengths made symmetric; [n] -> [n].

    The modified z of Iglewicz and Hoaglin (1993), whose limit is 3.5, with a median absolute deviation for each side.
    """
    values = _power(lengths / np.median(lengths), _power_to_symmetry(lengths))
    above, below = (NORMAL * float(np.median(np.abs(values[side]))) for side in (values >= 0, values <= 0))
    return values / np.where(values < 0, max(below, NARROWEST), max(above, NARROWEST))


def _power_to_symmetry(lengths: np.ndarray) -> float:
    """The power for which the quartiles lie evenly around the median (Hinkley 1975), from 0, the logarithm, to 1.

    Many short answers make the logarithm so uneven that no answer would be too long for it.
    """
    quartiles = np.quantile(lengths, [0.25, 0.5, 0.75]) / np.median(lengths)
    uneven = [abs(float(_power(quartiles, power).sum())) for power in POWERS]
    return float(POWERS[int(np.argmin(uneven))])


def _power(values: np.ndarray, power: float) -> np.ndarray:
    """Box and Cox's: 0 at 1, with slope 1 there."""
    return np.log(values) if power == 0 else (values**power - 1) / power
