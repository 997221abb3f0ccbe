"""What was measured of a model before, suite by suite, kept in the store's cache.

A changed or added suite makes another evaluation; the suites that stayed as they were are not measured again. The key
holds all that decides a result: the model, the suite, its items, judge and opponent, and the code that measures.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.context import Artifact
from pipeline.fingerprint import digest_code
from pipeline.schema import Suite
from stages.evaluation.measurement import Scored
from stages.evaluation.results import SuiteResult


def file_of(
    cache: Path, suite: Suite, model: Artifact, data: Artifact, others: Mapping[str, Artifact | None],
    packages: Mapping[str, str], device: str,
) -> Path:  # fmt: skip
    """Where the result is kept, or would be. `others`: judge and opponent; `packages`: what brings own checks."""
    said = {
        "suite": asdict(suite), "model": _named(model), "data": _named(data), "device": device,
        "others": {role: artifact and _named(artifact) for role, artifact in others.items()},
        "packages": dict(packages), "code": digest_code("stages.evaluate"),
    }  # fmt: skip
    return place(cache / "results", said)


def place(folder: Path, said: Any) -> Path:
    """The file of what is decided by the JSON value `said`."""
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return folder / digest[:2] / f"{digest[2:34]}.json"


def _named(artifact: Artifact) -> list[str]:
    return [artifact.id, artifact.digest]


def result(file: Path, name: str) -> SuiteResult | None:
    """The kept result, under this name of the suite; None where there is none, or a damaged one."""
    found = read(file)
    return found and SuiteResult(**{**found, "name": name, "items": [Scored(**item) for item in found["items"]]})


def read(file: Path) -> Any:
    """What `keep` wrote there; None where that is nothing, or damaged."""
    try:
        digest, _, body = file.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return json.loads(body) if hashlib.sha256(body.encode()).hexdigest() == digest else None


def keep(file: Path, value: Any) -> None:
    """Write a JSON value with its hash, whole or not at all."""
    body = json.dumps(value, ensure_ascii=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}", encoding="utf-8")
    part.replace(file)
