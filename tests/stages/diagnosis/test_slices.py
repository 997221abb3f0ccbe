"""The slices of a suite: everything, declared values, clusters; none of them twice."""

from stages.diagnosis.slices import slices


def test_all_items_come_first_then_every_value_of_a_declared_column(made):
    suite = made.suite(["a", "b", "c"], columns=[{"level": "1"}, {"level": "2"}, {"level": "1"}])
    found = {one.name: (one.kind, one.inside.tolist()) for one in slices(suite)}
    assert found == {
        "all of quiz": ("all", [True, True, True]),
        "level=1": ("declared", [True, False, True]),
        "level=2": ("declared", [False, True, False]),
    }


def test_a_value_that_all_items_have_is_no_slice_and_equal_slices_are_one(made):
    suite = made.suite(["a", "b"], columns=[{"task": "x", "level": "1", "hard": "no"}, {"task": "x", "level": "2"}])
    assert [one.name for one in slices(suite)] == ["all of quiz", "level=1", "level=2"]


def test_clusters_of_prompts_are_slices_too(made):
    prompts = [f"kettle teapot oolong {i}" for i in range(20)] + [f"railway ticket station {i}" for i in range(20)]
    kinds = [one.kind for one in slices(made.suite(prompts))]
    assert kinds == ["all", "discovered", "discovered"]
