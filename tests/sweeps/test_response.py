"""Response curves: which keys a sweep went through, the mean of its cells with its interval, and the drawing."""

from dataclasses import replace

import numpy as np
import pytest
from report_fixture import whole_run

from pipeline.compare import find
from pipeline.judging.results import Results
from pipeline.judging.statistics import estimate
from pipeline.report.plots import HEIGHT, LEFT, RIGHT, TOP, WIDTH
from pipeline.report.responses import lines, picture
from pipeline.store import Store
from pipeline.sweeps.response import Point, Response, responses


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """cells({"beta": "0.1"}, ...) -> models with different results, as if runs with these overrides had made them."""
    folder = tmp_path_factory.mktemp("cells")
    run_dir = whole_run(folder)
    models = [find(f"{run_dir}:{name}", Store(folder)) for name in ("base", "sft", "dpo")]

    def call(*chosen):
        found = []
        for place, values in enumerate(chosen):
            overrides = ["experiment=legal", "budget=cpu", *(f"{key}={value}" for key, value in values.items())]
            found.append(replace(models[place % 3], run={"overrides": overrides}))
        return found

    return call


def points(found, key):
    (response,) = [one for one in found if one.key == key]
    return response.points


def test_a_curve_for_each_key_with_several_values_in_the_order_of_numbers(cells):
    found = responses(
        cells({"beta": "0.5", "loss": "a"}, {"beta": "0.05", "loss": "a"}, {"beta": "0.1", "loss": "a"}), "refusal"
    )
    assert [one.key for one in found] == ["beta"]
    assert [point.value for point in found[0].points] == ["0.05", "0.1", "0.5"]


def test_a_value_of_one_cell_has_the_interval_of_that_cell(cells):
    models = cells({"beta": "1"}, {"beta": "2"}, {"beta": "3"})
    for suite in ("refusal", "domain_perplexity"):
        for model, point in zip(models, points(responses(models, suite), "beta"), strict=True):
            items = Results(model.node.evaluation.folder).items(suite)
            own = estimate(items, model.summary[suite]["metric"])
            assert (point.score, point.low, point.high) == (own.value, own.low, own.high) and point.cells == [own.value]


def test_a_value_of_several_cells_has_the_mean_of_each_item(cells):
    models = cells({"beta": "1", "loss": "a"}, {"beta": "1", "loss": "b"}, {"beta": "2", "loss": "b"})
    for suite in ("refusal", "domain_perplexity"):
        metric = models[0].summary[suite]["metric"]
        one, other = (Results(model.node.evaluation.folder).items(suite) for model in models[:2])
        order = [other.ids.index(name) for name in one.ids]
        wanted = estimate(replace(one, scores=(one.scores + other.scores[order]) / 2), metric)
        point = points(responses(models, suite), "beta")[0]
        assert point.score == pytest.approx(wanted.value) and (point.low, point.high) == pytest.approx(
            (wanted.low, wanted.high)
        )
        plain = np.average((one.scores + other.scores[order]) / 2, weights=one.weights)
        assert point.score == pytest.approx(np.exp(plain) if metric == "perplexity" else plain)
        assert len(point.cells) == 2


def test_cells_without_the_key_and_keys_without_a_choice_have_no_curve(cells):
    assert responses(cells({"beta": "1"}, {}), "refusal") == []
    assert responses(cells({}, {}), "refusal") == []


# -- drawing ------------------------------------------------------------------------------------------------------
def drawn(*values):
    made = [Point(value, 0.5 + i / 10, 0.4 + i / 10, 0.6 + i / 10, [0.5 + i / 10]) for i, value in enumerate(values)]
    return picture(Response("key", "accuracy", made))


def test_everything_is_drawn_inside_the_box():
    for values in (["1", "2", "3"], ["0.001", "1"], ["a", "b", "c"], [str(n / 7) for n in range(1, 30)]):
        seen = drawn(*values)
        places = [mark.x for mark in seen.marks] + [at for at, _ in seen.xticks]
        assert all(LEFT <= x <= WIDTH - RIGHT for x in places)
        assert all(TOP <= y <= HEIGHT for mark in seen.marks for y in (mark.low, mark.y, mark.high))
        assert [mark.x for mark in seen.marks] == sorted(mark.x for mark in seen.marks)


def test_the_axis_is_logarithmic_where_values_span_factors():
    low, middle, high = (mark.x for mark in drawn("0.01", "0.1", "1").marks)
    assert middle - low == pytest.approx(high - middle, abs=0.2) and drawn("0.01", "1").scale == "logarithmic"
    low, middle, high = (mark.x for mark in drawn("1", "2", "4").marks)
    assert 2 * (middle - low) == pytest.approx(high - middle, abs=0.3) and drawn("1", "2").scale == ""
    assert drawn("-1", "100").scale == "" and drawn("0", "100").scale == ""


def test_words_stand_side_by_side_without_a_line():
    seen = drawn("[sigmoid]", "[ipo]", "a-very-long-value-of-a-key")
    assert seen.line == "" and [label for _, label in seen.xticks] == ["[sigmoid]", "[ipo]", "a-very-long…"[:11] + "…"]


def test_the_terminal_shows_a_row_for_each_value():
    (title, rows), *_ = lines(
        [Response("beta", "accuracy", [Point("1", 0.5, 0.4, 0.6, [0.4, 0.6]), Point("2", 0.7, 0.6, 0.8, [0.7])])]
    )
    assert title == "beta  ▁█" and rows[0] == ("1", "50.0 %", "40.0 to 60.0 %", "2 cells") and rows[1][3] == "1 cell"
