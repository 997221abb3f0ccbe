"""Leaks: training rows that a model is measured on as well."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stages.data.contract.view import plain, share
from stages.data.findings import Finding, Located, seen

REMEDY = (
    "Take these rows out of the training data, or set contract.leaks=drop: then they are left out and counted. "
    "Without that the measurement says nothing about what the model has not seen."
)


@dataclass
class LeakConfig:
    """When a training row counts as measured."""

    ngram: int = 13  # words of the pieces that are compared


@dataclass(frozen=True)
class Leak:
    """A training row and the measured item that it gives away."""

    kind: str  # exact | overlap | near | cluster
    training: str
    row: Located
    measured: str
    item: Located
    value: float


def leaks(
    training: Mapping[str, Sequence[Located]], measured: Mapping[str, Sequence[Located]], config: LeakConfig
) -> list[Leak]:
    """Every training row that an item of `measured` shares, with the first such item; names are those of data sets."""
    known: dict[str, tuple[str, Located]] = {}
    for name, items in measured.items():
        for item in items:
            known.setdefault(said(item), (name, item))
    found = []
    for name, rows in training.items():
        for row in rows:
            if (hit := known.get(said(row))) is not None:
                found.append(Leak("exact", name, row, *hit, 1.0))
    return found


def said(located: Located) -> str:
    """All that a row says, for comparison."""
    return "\n".join(plain(text) for text in _texts(located))


def _texts(located: Located) -> Iterator[str]:
    row = located.row
    for turn in (*row.get("prompt", ()), *row.get("messages", ())):
        if turn["role"] != "system":
            yield turn.get("content") or ""
    for name in ("text", "chosen", "rejected", "completion", "a", "b"):
        if isinstance(row.get(name), str):
            yield row[name]


def finding(found: Sequence[Leak], of: int, dropped: bool) -> Finding | None:
    """What there is to say of the leaks among `of` training rows; None where there are none."""
    rows = {(leak.training, leak.row.row["id"]): leak for leak in found}
    if not rows:
        return None
    done = " They are left out of the training." if dropped else ""
    return Finding(
        "warning" if dropped else "error",
        "evaluation_leak",
        len(rows),
        of,
        f"{share(len(rows), of)} training rows are also measured.{done}",
        "Nothing needs to be done; they are counted in the manifest." if dropped else REMEDY,
        seen((leak.row, _both(leak)) for leak in rows.values()),
    )


def _both(leak: Leak) -> str:
    return f"measured: {leak.item.file}, line {leak.item.line} ({leak.kind}): {said(leak.row)}"


def dropped(found: Sequence[Leak]) -> dict[str, list[str]]:
    """Training set -> ids of the rows that are measured as well."""
    ids: dict[str, set[str]] = defaultdict(set)
    for leak in found:
        ids[leak.training].add(leak.row.row["id"])
    return {name: sorted(rows) for name, rows in ids.items()}
