"""Which stage forgot what: every suite after every stage, against its input and against the start.

`matrix` is what a run writes as `matrix.json`:

    {"entries": [{"stage", "suite", "metric", "higher_is_better", "value", "low", "high",
                  "against_input": CHANGE or null, "against_base": CHANGE or null}, ...],
     "caused_by": {suite: stage or null},
     "detectable": {suite: number or null}}

CHANGE is {"stage": the other model, "change", "low", "high", "p"}, relative for perplexity, or {"stage", "reason"}
where the two cannot be compared. `null` stands where there is no such model: the start has no input. Entries are in the
order of the stages, and of the suites within each.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.judging.power import detectable, detectable_alone
from pipeline.judging.results import Results
from pipeline.judging.statistics import paired_change
from pipeline.judging.verdicts import readable
from pipeline.manifest import read_json, write_json

SCHEMA = 1  # raise it when the computation changes
CONFIDENCE = 0.95
BASE = "base"


def cached_matrix(results: Mapping[str, Path], inputs: Mapping[str, str], cache: Path) -> dict[str, Any]:
    """The matrix of stored results, which never change: computed once and kept below `cache`.

    `results`: stage -> folder of its evaluation; `inputs`: stage -> the stage that it continues.
    """
    known = [[stage, path.parent.name, path.name, inputs.get(stage)] for stage, path in results.items()]
    digest = hashlib.sha256(json.dumps([SCHEMA, known]).encode()).hexdigest()
    file = cache / f"{digest[:32]}.json"
    if file.is_file():
        return dict(read_json(file))
    found = matrix({stage: Results(path) for stage, path in results.items()}, inputs)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    return found


def matrix(read: Mapping[str, Results], inputs: Mapping[str, str]) -> dict[str, Any]:
    """The matrix as the module describes it."""
    entries = [_entry(stage, suite, read, inputs) for stage in read for suite in read[stage].summary]
    suites = list(dict.fromkeys(entry["suite"] for entry in entries))
    return {
        "entries": entries,
        "caused_by": {suite: caused_by([entry for entry in entries if entry["suite"] == suite]) for suite in suites},
        "detectable": {suite: readable(_detectable(suite, read)) for suite in suites},
    }


def caused_by(entries: list[dict[str, Any]]) -> str | None:
    """Of the entries of one suite the stage that lost most against its own input, where that is more than luck."""
    losses = {}
    for entry in entries:
        change = entry["against_input"]
        if change and "reason" not in change and change["p"] <= 1 - CONFIDENCE:
            losses[entry["stage"]] = -change["change"] if entry["higher_is_better"] else change["change"]
    worst = max(losses, key=lambda stage: losses[stage], default=None)
    return worst if worst and losses[worst] > 0 else None


def _entry(stage: str, suite: str, read: Mapping[str, Results], inputs: Mapping[str, str]) -> dict[str, Any]:
    measured = read[stage].summary[suite]
    return {
        "stage": stage,
        "suite": suite,
        **{key: measured[key] for key in ("metric", "higher_is_better", "value", "low", "high")},
        "against_input": _change(stage, inputs.get(stage), suite, read),
        "against_base": _change(stage, BASE, suite, read),
    }


def _change(stage: str, other: str | None, suite: str, read: Mapping[str, Results]) -> dict[str, Any] | None:
    if other is None or other == stage or other not in read or suite not in read[other].summary:
        return None
    try:
        found = paired_change(
            read[stage].items(suite), read[other].items(suite), read[stage].summary[suite]["metric"], CONFIDENCE
        )
    except ValueError as error:
        return {"stage": other, "reason": str(error)}
    return {"stage": other, **{key: readable(getattr(found, key)) for key in ("change", "low", "high", "p")}}


def _detectable(suite: str, read: Mapping[str, Results]) -> float:
    """The smallest change that the suite sees: between the start and the last model that can be compared with it."""
    models = [stage for stage in read if suite in read[stage].summary]
    metric = read[models[0]].summary[suite]["metric"]
    for stage in reversed(models[1:]):
        try:
            return detectable(read[stage].items(suite), read[models[0]].items(suite), metric, CONFIDENCE)
        except ValueError:  # measured on other items
            continue
    return detectable_alone(read[models[0]].items(suite), metric, CONFIDENCE)
