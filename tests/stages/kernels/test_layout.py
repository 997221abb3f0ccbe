"""A batch as one row: every supervised token once, after exactly the tokens that stood before it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.kernels.layout import IGNORE, Sequence, lay_out, sequences

quick = settings(max_examples=40, derandomize=True, deadline=None)
CPU = torch.device("cpu")
token = st.integers(1, 3)  # few, so that prompts are often equal, or begin one another


@st.composite
def examples(draw):
    """(ids, labels) of some sequences: prompts with one or more answers, of which any token may be unsupervised."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        prompt = draw(st.lists(token, min_size=1, max_size=4))
        for _ in range(draw(st.integers(1, 3))):
            answer = draw(st.lists(token, min_size=1, max_size=5))
            kept = draw(st.lists(st.booleans(), min_size=len(answer), max_size=len(answer)))
            labels = [t if keep else IGNORE for t, keep in zip(answer, kept, strict=True)]
            found.append((prompt + answer, [IGNORE] * len(prompt) + labels))
    return found


def padded(rows, left):
    longest = max(len(ids) for ids, _ in rows)

    def fill(values, value):
        rest = [value] * (longest - len(values))
        return [*rest, *values] if left else [*values, *rest]

    batch = [[fill(ids, 0), fill(labels, IGNORE), fill([1] * len(ids), 0)] for ids, labels in rows]
    return [*map(torch.tensor, zip(*batch, strict=True)), None]


def packed(rows):
    ids = [token for row, _ in rows for token in row]
    labels = [label for _, row in rows for label in row]
    positions = [position for row, _ in rows for position in range(len(row))]
    return [torch.tensor([ids]), torch.tensor([labels]), None, torch.tensor([positions])]


def context(row, place):
    """What the token at `place` of the row sees, in the order of positions: itself last."""
    family = next(f for f in row.tree.families if f.start <= place < f.stop)
    visible = row.tree.visible(family, None)
    here = place - family.start
    seen = range(here + 1) if visible is None else visible[here].nonzero()[:, 0].tolist()
    positions = row.tree.positions()[0]
    places = sorted((family.start + i for i in seen), key=lambda i: int(positions[i]))
    assert [int(positions[i]) for i in places] == list(range(len(places)))  # none missing, none twice
    return row.ids[0, places].tolist()


def check(batch):
    ids, labels, mask, positions = batch
    found = list(sequences(ids, labels, mask, positions))
    row = lay_out(found, CPU)
    places = list(zip(*(index.tolist() for index in row.place), strict=True))
    wanted = [tuple(place) for place in (labels[:, 1:] != IGNORE).nonzero().tolist()]
    assert sorted(places) == wanted  # each exactly once
    starts = positions == 0 if positions is not None else None
    for (line, column), after, target in zip(places, row.after.tolist(), row.targets.tolist(), strict=True):
        assert target == int(ids[line, column + 1])
        begin = 0
        if mask is not None:
            begin = int(mask[line].nonzero()[0])
        elif starts is not None:
            begin = int(starts[line, : column + 1].nonzero()[-1])
        assert context(row, after) == ids[line, begin : column + 1].tolist()
    assert row.ids.shape[1] == row.tree.families[-1].stop
    return row


@quick
@given(rows=examples(), left=st.booleans())
def test_a_padded_batch(rows, left):
    row = check(padded(rows, left))
    assert row.ids.numel() <= max(1, sum(len(ids) for ids, _ in rows))  # never more work than without padding


@quick
@given(rows=examples())
def test_a_packed_batch(rows):
    check(packed(rows))


@quick
@given(rows=examples())
def test_a_batch_in_any_order_is_the_same_work(rows):
    sizes = {lay_out(list(sequences(*padded(order, False))), CPU).ids.shape for order in (rows, rows[::-1])}
    assert len(sizes) == 1


def test_a_prompt_comes_once_and_the_last_token_of_an_answer_not_at_all():
    batch = [Sequence(0, 0, [7, 8, 1, 2, 3], [2, 3, 4], [1, 2, 3]), Sequence(1, 0, [7, 8, 4, 5], [2, 3], [4, 5]),
             Sequence(2, 0, [9, 6], [1], [6])]  # fmt: skip
    row = lay_out(batch, CPU)
    assert row.ids.tolist() == [[7, 8, 1, 2, 4, 9]]
    assert [(f.start, f.prompt, f.answers) for f in row.tree.families] == [(0, 2, (2, 1)), (5, 1, ())]
    assert row.after.tolist() == [1, 2, 3, 1, 4, 5] and row.targets.tolist() == [1, 2, 3, 4, 5, 6]


def test_equal_answers_to_one_prompt_are_one():
    batch = [Sequence(row, 0, [7, 8, 1, 2], [2, 3], [1, 2]) for row in range(2)] + [Sequence(2, 0, [7, 8, 3], [2], [3])]
    row = lay_out(batch, CPU)
    assert row.ids.tolist() == [[7, 8, 1]] and row.after.tolist() == [1, 2, 1, 2, 1]


def test_nothing_to_train_is_one_token_that_trains_nothing():
    ids = torch.tensor([[5, 6, 7]])
    batch = list(sequences(ids, torch.tensor([[5, IGNORE, IGNORE]]), torch.ones_like(ids), None))
    row = lay_out(batch, CPU)
    assert batch == [] and row.ids.shape == (1, 1) and len(row.after) == len(row.targets) == 0


@pytest.mark.parametrize("mask", [None, torch.ones(1, 4, dtype=torch.long)], ids=["no mask", "mask"])
def test_positions_divide_a_row_only_where_there_is_no_mask(mask):
    """As in Transformers, which takes positions beside a mask for no more than positions."""
    ids = torch.tensor([[5, 6, 7, 8]])
    found = list(sequences(ids, ids, mask, torch.tensor([[0, 1, 0, 1]])))
    assert [sequence.ids for sequence in found] == ([[5, 6], [7, 8]] if mask is None else [[5, 6, 7, 8]])
