"""Reading a prepared data set: its rows, as its artifact holds them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.context import Artifact
from pipeline.errors import DataError


def rows(artifact: Artifact, split: str = "train") -> list[dict[str, Any]]:
    """All rows of `split` (train | heldout). DataError when the set has no such part."""
    path = artifact.path / "data" / f"{split}.jsonl"
    if not path.is_file():
        raise DataError(f"data set {artifact.stage} has no {split} part; set its `holdout` share, or use another set")
    return list(_read(path))


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)
