"""Which licences belong together, and on which side each group falls: makes the table `authored/split.csv`.

    python -m stages.data.legal.grouping

A group is never split: it joins near-duplicate texts (5-word shingles, Jaccard >= 0.5) and all texts of one owner, over
and over, until nothing more joins. A test holds the table against the package.
"""

from importlib.metadata import version

from stages.data import similar, split
from stages.data.legal.licences import PACKAGE, SPLIT, Licence, folder, read, wanted

# of a category's texts, for dev and held-out each; more where there are few
SHARE = {"Permissive": 0.1, "Copyleft Limited": 0.1, "Copyleft": 0.12, "Public Domain": 0.2}
LARGEST = 40  # a group of more texts than this is for training
NEAR = 0.5  # Jaccard from which two texts are near-duplicates

# Licences whose labels are measured, chosen by hand for a spread of labels before anything was trained. Each takes its
# whole group along.
PLACED = {
    "heldout": (
        "cern-ohl-s-2.0",
        "eupl-1.2",
        "ms-rl",
        "odbl-1.0",
        "cecill-2.1",
        "vim",
        "boost-1.0",
        "zlib",
        "uoi-ncsa",
        "postgresql",
        "blueoak-1.0.0",
    ),
    "dev": ("ofl-1.1", "wtfpl-2.0", "isc", "mulanpsl-2.0-en"),
    "train": ("cc-by-4.0",),  # every user meets Creative Commons, so the model should have read it
}


def table() -> str:
    """The table: package and version, the column names, and a line for each licence."""
    found = [read(path) for path in sorted(folder("licenses").glob("*.LICENSE")) if wanted(path)]
    groups = groups_of(found)
    sides = sides_of(found, groups)
    lines = [f"{licence.key},{group},{sides[group]}" for licence, group in zip(found, groups, strict=True)]
    return "\n".join([f"# {PACKAGE} {version(PACKAGE)}", "key,group,side", *lines]) + "\n"


def groups_of(found: list[Licence]) -> list[str]:
    """The group of each licence, named after its first member."""
    union = similar.Groups(len(found))
    for i, j in similar.pairs([similar.shingles(licence.text) for licence in found], NEAR):
        union.join(i, j)
    first: dict[str, int] = {}
    for i, licence in enumerate(found):
        if licence.owner != "Unspecified":
            union.join(first.setdefault(licence.owner, i), i)
    return [found[union.find(i)].key for i in range(len(found))]


def sides_of(found: list[Licence], groups: list[str]) -> dict[str, str]:
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


if __name__ == "__main__":
    SPLIT.write_text(table(), encoding="utf-8")
