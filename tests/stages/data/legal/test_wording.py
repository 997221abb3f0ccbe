"""Grammar of names: articles, capitals, lists."""

import pytest

from stages.data.legal.wording import article, by, fill, listed, named, sentence


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("MIT License", "the MIT License"),
        ("The Unlicense", "the Unlicense"),
        ("Copyheart", "the Copyheart licence"),
        ("WTFPL", "the WTFPL"),
        ("OpenSSL exception to GPL 2.0", "the OpenSSL exception to GPL 2.0"),
    ],
)
def test_a_name_inside_a_sentence(name, inside):
    assert named(name) == inside


@pytest.mark.parametrize(
    ("name", "result"),
    [("MPL-2.0", "an"), ("MIT", "an"), ("GPL-2.0", "a"), ("Apache-2.0", "an"), ("BSD-1-Clause", "a"), ("MirOS", "a"),
     ("Unicode-DFS-2016", "a"), ("LGPL-3.0", "an"), ("SQL", "an"), ("Python", "a"), ("X11", "an"), ("UPL-1.0", "a")],
)  # fmt: skip
def test_articles_go_by_sound(name, result):
    assert article(name) == f"{result} {name}"


def test_filling_a_template():
    assert fill("{L_cap} differs from {L}.", L="the MIT License") == "The MIT License differs from the MIT License."
    assert fill("{a_X_cap} and {a_X}", X="MIT") == "An MIT and an MIT"


def test_sentences_and_lists():
    assert sentence("zlib") == "zlib" and sentence("the X") == "The X"
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c"


def test_owners():
    assert by("Free Software Foundation (FSF)") == "the Free Software Foundation"
    assert by("SGI - Silicon Graphics") == "Silicon Graphics" and by("Kyle Mitchell") == "Kyle Mitchell"
