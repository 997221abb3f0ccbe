"""Thresholds that cannot be meant are refused with their name."""

import pytest

from pipeline.errors import ConfigError
from stages.data.misuse.config import GenericConfig, InstructionsConfig, check


def test_the_defaults_are_right():
    check(InstructionsConfig(), GenericConfig())


@pytest.mark.parametrize(
    ("instructions", "generic", "says"),
    [
        ({"max_share": 30.0}, {}, "contract.instructions.max_share=30.0: give a share from 0 to 1"),
        ({"shared_opening": 0.0}, {}, "contract.instructions.shared_opening=0.0: give a share above 0 and up to 1"),
        ({"fewest_rows": -1}, {}, "contract.instructions.fewest_rows=-1: give a whole number from 1"),
        ({"most_rows": 5}, {}, "contract.instructions.most_rows=5: fewer than fewest_rows=10"),
        ({}, {"closeness": float("nan")}, "contract.generic.closeness=nan: give a share from 0 to 1"),
        ({}, {"most_rows": 0}, "contract.generic.most_rows=0: give a whole number from 1"),
    ],
)
def test_what_cannot_be_meant(instructions, generic, says):
    with pytest.raises(ConfigError) as error:
        check(InstructionsConfig(**instructions), GenericConfig(**generic))
    assert says in str(error.value)
