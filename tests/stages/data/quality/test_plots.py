"""Histograms: every number is in one bar, the bars stay in their box, the axes say what they show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.plots import LEFT, RIGHT, WIDTH
from stages.data.quality.plots import CEILING, FLOOR, axis_of, histogram


def shown(number):
    """As the page prints it."""
    return f"{number:,}".replace(",", "\u202f")


def total(plot):
    return sum(int(bar.title.rpartition(": ")[2].replace("\u202f", "")) for bar in plot.bars)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=200))
def test_every_number_is_counted_once_and_every_bar_is_in_the_box(numbers):
    plot = histogram("tokens per prompt", numbers)
    assert total(plot) == len(numbers) and len(plot.bars) <= 40
    for bar in plot.bars:
        assert bar.x >= LEFT and bar.x + bar.width <= WIDTH - RIGHT + 1.01
        assert CEILING <= bar.y < FLOOR and bar.y + bar.height == pytest.approx(FLOOR, abs=0.11)
    for at, _ in plot.xticks:
        assert LEFT <= at <= WIDTH - RIGHT
    assert all(CEILING <= at <= FLOOR for at, _ in plot.yticks)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(1, 10**6))
def test_bins_cover_the_range_without_a_gap_and_never_become_narrower(low, span, median):
    axis = axis_of(low, low + span, median)
    widths = np.diff(axis.edges)
    assert axis.edges[0] <= low and low + span < axis.edges[-1]
    assert (widths >= 1).all() and (np.diff(widths) >= 0).all()


def test_whole_numbers_close_together_get_a_bar_each_with_its_number_below_it():
    plot = histogram("turns per conversation", [2, 2, 2, 4, 6])
    assert [bar.title for bar in plot.bars] == ["2 turns: 3", "4 turns: 1", "6 turns: 1"]
    assert [label for _, label in plot.xticks] == ["2", "3", "4", "5", "6"]
    assert plot.xticks[0][0] == pytest.approx(plot.bars[0].x + plot.bars[0].width / 2, abs=1)
    assert (plot.across, plot.upward) == ("turns per conversation", "conversations")


def test_the_axis_is_logarithmic_only_where_lengths_are_skewed():
    skewed = histogram("tokens per document", [10] * 50 + [20] * 50 + [9000])
    assert skewed.across == "tokens per document (logarithmic)"
    labels = [int(label.replace("\u202f", "")) for _, label in skewed.xticks]
    pixels = [at for at, _ in skewed.xticks]
    slope = np.diff(pixels) / np.diff(np.log(labels))
    assert slope == pytest.approx(slope[0], rel=0.01)
    assert histogram("tokens per document", list(range(10, 100))).across == "tokens per document"
    assert not axis_of(0, 9000, 20).log  # zero has no logarithm


def test_max_length_is_marked_where_the_axis_reaches_it_and_what_lies_above_is_counted():
    numbers = [*range(1, 101)]
    plot = histogram("tokens per sequence", numbers, limit=80)
    below = [bar for bar in plot.bars if bar.x + bar.width <= plot.limit + 1]
    assert sum(int(bar.title.rpartition(": ")[2]) for bar in below) == 79  # from 80 on the bars stand behind the line
    assert plot.summary.endswith("; 20 (20.0 %) above max_length")
    beyond = histogram("tokens per sequence", numbers, limit=500)
    assert beyond.limit is None and beyond.summary.endswith("; none above max_length")


def test_the_summary_has_the_numbers_of_numpy():
    numbers = [int(n) for n in np.random.default_rng(3).lognormal(5, 1, 4000)]
    middle, most = (shown(round(float(np.percentile(numbers, share)))) for share in (50, 95))
    reach = f"{shown(min(numbers))} to {shown(max(numbers))}"
    told = histogram("tokens per prompt", numbers).summary
    assert told == f"{shown(4000)} prompts of {reach} tokens; median {middle}, 95\u00a0% up to {most}"


def test_bars_are_as_high_as_what_they_count():
    low, high = histogram("turns per row", [1, 2, 2, 2]).bars
    assert high.height == pytest.approx(3 * low.height, abs=0.3)
