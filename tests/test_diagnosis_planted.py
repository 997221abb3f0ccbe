"""Planted damage is recognised by the whole analysis: verdicts on a seed that chose no threshold."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "scripts" / "diagnosis_planted.py"


@pytest.fixture(scope="module")
def planted():
    spec = importlib.util.spec_from_file_location("diagnosis_planted", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("plant", "share", "verdict"),
    [
        ("control", 0.0, "no verdict"),
        ("volume", 0.9, "more of the same helps"),
        ("removed", 1.0, "this slice is missing from the data"),
        ("flipped", 0.5, "labels disagree here"),
        ("turned", 1.0, "labels disagree here"),
    ],
)
def test_what_was_done_is_what_is_said(planted, plant, share, verdict, declared):
    found = planted.case(0, plant, share, declared)
    assert planted.verdict_on(plant, found) == verdict and planted.blamed(plant, found) == 0
