"""Reading a prepared data set: its rows, as its artifact holds them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.context import Artifact
from pipeline.errors import DataError
from stages.data.findings import Located

DROPPED = "dropped.json"  # of a check: data set -> ids of the rows that may not be trained on


@dataclass(frozen=True)
class Reduced(Artifact):
    """A data set whose training part is read without some of its rows."""

    dropped: frozenset[str] = frozenset()


def without(artifact: Artifact, ids: Iterable[str]) -> Artifact:
    """The data set, read without the training rows of these ids, nor those that were left out already."""
    before = artifact.dropped if isinstance(artifact, Reduced) else frozenset()
    left_out = before | frozenset(ids)
    return Reduced(**{**vars(artifact), "dropped": left_out}) if left_out else artifact


def dropped(check: Artifact) -> dict[str, list[str]]:
    """Data set -> ids of the rows that a stage's check takes out of its training."""
    return json.loads((check.path / DROPPED).read_text())


def rows(artifact: Artifact, split: str = "train") -> list[dict[str, Any]]:
    """All rows of `split` (train | heldout). DataError when the set has no such part."""
    return list(stream(artifact, split))


def stream(artifact: Artifact, split: str = "train") -> Iterator[dict[str, Any]]:
    """The rows of `split` one by one. DataError when the set has no such part."""
    path = artifact.path / "data" / f"{split}.jsonl"
    if not path.is_file():
        raise DataError(f"data set {artifact.stage} has no {split} part; set its `holdout` share, or use another set")
    left_out = artifact.dropped if isinstance(artifact, Reduced) and split == "train" else frozenset()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row.get("id") not in left_out:
                yield row


def located(artifact: Artifact, split: str = "train") -> list[Located]:
    """All rows of `split`, each with the file and the line that it was read from."""
    return [Located(row, row["origin"]["file"], row["origin"]["line"]) for row in stream(artifact, split)]
