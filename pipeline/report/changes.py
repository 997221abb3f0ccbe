"""How much a model changed against the start, from per-item results; computed once for a pair of artifacts.

The results are immutable, so the outcome is kept under <store>/cache/changes by the digests of both: a run with
nothing to do reads it back and imports neither numpy nor pyarrow.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from pipeline.report.collect import Node, read_json
from pipeline.report.words import Change

SCHEMA = 2  # raise it when the computation changes


def changes(before: Node, after: Node, cache: Path) -> dict[str, Change | str]:
    """suite -> change of `after` against `before` (two evaluations), or the reason why they cannot be compared."""
    pair = f"{SCHEMA}:{before.entry.get('digest')}:{after.entry.get('digest')}"
    path = cache / (hashlib.sha256(pair.encode()).hexdigest()[:32] + ".json")
    known = read_json(path)
    if not known:
        known = compute(before, after)
        _write(path, known)
    return {suite: found if isinstance(found, str) else Change(*found) for suite, found in known.items()}


def compute(before: Node, after: Node) -> dict[str, list[float] | str]:
    """suite -> [change, low, high] with a 95 % interval, or a reason; for every suite that both were measured on."""
    from pipeline.judging.results import Results
    from pipeline.judging.statistics import paired_change

    assert before.folder is not None and after.folder is not None
    old, new = Results(before.folder), Results(after.folder)
    results: dict[str, list[float] | str] = {}
    for suite in new.summary.keys() & old.summary.keys():
        metric = new.summary[suite]["metric"]
        if metric != old.summary[suite]["metric"]:
            results[suite] = f"one was measured by {old.summary[suite]['metric']}, the other by {metric}"
            continue
        try:
            found = paired_change(new.items(suite), old.items(suite), metric)
            results[suite] = [found.change, found.low, found.high]
        except ValueError as error:
            results[suite] = str(error)
    return results


def _write(path: Path, value: dict[str, list[float] | str]) -> None:
    with suppress(OSError):  # only a cache: reading from a store that cannot be written is fine
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(value))
        os.replace(part, path)
