"""The diagnosis of artifacts: reads results, training rows, and how much the points of the curve were trained on."""

from collections.abc import Mapping
from typing import Any

from pipeline.context import Artifact, Measured
from pipeline.errors import DataError
from stages.diagnosis.analysis import diagnose
from stages.diagnosis.failures import read
from stages.diagnosis.lessons import lessons

SAME = 0.9  # share of the rows of the whole, from which on a point was trained on as much
NO_POINTS = "no model was trained on less data"
AS_MUCH = "the stage reads no more rows of all its data than of {:.0f} % of it: raise its limit before you add data"


def diagnosis(of: Measured, sets: Mapping[str, Artifact], curve: Mapping[float, Measured]) -> dict[str, Any]:
    """`sets`, `curve` and `suites` of diagnosis.json. DataError without training rows."""
    rows = lessons(sets)
    if not rows:
        raise DataError(f"{', '.join(sets) or 'the stage'}: no training row to hold failures against")
    measured = {**curve, 1.0: of}
    used = {asked: _trained_rows(one.model, asked) for asked, one in sorted(measured.items())}
    shares = {asked: count / used[1.0] for asked, count in used.items() if asked == 1 or count < SAME * used[1.0]}
    why_not = "" if len(shares) > 1 else AS_MUCH.format(100 * min(curve)) if curve else NO_POINTS
    suites = read(of.evaluation.path)
    points = {share: read(measured[asked].evaluation.path, suites) for asked, share in shares.items() if asked < 1}
    points |= {1.0: suites} if points else {}
    told = [_point(asked, used[asked], shares.get(asked), one) for asked, one in sorted(measured.items())]
    return {
        "sets": {name: sum(row.set == name for row in rows) for name in sets},
        "curve": {"points": told, "why_not": why_not},
        "suites": diagnose(suites, rows, points, why_not),
    }


def _point(asked: float, rows: float, share: float | None, one: Measured) -> dict[str, Any]:
    return {"asked": asked, "share": share, "rows": rows, "model": one.model.id, "evaluation": one.evaluation.id}


def _trained_rows(model: Artifact, asked: float) -> float:
    """Different rows that the model's last stage was trained on, as far as it says; else the share that was asked for.

    A row that is drawn several times counts once: a part of `epochs` above 1 has that many fewer rows of its own.
    """
    data = model.manifest().get("data") or {}
    parts = (data.get("mixture") or {}).values()
    if parts:
        return float(sum(part["rows"] / max(1.0, part["epochs"]) for part in parts))
    return float(data.get("rows_kept") or asked)
