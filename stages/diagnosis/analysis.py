"""From results, training rows and points of the learning curve to the diagnosis of every slice."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from stages.diagnosis.evidence import Evidence, gather
from stages.diagnosis.failures import Floats, Suite
from stages.diagnosis.lessons import Lesson
from stages.diagnosis.neighbours import Around, Space
from stages.diagnosis.slices import Slice, slices
from stages.diagnosis.verdicts import FEW, LABELS, MISSING, MORE, NONE, Verdict, judge

ORDER = (MISSING, LABELS, MORE, NONE, FEW)
EXAMPLES = 3
SHOWN = 300  # characters of a text in an example


def diagnose(
    suites: Mapping[str, Suite],
    lessons: Sequence[Lesson],
    points: Mapping[float, Mapping[str, Suite]],
    without_curve: str = "there are no points",
) -> list[dict[str, Any]]:
    """Each suite with its slices, those with a cause first. `points`: share of the data -> results, 1.0 among them.

    p-values of "this slice fails more" are corrected over all slices of all suites (Benjamini and Hochberg 1995).
    """
    space = Space(list(suites.values()), lessons)
    found = [_of_suite(suite, space, points, lessons) for suite in suites.values()]
    p = _corrected([evidence for _, _, parts in found for _, evidence in parts])
    return [_suite(*parts, p, lessons, without_curve) for parts in found]


def _of_suite(
    suite: Suite, space: Space, points: Mapping[float, Mapping[str, Suite]], lessons: Sequence[Lesson]
) -> tuple[Suite, Around, list[tuple[Slice, Evidence]]]:
    around = space.around(suite)
    failed: dict[float, Floats] = {at: results[suite.name].failed for at, results in points.items()}
    return suite, around, [(one, gather(suite, one, around, failed, lessons)) for one in slices(suite)]


def _corrected(found: Sequence[Evidence]) -> dict[int, float]:
    """id of the evidence -> corrected p; 1 where there is no rest to compare with."""
    compared = [one for one in found if one.excess]
    p = false_discovery_control([one.excess.p for one in compared if one.excess]) if compared else []
    return {id(one): 1.0 for one in found} | {id(one): float(value) for one, value in zip(compared, p, strict=True)}


def _suite(
    suite: Suite, around: Around, parts: list[tuple[Slice, Evidence]], p: Mapping[int, float],
    lessons: Sequence[Lesson], without_curve: str,
) -> dict[str, Any]:  # fmt: skip
    pooled = parts[0][1].curve
    judged = [(one, found, judge(found, p[id(found)], pooled, without_curve)) for one, found in parts]
    rows = [
        _slice(one, found, verdict, p[id(found)]) | {"examples": _examples(suite, one, around, lessons)}
        for one, found, verdict in judged
    ]
    whole, others = rows[0], sorted(rows[1:], key=lambda row: (ORDER.index(row["verdict"]), -row["excess"]["value"]))
    return {
        "suite": suite.name, "metric": suite.metric, "failure": suite.meaning, "items": len(suite.ids),
        "slices": [whole, *others],
    }  # fmt: skip


def _slice(one: Slice, found: Evidence, verdict: Verdict, p: float) -> dict[str, Any]:
    rate = {"value": found.rate.value, "low": found.rate.low, "high": found.rate.high}
    excess = found.excess and {"value": found.excess.value, "low": found.excess.low, "high": found.excess.high, "p": p}
    return {
        "name": one.name, "kind": one.kind, "items": found.rate.n, "clusters": found.rate.clusters,
        "failure_rate": rate, "excess": excess, "verdict": verdict.word, "sentence": verdict.sentence,
        "training": {
            "rows_near": found.rows, "rows_with_value": found.same_value, "covered": found.covered,
            "of_rest": found.density and found.density.ratio,
            "value_of_rest": found.value_ratio,
        },
        "labels": {
            "disagreement": found.disagreement.value if found.disagreement.size else None,
            "above_rest": found.dispute and found.dispute.value,
            "contradiction": found.contradiction and found.contradiction[0],
        },
        "curve": found.curve and found.curve.json(),
    }  # fmt: skip


def _examples(suite: Suite, one: Slice, around: Around, lessons: Sequence[Lesson]) -> list[dict[str, Any]]:
    """The worst items of the slice, each beside the training row that is nearest to it."""
    order = [i for i in np.argsort(-suite.failed, kind="stable") if one.inside[i] and suite.failed[i] > 0][:EXAMPLES]
    return [
        {
            "item": suite.ids[i], "prompt": suite.prompts[i][:SHOWN], "answer": suite.answers[i][:SHOWN],
            "reference": suite.references[i][:SHOWN], "nearest": _nearest(lessons[around.nearest[i]]),
        }
        for i in order
    ]  # fmt: skip


def _nearest(lesson: Lesson) -> dict[str, str]:
    return {"set": lesson.set, "prompt": lesson.prompt[:SHOWN], "answer": lesson.answer[:SHOWN]}
