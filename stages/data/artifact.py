"""Reading a prepared data set: its rows, as its artifact holds them."""

import json
from collections.abc import Iterator
from typing import Any

from pipeline.context import Artifact
from pipeline.errors import DataError
from stages.data.findings import Located


def rows(artifact: Artifact, split: str = "train") -> list[dict[str, Any]]:
    """All rows of `split` (train | heldout). DataError when the set has no such part."""
    return list(stream(artifact, split))


def stream(artifact: Artifact, split: str = "train") -> Iterator[dict[str, Any]]:
    """The rows of `split` one by one. DataError when the set has no such part."""
    path = artifact.path / "data" / f"{split}.jsonl"
    if not path.is_file():
        raise DataError(f"data set {artifact.stage} has no {split} part; set its `holdout` share, or use another set")
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def located(artifact: Artifact, split: str = "train") -> list[Located]:
    """All rows of `split`, each with the file and the line that it was read from."""
    return [Located(row, row["origin"]["file"], row["origin"]["line"]) for row in stream(artifact, split)]
