"""Checks that other packages bring: found, tried before anything is measured, named where they break."""

from types import SimpleNamespace

import pytest

from pipeline.errors import ConfigError, StageFailed
from pipeline.registry import kind
from stages.evaluate import Evaluate, EvaluateConfig
from stages.evaluation import own_checks
from stages.evaluation.checks import describe, passes, problem


class Point:
    """What an installed package declares under [project.entry-points."journeyman.checks"]."""

    def __init__(self, name, function, package="acme-checks"):
        self.name, self.dist = name, SimpleNamespace(name=package, version="1.2")
        self.load = (lambda: function) if not isinstance(function, Exception) else self.broken
        self.error = function

    def broken(self):
        raise self.error


@pytest.fixture
def installed(monkeypatch):
    """installed(point, ...): these entry points are the only ones."""

    def install(*points):
        own_checks.found.cache_clear()
        monkeypatch.setattr(own_checks, "entry_points", lambda group: points if group == "journeyman.checks" else ())

    yield install
    own_checks.found.cache_clear()


def rhymes(check, text):
    return text.endswith(check["on"])


def test_a_check_of_a_package_works_as_any_other(installed):
    installed(Point("rhymes", rhymes))
    check = {"type": "rhymes", "on": "ight"}
    assert problem(check) == ""
    assert passes(check, "good night") and not passes(check, "good day")
    assert describe(check) == "rhymes on=ight"
    assert "rhymes" in problem({"type": "rimes"})  # which lists what is known


def test_the_version_of_its_package_is_part_of_every_evaluations_id(installed):
    installed()
    assert Evaluate().fingerprints(EvaluateConfig()) == {}
    installed(Point("rhymes", rhymes))
    assert Evaluate().fingerprints(EvaluateConfig()) == {"check:rhymes": "acme-checks 1.2"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ppo", {"gold": {"terms": {"right": {"kind": "checker"}}}}),
        ("grpo", {"reward": {"terms": {"right": {"kind": "checker"}}}}),
        ("rloo", {"reward": {"terms": {"right": {"kind": "checker"}}}}),
        ("label", {"terms": {"right": {"kind": "checker"}}}),
    ],
)
def test_and_of_what_learns_from_checks(installed, name, settings):
    installed(Point("rhymes", rhymes))
    found = kind(name)
    assert found.stage().fingerprints(found.config(kind=name, **settings)) == {"check:rhymes": "acme-checks 1.2"}
    assert found.stage().fingerprints(found.config(kind=name)) == {}


def test_a_check_is_tried_before_anything_is_measured(installed):
    installed(Point("rhymes", rhymes))
    found = problem({"type": "rhymes"})
    assert "check 'rhymes' of distribution 'acme-checks' failed on ''" in found and "KeyError: 'on'" in found


@pytest.mark.parametrize("answer", [1, None, "yes"])
def test_a_check_says_true_or_false(installed, answer):
    installed(Point("odd", lambda check, text: answer))
    assert "of distribution 'acme-checks' must return True or False" in problem({"type": "odd"})


def test_a_check_that_breaks_later_fails_the_stage_by_name(installed):
    installed(Point("brittle", lambda check, text: bool(1 / (len(text) - 3)) or True))
    assert problem({"type": "brittle"}) == ""
    with pytest.raises(StageFailed, match="'brittle' of distribution 'acme-checks' failed on 'abc': ZeroDivisionError"):
        passes({"type": "brittle"}, "abc")


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (
            [Point("x", ImportError("no module named y"))],
            "'x' of distribution 'acme-checks' cannot be imported: Import",
        ),
        ([Point("x", "text")], "check 'x' of distribution 'acme-checks' is 'text'; it must be a function"),
        ([Point("x", rhymes), Point("x", rhymes, "other")], "'acme-checks' and distribution 'other' both bring"),
    ],
)
def test_a_broken_plug_in_names_its_distribution(installed, points, message):
    installed(*points)
    with pytest.raises(ConfigError, match=message):
        problem({"type": "x"})


def test_a_name_of_journeymans_own_is_not_overridden(installed):
    installed(Point("exact", rhymes))
    assert "distribution 'acme-checks' brings one of that name" in problem({"type": "exact", "answer": "a"})
