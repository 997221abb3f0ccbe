"""One verdict for a slice, from its evidence, in the order of what is cheaper to be sure of."""

from dataclasses import dataclass

from stages.diagnosis.curve import Curve
from stages.diagnosis.evidence import Evidence
from stages.diagnosis.rates import Difference

MORE = "more of the same helps"
MISSING = "this slice is missing from the data"
LABELS = "labels disagree here"
FEW = "too few items to tell"
NONE = "no verdict"

ALPHA = 0.05  # p, corrected for the number of slices, from which on a slice fails no more than the rest
LEAST = 8  # independent items, and training rows with a suite's value
WIDE = 0.15  # half the interval of a difference, from which on nothing is to be seen
FAILS = 0.05  # failures that are worth a cause
FEWER = 0.2  # training rows for each item, over those of the rest, up to which a slice's rows are missing
SURE = 0.01  # p, from which on it may as well have as many near it as the rest
BARE = 0.2  # share of a whole suite's items with a training row near, up to which its rows are missing
DISPUTE = 0.1  # disagreement above the rest's
CONTRADICTION = 0.15  # agreement with the suite's answers below chance
GAIN = 0.01  # drop of the failure rate at twice the data


@dataclass(frozen=True)
class Verdict:
    word: str
    sentence: str


def judge(found: Evidence, p: float, pooled: Curve | None, without_curve: str) -> Verdict:
    """`p`: of failing no more than the rest, corrected. `pooled`: the suite's curve; `without_curve`: why none."""
    if found.size < LEAST:
        return Verdict(FEW, f"{_items(found)} say little.")
    fails = p < ALPHA if found.excess else found.rate.low >= FAILS
    if fails and (cause := _missing(found) or _labels(found)):
        return cause
    if found.rate.value < FAILS:
        return Verdict(NONE, f"it hardly fails: {_share(found.rate.value)} of {_items(found)}.")
    if cause := _more(found, pooled, fails):
        return cause
    if found.excess and not fails and _hides(found.excess):
        return Verdict(FEW, f"{_items(found)} would not show a difference of {_points(WIDE)} from the rest.")
    if not found.excess and not fails:
        return Verdict(FEW, f"{_share(found.rate.value)} of {_items(found)} fail, which may be luck.")
    return Verdict(NONE, _nothing(found, fails, without_curve))


def _missing(found: Evidence) -> Verdict | None:
    """By the column that says what a row is, where training rows have it; else by the rows near the items."""
    if found.same_value is not None:
        return _missing_value(found, found.same_value)
    near = f"{_share(found.covered)} of its items have a training row near them ({found.rows} rows in all)"
    if found.density is None:
        bare = found.covered <= BARE
        return Verdict(MISSING, f"{near}: next to nothing in the data is worded like this suite.") if bare else None
    if found.density.ratio > FEWER or found.density.p >= SURE:
        return None
    return Verdict(
        MISSING, f"{near}, for each item {found.density.ratio:.2g} times as many as near the rest; add rows of this "
        "kind.",
    )  # fmt: skip


def _missing_value(found: Evidence, rows: int) -> Verdict | None:
    if found.value_ratio is None:
        return Verdict(MISSING, f"{rows} training rows have its value.") if rows < LEAST else None
    if found.value_ratio > FEWER:
        return None
    return Verdict(
        MISSING, f"{rows} training rows have its value: for each item {found.value_ratio:.2g} times as many as the "
        "other values have in the middle; add rows of this kind.",
    )  # fmt: skip


def _labels(found: Evidence) -> Verdict | None:
    dispute = found.dispute
    if dispute and dispute.low > 0 and dispute.value >= DISPUTE:
        return Verdict(
            LABELS, f"of the training rows near an item {_share(found.disagreement.value)} of pairs differ in their "
            f"answer, {_points(dispute.value)} more than near the rest; check these answers.",
        )  # fmt: skip
    if found.contradiction and found.contradiction[0] >= CONTRADICTION and found.contradiction[1] > 0:
        return Verdict(
            LABELS, f"the training rows near its items give the suite's answers {_points(found.contradiction[0])} less "
            "often than rows elsewhere do: wrong labels on one side, or an exception among similar questions.",
        )  # fmt: skip
    return None


def _more(found: Evidence, pooled: Curve | None, fails: bool) -> Verdict | None:
    """The slice's own curve; where that is too noisy and the slice is like the rest, the whole suite's."""
    own = found.curve
    if own and rising(own):
        return Verdict(MORE, _ahead(own, "its failures"))
    if own and pooled and not fails and rising(pooled) and own.gain.value >= GAIN:
        return Verdict(MORE, _ahead(pooled, "failures of the whole suite"))
    return None


def rising(found: Curve) -> bool:
    """Whether failures still fall at the end of the curve, beyond what the choice of items explains."""
    return found.gain.low > 0 and found.gain.value >= GAIN


def _hides(excess: Difference) -> bool:
    """Whether the slice may fail much more than the rest and items are too few to see it."""
    return (excess.high - excess.low) / 2 > WIDE and excess.high > WIDE


def _ahead(found: Curve, what: str) -> str:
    first, last = found.rates[0], found.rates[-1]
    return (
        f"{what} fell from {_share(first.value)} at {_share(found.shares[0])} of the data to {_share(last.value)} at "
        f"all of it; twice the data would make them {_share(found.next.value)} ({_share(found.next.low)} to "
        f"{_share(found.next.high)})."
    )


def _nothing(found: Evidence, fails: bool, without_curve: str) -> str:
    if fails:
        more = "it fails, and neither fewer training rows near it nor their answers explain that"
    else:
        more = "it fails no more than the rest"
    if found.curve is None:
        return f"{more}; no learning curve ({without_curve})."
    return f"{more}, and its failures do not clearly fall with more data."


def _items(found: Evidence) -> str:
    own = f", worth {found.size:.0f} independent ones" if found.size < found.rate.n - 0.5 else ""
    return f"{found.rate.n} items{own}"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _points(value: float) -> str:
    return f"{100 * value:.0f} points"
