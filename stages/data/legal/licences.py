"""The licence texts of the package `licensedcode-data`, with the group and the side that `grouping` gave them.

The groups and sides are kept in a table, so that all data sets agree on them and none has to work them out again.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import distribution, version
from pathlib import Path

from pipeline.errors import DataError

PACKAGE = "licensedcode-data"
SPLIT = Path(__file__).parent / "authored" / "split.csv"  # key, group, side
CATEGORIES = ("Permissive", "Copyleft Limited", "Copyleft", "Public Domain")  # the open four
SIDES = ("train", "dev", "heldout")

HEADER = re.compile(r"\A---\n(.*?\n)---[ \t]*\n?(.*)\Z", re.DOTALL)
FIELD = re.compile(r"^([\w-]+):[ \t]*(.*(?:\n[ \t]+\S.*)*)$", re.MULTILINE)
MARKS = re.compile(  # indentation and comment marks before a line
    r"^[ \t]*(?:/\*+|\*+/?|//+|#+|--|;+|%+|\.\\\"|dnl\b|REM\b)?[ \t]*", re.IGNORECASE | re.MULTILINE
)
RULES = re.compile(r"/?\*{4,}/?|[-=_#~+]{4,}")  # drawn lines
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
    group: str
    side: str

    @cached_property
    def paragraphs(self) -> list[str]:
        return paragraphs(self.text)


@lru_cache
def licences() -> tuple[Licence, ...]:
    """All English texts of the open categories that are in force, by key. DataError for another package version."""
    lines = SPLIT.read_text(encoding="utf-8").splitlines()
    if lines[0] != f"# {PACKAGE} {version(PACKAGE)}":
        raise DataError(
            f"{SPLIT.name} is for {lines[0][2:]}, but {version(PACKAGE)} is installed; install that one, "
            "or place the licences anew: python -m stages.data.legal.grouping"
        )
    texts = folder("licenses")
    rows = [line.split(",") for line in lines[2:]]
    return tuple(read(texts / f"{key}.LICENSE", group, side) for key, group, side in rows)


def on(side: str) -> list[Licence]:
    """The licences of one side."""
    return [licence for licence in licences() if licence.side == side]


def folder(name: str) -> Path:
    """A data folder of the package: `licenses` or `rules`."""
    return Path(str(distribution(PACKAGE).locate_file(f"licensedcode/data/{name}")))


def header(content: str) -> tuple[dict[str, str], str]:
    """The plain fields of a file's YAML header, and the text below it."""
    found = HEADER.match(content)
    if found is None:
        return {}, content
    fields = {name: " ".join(value.split()).strip("'\"") for name, value in FIELD.findall(found[1])}
    return fields, found[2]


def read(path: Path, group: str = "", side: str = "") -> Licence:
    """One file of the package."""
    fields, text = header(path.read_text(encoding="utf-8"))
    spdx = fields.get("spdx_license_key", "")
    return Licence(
        key=fields["key"],
        name=fields["name"],
        category=fields["category"],
        owner=fields["owner"],
        spdx="" if spdx.startswith("LicenseRef") else spdx,
        exception="is_exception" in fields,
        text=text,
        group=group,
        side=side,
    )


def wanted(path: Path) -> bool:
    """Whether a file of the package holds an English text of an open category that is in force."""
    fields, _ = header(path.read_text(encoding="utf-8"))
    in_force = "is_deprecated" not in fields and fields.get("language", "en") == "en"
    return in_force and fields["category"] in CATEGORIES


def paragraphs(text: str) -> list[str]:
    """The text's paragraphs with hard line breaks, comment marks and indentation taken out."""
    lines = MARKS.sub("", RULES.sub("", text.replace("\r\n", "\n"))).split("\n")
    plain = "\n".join(line.rstrip().removesuffix("*/").rstrip(" \t*") for line in lines)
    return [joined for block in re.split(r"\n{2,}", plain) if WORD.search(joined := " ".join(block.split()))]


def measured_side(name: str) -> None:
    """ValueError for a side that is not measured."""
    if name not in ("dev", "heldout"):
        raise ValueError(f"split must be heldout or dev, not '{name}'")


def known_side(name: str) -> None:
    """ValueError for no side at all."""
    if name not in SIDES:
        raise ValueError(f"split must be one of {', '.join(SIDES)}, not '{name}'")
