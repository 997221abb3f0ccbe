"""Builders: found by name, options checked, packages told apart by content."""

from dataclasses import dataclass

import pytest

from pipeline.errors import ConfigError
from stages.data import builders


@dataclass
class Options:
    count: int = 3
    side: str = "left"

    def __post_init__(self):
        if self.side not in ("left", "right"):
            raise ValueError("side must be left or right")


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(builders, "_builders", {})
    builders.builder("toy", format="text", options=Options, packages=(), attribution="Ours.")(
        lambda options, seed: iter(())
    )
    return builders.find("toy")


def test_an_unknown_builder_lists_the_known_ones(toy):
    with pytest.raises(ConfigError, match=r"unknown data builder 'toys'; known: .*toy"):
        builders.find("toys")


def test_options_become_the_dataclass(toy):
    assert builders.parse_options(toy, {"count": 5}) == Options(5, "left")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cuont": 5}, "has no option 'cuont'; known: count, side"),
        ({"count": "5"}, "'count' of builder 'toy' must be int, not '5'"),
        ({"count": True}, "must be int"),
        ({"count": -1}, "must be 0 or more"),
        ({"side": "up"}, "side must be left or right"),
    ],
)
def test_wrong_options(toy, options, says):
    with pytest.raises(ConfigError, match=says):
        builders.parse_options(toy, options)


def test_a_package_is_known_by_version_and_content():
    version, digest = builders.package_digest("hydra-core").split(" sha256:")
    assert version.startswith("1.3") and len(digest) == 64


def test_a_package_that_is_not_installed():
    with pytest.raises(ConfigError, match="'no-such-package' is not installed; run: pip install"):
        builders.package_digest("no-such-package")


def test_what_the_installer_adds_does_not_change_the_digest(monkeypatch):
    class Dist:
        version = "1"

        def __init__(self, record):
            self.record = record

        def read_text(self, name):
            return self.record

    def digest(record):
        monkeypatch.setattr(builders, "distribution", lambda name: Dist(record))
        builders.package_digest.cache_clear()
        return builders.package_digest("x")

    plain = digest("x/a.txt,sha256=1,1\nx/b.txt,sha256=2,1\n")
    installed = (
        "x/b.txt,sha256=2,1\nx/__pycache__/a.pyc,,\nx-1.dist-info/INSTALLER,,\n../../bin/x,,\nx/a.txt,sha256=1,1\n"
    )
    assert digest(installed) == plain
    assert digest("x/a.txt,sha256=3,1\nx/b.txt,sha256=2,1\n") != plain
    builders.package_digest.cache_clear()
