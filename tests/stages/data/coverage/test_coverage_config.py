"""Targets that cannot be meant are refused with their name."""

import pytest

from pipeline.errors import ConfigError
from stages.data.coverage.config import HARMS, CoverageConfig, check


def test_the_defaults_are_right():
    check(CoverageConfig())
    assert set(CoverageConfig().refusal_targets) == set(HARMS) == set(CoverageConfig().look_alike_targets)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"fewest_rows": 0}, "contract.coverage.fewest_rows=0: give a whole number from 1"),
        ({"topics": -3}, "contract.coverage.topics=-3"),
        ({"largest_task": 1.2}, "contract.coverage.largest_task=1.2: give a share from 0 to 1"),
        ({"edge": -0.1}, "contract.coverage.edge=-0.1"),
        ({"psi": 0}, "contract.coverage.psi=0: give a number above 0"),
        (
            {"refusal_targets": {"weapon": 0.1}},
            "contract.coverage.refusal_targets.weapon: unknown kind of harm; known: violence",
        ),
        (
            {"refusal_targets": {"sexul": 0}},
            "contract.coverage.refusal_targets.sexul: unknown kind of harm (did you mean 'sexual'?)",
        ),
        ({"look_alike_targets": {"drugs": 2}}, "contract.coverage.look_alike_targets.drugs=2: give a share"),
        ({"refusals": 0.4}, "contract.coverage.refusals=0.4: at least as much as most_refusals=0.3"),
    ],
)
def test_what_cannot_be_meant(fields, says):
    with pytest.raises(ConfigError) as error:
        check(CoverageConfig(**fields))
    assert says in str(error.value)
