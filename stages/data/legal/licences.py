"""The licence texts of the package `licensedcode-data`, their groups, and the side each group falls on.

A group is never split: it joins near-duplicate texts (5-word shingles, Jaccard >= 0.5) and all texts of one owner, over
and over, until nothing more joins. The side depends on nothing that a user sets, so that all data sets agree on it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

from stages.data import split

PACKAGE = "licensedcode-data"
CATEGORIES = ("Permissive", "Copyleft Limited", "Copyleft", "Public Domain")  # the open four
SIDES = ("train", "dev", "heldout")
# of a category's texts, for dev and held-out each; more where there are few
SHARE = {"Permissive": 0.1, "Copyleft Limited": 0.1, "Copyleft": 0.12, "Public Domain": 0.2}
LARGEST = 40  # a group of more texts than this is for training
NEAR = 0.5  # Jaccard from which two texts are near-duplicates

# Licences whose labels are measured, chosen by hand for a spread of labels before anything was trained. Each takes its
# whole group along.
PLACED = {
    "heldout": ("cern-ohl-s-2.0", "eupl-1.2", "ms-rl", "odbl-1.0", "cecill-2.1", "vim", "boost-1.0", "zlib", "uoi-ncsa",
                "postgresql", "blueoak-1.0.0"),
    "dev": ("ofl-1.1", "wtfpl-2.0", "isc", "mulanpsl-2.0-en"),
    "train": ("cc-by-4.0",),  # every user meets Creative Commons, so the model should have read it
}

HEADER = re.compile(r"\A---\n(.*?\n)---[ \t]*\n?(.*)\Z", re.DOTALL)
FIELD = re.compile(r"^([\w-]+):[ \t]*(.*(?:\n[ \t]+\S.*)*)$", re.MULTILINE)
EDGES = re.compile(  # what surrounds a line: comment marks and indentation before, the same behind, and rules
    r"^[ \t]*(?:/\*+|\*+/?|//+|#+|--|;+|%+|\.\\\"|dnl\b|REM\b)[ \t]*|^[ \t]+|[ \t]*(?:\*+/|\*+|[ \t])$|[-=_*#~+]{4,}",
    re.IGNORECASE | re.MULTILINE,
)
WORD = re.compile(r"[A-Za-z]{3}")


@dataclass(frozen=True)
class Licence:
    """One licence text and what is known of it."""

    key: str
    name: str
    category: str
    owner: str
    spdx: str  # empty where SPDX lists none
    exception: bool
    text: str
    group: str = ""
    side: str = ""

    @property
    def paragraphs(self) -> list[str]:
        return paragraphs(self.text)


def header(content: str) -> tuple[dict[str, str], str]:
    """The plain fields of a file's YAML header, and the text below it."""
    found = HEADER.match(content)
    if found is None:
        return {}, content
    fields = {name: " ".join(value.split()).strip("'\"") for name, value in FIELD.findall(found[1])}
    return fields, found[2]


def folder(name: str) -> Path:
    """A data folder of the package: `licenses` or `rules`."""
    return Path(str(distribution(PACKAGE).locate_file(f"licensedcode/data/{name}")))


@lru_cache
def licences() -> tuple[Licence, ...]:
    """All English texts of the open categories that are in force, with their group and side; sorted by key."""
    found = [licence for path in sorted(folder("licenses").glob("*.LICENSE")) if (licence := _read(path))]
    groups = _groups(found)
    sides = _sides(found, groups)
    return tuple(
        Licence(**{**vars(licence), "group": group, "side": sides[group]})
        for licence, group in zip(found, groups, strict=True)
    )


def on(side: str) -> list[Licence]:
    """The licences of one side."""
    return [licence for licence in licences() if licence.side == side]


def _read(path: Path) -> Licence | None:
    fields, text = header(path.read_text(encoding="utf-8"))
    if fields.get("language", "en") != "en" or "is_deprecated" in fields or fields["category"] not in CATEGORIES:
        return None
    spdx = fields.get("spdx_license_key", "")
    return Licence(
        key=fields["key"], name=fields["name"], category=fields["category"], owner=fields["owner"],
        spdx="" if spdx.startswith("LicenseRef") else spdx, exception="is_exception" in fields, text=text,
    )


def _groups(found: list[Licence]) -> list[str]:
    """The group of each licence, named after its first member."""
    from stages.data import similar  # numpy: only where rows are really built

    union = similar.Groups(len(found))
    for i, j in similar.pairs([similar.shingles(licence.text) for licence in found], NEAR):
        union.join(i, j)
    first: dict[str, int] = {}
    for i, licence in enumerate(found):
        if licence.owner != "Unspecified":
            union.join(first.setdefault(licence.owner, i), i)
    return [found[union.find(i)].key for i in range(len(found))]


def _sides(found: list[Licence], groups: list[str]) -> dict[str, str]:
    """Group -> side. Groups are drawn by a hash of their name, category by category, until each share is reached."""
    members: dict[str, list[Licence]] = {}
    for licence, group in zip(found, groups, strict=True):
        members.setdefault(group, []).append(licence)
    by_key = {licence.key: group for licence, group in zip(found, groups, strict=True)}
    sides = {by_key[key]: side for side, keys in PLACED.items() for key in keys if key in by_key}
    for category, share in SHARE.items():
        of_category = {g: sum(m.category == category for m in part) for g, part in members.items()}
        wanted = share * sum(of_category.values())
        for side in ("heldout", "dev"):
            taken = sum(of_category[g] for g, placed in sides.items() if placed == side)
            for group in sorted(members, key=lambda g: split.unit("side", side, g)):
                if taken >= wanted:
                    break
                if group not in sides and of_category[group] and len(members[group]) <= LARGEST:
                    sides[group] = side
                    taken += of_category[group]
    return {group: sides.get(group, "train") for group in members}


def paragraphs(text: str) -> list[str]:
    """The text's paragraphs with hard line breaks, comment marks and indentation taken out."""
    blocks = re.split(r"\n{2,}", EDGES.sub("", text.replace("\r\n", "\n")))
    return [joined for block in blocks if WORD.search(joined := " ".join(block.split()))]
