"""How far production has moved from what a model was trained on: the shifts of `production`, as numbers alone."""

from collections.abc import Sequence

from stages.data.coverage import asked as asking
from stages.data.coverage.asked import Asked
from stages.data.coverage.config import CoverageConfig
from stages.data.coverage.divergence import chance
from stages.data.coverage.diversity import evenly
from stages.data.coverage.production import shifts, topic_shift
from stages.data.findings import Located

READ = 4000  # rows of each data set, spread evenly over it


def drift(production: Sequence[Located], trained: Sequence[Sequence[Located]]) -> dict[str, dict[str, float]]:
    """Feature -> {psi, chance} of length, language, topic, and for prompts task type and form of asking.

    PSI: the population stability index (Siddiqi 2006); chance: what two samples of one distribution hardly ever exceed
    (Yurdakul and Naranjo 2020). Both are of `divergence`. Where production asks, it is compared with prompts alone.
    """
    theirs = asking.production(evenly(production, READ))
    ours = [each for rows in trained for each in asking.production(evenly(rows, READ))]
    if any(each.requests for each in theirs):
        theirs, ours = _prompts(theirs), _prompts(ours)
    if not theirs or not ours:
        return {}
    found = [*shifts(ours, theirs), topic_shift(ours, theirs, CoverageConfig())]
    return {
        shift.feature: {"psi": shift.psi, "chance": chance(shift.training, shift.production)}
        for shift in found
        if shift.training.sum() and shift.production.sum()
    }


def _prompts(rows: Sequence[Asked]) -> list[Asked]:
    return [each for each in rows if each.requests]
