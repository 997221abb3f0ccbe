"""Mixtures: shares to half a point or a refusal, the same under a seed, nothing twice before everything once."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from stages.data.mixture import TOLERANCE, Source, mix
from stages.models.chat import IGNORE, Example


def source(name, lengths, share, *, cuttable=False, start=0):
    """Rows whose tokens are all the row's own number, so that a cut row can still be told."""
    rows = [Example([start + i] * n, [IGNORE] + [start + i] * (n - 1)) for i, n in enumerate(lengths)]
    return Source(name, rows, share, cuttable)


def number(row):
    return row.ids[0]


lengths = st.lists(st.integers(2, 60), min_size=1, max_size=40)


@st.composite
def mixtures(draw):
    """One source that can be cut and up to three that cannot, shares that add up to 1."""
    parts = draw(st.lists(st.integers(1, 10), min_size=1, max_size=4))
    shares = [part / sum(parts) for part in parts]
    return [
        source(f"s{i}", draw(lengths), share, cuttable=i == 0, start=1000 * i) for i, share in enumerate(shares)
    ], draw(st.integers(50, 4000))


@settings(deadline=None, max_examples=150)
@given(mixtures(), st.integers(0, 5))
def test_a_mixture_keeps_its_shares_or_is_refused(mixture, seed):
    sources, total = mixture
    try:
        rows, parts = mix(sources, total, seed)
    except DataError as error:
        assert "mixture:" in str(error)
        return
    tokens = Counter()
    for row in rows:
        tokens[f"s{number(row) // 1000}"] += len(row.ids)
    for each in sources:
        part = parts[each.name]
        assert part.tokens == tokens[each.name]
        assert part.realised == pytest.approx(tokens[each.name] / sum(tokens.values()))
        assert abs(part.realised - each.share) <= TOLERANCE and part.asked == each.share
        mine = [row for row in rows if f"s{number(row) // 1000}" == each.name]
        assert part.rows == len(mine)
        assert part.trained_tokens == sum(row.trained for row in mine)
        assert part.epochs == pytest.approx(len(mine) / len(each.examples), abs=1e-3)


@settings(deadline=None, max_examples=150)
@given(mixtures(), st.integers(0, 5))
def test_no_row_again_before_every_row_once(mixture, seed):
    sources, total = mixture
    try:
        rows, _ = mix(sources, total, seed)
    except DataError:
        assume(False)
    for each in sources:
        times = Counter({number(row): 0 for row in each.examples})
        times.update(number(row) for row in rows if f"s{number(row) // 1000}" == each.name)
        assert max(times.values()) - min(times.values()) <= 1


@settings(deadline=None, max_examples=50)
@given(mixtures(), st.integers(0, 5))
def test_only_what_may_be_cut_is_cut(mixture, seed):
    sources, total = mixture
    try:
        rows, _ = mix(sources, total, seed)
    except DataError:
        assume(False)
    whole = {number(row): row for each in sources for row in each.examples}
    shortened = [row for row in rows if row.ids != whole[number(row)].ids]
    assert all(row.cut and number(row) < 1000 and len(row.ids) >= 2 for row in shortened) and len(shortened) <= 1


@settings(deadline=None, max_examples=30)
@given(mixtures(), st.integers(0, 5))
def test_the_same_seed_gives_the_same_rows(mixture, seed):
    sources, total = mixture
    try:
        assert mix(sources, total, seed) == mix(sources, total, seed)
    except DataError:
        assume(False)


def test_another_seed_gives_other_rows_in_another_order():
    parts = [source("text", [20] * 200, 0.8, cuttable=True), source("chat", [11, 17, 23] * 60, 0.2, start=1000)]
    first, second = mix(parts, 2000, 1)[0], mix(parts, 2000, 2)[0]
    assert {number(row) for row in first} != {number(row) for row in second}
    kinds = [number(row) // 1000 for row in first]
    assert kinds != sorted(kinds)  # the sources are mixed, not one after the other


def test_ordinary_rehearsal_is_never_refused():
    """What `domain` asks by default, on sets of ordinary size: 20 % rehearsal, a twentieth of safety."""
    text = source("text", [37 + 7 * i % 400 for i in range(300)], 0.8, cuttable=True)
    replay = source("replay", [20 + 13 * i % 180 for i in range(120)], 0.15, start=1000)
    safety = source("safety", [30 + 11 * i % 60 for i in range(30)], 0.05, start=2000)
    for seed in range(20):
        _, parts = mix([text, replay, safety], 60_000, seed)
        assert all(abs(part.realised - part.asked) < 0.001 for part in parts.values())


def test_source_that_is_too_small_is_repeated_whole():
    parts = [source("text", [50] * 40, 0.5, cuttable=True), source("chat", [10] * 20, 0.5, start=1000)]
    rows, found = mix(parts, 1000, 0)
    times = Counter(number(row) for row in rows if number(row) >= 1000)
    assert found["chat"].epochs == 2.5 and sorted(times.values()) == [2] * 10 + [3] * 10


def test_source_without_rows_is_refused_by_name():
    with pytest.raises(DataError, match=r"mixture: chat has no rows, but 20\.0% of the tokens"):
        mix([source("text", [9] * 9, 0.8, cuttable=True), source("chat", [], 0.2)], 100, 0)


def test_source_with_share_0_is_left_out_even_when_empty():
    rows, parts = mix([source("text", [9] * 9, 1.0, cuttable=True), source("chat", [], 0.0)], 81, 0)
    assert list(parts) == ["text"] and parts["text"].tokens == 81 and len(rows) == 9


def test_rows_that_do_not_fit_their_budget_are_refused_with_a_remedy():
    parts = [source("text", [50] * 40, 0.95, cuttable=True), source("chat", [400], 0.05, start=1000)]
    with pytest.raises(DataError, match=r"no row of chat is short enough for its 50 tokens.*raise max_tokens"):
        mix(parts, 1000, 0)
    long = [source("chat", [70], 0.05, start=1000), source("more", [100, 100], 0.1, start=2000)]
    with pytest.raises(DataError, match=r"chat makes up .*, asked 5\.0%.*raise max_tokens or shorten the rows"):
        mix([source("text", [50] * 40, 0.85, cuttable=True), *long], 1000, 0)


def test_shares_that_do_not_add_up_are_refused():
    with pytest.raises(DataError, match=r"add up to 0\.9000"):
        mix([source("text", [9], 0.9, cuttable=True)], 9, 0)
