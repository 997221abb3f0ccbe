"""Counts are whole numbers from 1, shares lie between 0 and 1, and the message names the key."""

from dataclasses import dataclass, field

import pytest

from pipeline.errors import ConfigError
from stages.data.thresholds import check, check_shares, suggestion


@dataclass
class Some:
    rows: int = 1
    part: float = 0.5
    deviations: float = 3.5
    name: str = "a name is no threshold"
    parts: dict = field(default_factory=dict)


@pytest.mark.parametrize("fits", [Some(), Some(part=1), Some(part=0), Some(rows=10**9), Some(deviations=80.0)])
def test_what_fits(fits):
    check("where", fits, free=("deviations",))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (Some(rows=0), "where.rows=0: give a whole number from 1"),
        (Some(part=-0.1), "where.part=-0.1: give a share from 0 to 1"),
        (Some(part=float("nan")), "where.part=nan: give a share"),
        (Some(deviations=0.0), "where.deviations=0.0: give a number above 0"),
    ],
)
def test_what_does_not(config, says):
    with pytest.raises(ConfigError) as error:
        check("where", config, free=("deviations",))
    assert says in str(error.value)


def test_a_share_that_may_not_be_nothing():
    with pytest.raises(ConfigError, match=r"where\.part=0: give a share above 0 and up to 1"):
        check("where", Some(part=0), above=("part",), free=("deviations",))


def test_shares_by_name():
    check_shares("where", {"a": 0.0, "b": 1.0})
    with pytest.raises(ConfigError, match=r"where\.b=1\.5: give a share from 0 to 1"):
        check_shares("where", {"a": 0.0, "b": 1.5})


def test_the_nearest_known_name():
    assert suggestion("secert", ["secret", "email"]) == " (did you mean 'secret'?)"
    assert suggestion("zzz", ["secret", "email"]) == "; known: secret, email"
