"""The contract finds what was planted: precision and recall of every finding, at 1, 5 and 20 % of the rows.

`scripts/defects.py` writes the whole table, over three seeds, to benchmarks/defects.json; here one seed is asked.
"""

import pytest
from planting import PLANTS, RATES, SETS, clean, found, measure, rows_of, verdicts

from stages.data.contract.config import DEFAULT_LEVELS
from stages.data.contract.examine import CHECKS

CODES = {check.__name__ for check in CHECKS}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.code)
def test_what_was_planted_is_found_and_nothing_else(plant, tokenizer):
    for rate in RATES:
        made = measure(plant, rate, seed=0, tokenizer=tokenizer)
        if plant.exact:
            assert (made.precision, made.recall) == (1, 1), (rate, made)
        elif made.planted >= 10:  # of fewer rows one is more than a tenth
            assert made.precision >= 0.9 and made.recall >= 0.9, (rate, made)
        else:
            assert made.planted - made.hits <= 1 and made.found - made.hits <= 1, (rate, made)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.code)
def test_the_clean_set_is_left_alone(plant, tokenizer):
    assert not found(plant.code, plant.stage, rows_of(plant), tokenizer)


@pytest.mark.parametrize("code", SETS)
def test_a_set_at_fault_as_a_whole_is_told_from_a_sound_one(code):
    sound, faulty = verdicts(code, range(10))
    assert (sound, faulty) == (0, 10)


def test_every_check_has_a_plant():
    empty = {"no_rows"}  # there is no row to plant a defect in
    assert {plant.code.partition(":")[0] for plant in PLANTS} | set(SETS) | empty == CODES
    assert DEFAULT_LEVELS.keys() >= CODES


def test_the_clean_sets_are_of_a_size_that_means_something():
    assert len(clean("sft")) > 1000 and len(clean("dpo")) > 150
