"""The table of groups and sides: true to the package, and no text of one owner or near another on two sides."""

from collections import Counter, defaultdict

from stages.data.legal import grouping, licences


def test_the_table_is_what_the_package_gives(built):
    assert licences.SPLIT.read_text() == grouping.table()


def test_an_owner_is_on_one_side(built):
    sides = defaultdict(set)
    for licence in licences.licences():
        sides[licence.owner].add(licence.side)
    assert all(len(found) == 1 for owner, found in sides.items() if owner != "Unspecified")


def test_every_category_is_measured(built):
    seen = Counter((licence.side, licence.category) for licence in licences.licences())
    assert all(seen[side, category] >= 5 for side in licences.SIDES for category in licences.CATEGORIES)


def test_paragraphs_lose_comment_marks_and_line_breaks():
    text = "/*\n * You may\n * copy this.\n *\n * Keep the notice. */\n\n-----\n// See http://x.org/\n"
    assert licences.paragraphs(text) == ["You may copy this.", "Keep the notice.", "See http://x.org/"]
