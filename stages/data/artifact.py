"""Reading a prepared data set: its rows, as its artifact holds them."""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

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
    gone = left_out(artifact, split)
    with part(artifact, split).open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row.get("id") not in gone:
                yield row


def left_out(artifact: Artifact, split: str) -> frozenset[str]:
    """Ids of the rows of `split` that are not read."""
    return artifact.dropped if isinstance(artifact, Reduced) and split == "train" else frozenset()


def part(artifact: Artifact, split: str) -> Path:
    """The file of `split`. DataError when the set has none."""
    path = artifact.path / "data" / f"{split}.jsonl"
    if not path.is_file():
        raise DataError(f"data set {artifact.stage} has no {split} part; set its `holdout` share, or use another set")
    return path


class Placed(Sequence[Located]):
    """The rows of a file of JSON Lines, each with the file and the line that it was read from.

    Only where they begin is held: each time that rows are asked for they are read again.
    """

    def __init__(self, path: Path, left_out: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.starts, start = array("Q"), 0
        with path.open("rb") as lines:
            for line in lines:
                if not left_out or json.loads(line).get("id") not in left_out:
                    self.starts.append(start)
                start += len(line)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> Located: ...
    @overload
    def __getitem__(self, place: slice) -> list[Located]: ...
    def __getitem__(self, place: int | slice) -> Located | list[Located]:
        if isinstance(place, int):
            return next(self._at([range(len(self))[place]]))
        return list(self._at(range(len(self))[place]))

    def __iter__(self) -> Iterator[Located]:
        return self._at(range(len(self)))

    def _at(self, places: Iterable[int]) -> Iterator[Located]:
        with self.path.open("rb") as file:
            for place in places:
                if file.tell() != self.starts[place]:
                    file.seek(self.starts[place])
                row = json.loads(file.readline())
                yield Located(row, row["origin"]["file"], row["origin"]["line"])


def located(artifact: Artifact, split: str = "train") -> Placed:
    """The rows of `split`, each with its place. DataError when the set has no such part."""
    return Placed(part(artifact, split), left_out(artifact, split))
