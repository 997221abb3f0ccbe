"""Next-token training: what packing saves, as it is recorded."""

import pytest

from stages.data import artifact
from stages.models.chat import chat_example
from stages.training.supervised import padding


def test_padding_is_the_share_of_cells_without_a_token():
    assert padding([10, 10], [10, 10], 2) == {"unpacked": 0, "packed": 0}
    assert padding([4, 8], [12], 1) == {"unpacked": 4 / 16, "packed": 0}  # both rows in the step of the one sequence
    assert padding([5, 1, 2], [6, 2], 2)["packed"] == pytest.approx(4 / 12)


def test_rows_that_do_not_fill_the_last_step_are_padded_to_their_own_longest():
    assert padding([9, 9, 3], [9, 9, 3], 2) == {"unpacked": 0, "packed": 0}


@pytest.mark.parametrize("packing", [True, False])
def test_the_padding_of_the_rows_is_recorded(bench, base, chat_data, tokenizer, packing):
    made = bench.train("sft", base, {"train": chat_data}, packing=packing, train={"max_steps": 1}, batch_size=4)
    examples = [chat_example(tokenizer, row["messages"], 64) for row in artifact.rows(chat_data)]
    found = made.sections["data"]
    assert found["tokens"] == sum(len(e.ids) for e in examples)  # what else is recorded is still there
    if packing:
        assert 0 <= found["padding"]["packed"] < 0.1 < found["padding"]["unpacked"] < 1
    else:
        assert found["padding"].keys() == {"unpacked"}
