"""The diagnosis of a small office: tea letters are taught and answered, those of the railway are not in the data."""

import json
import random

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from stages.diagnosis.analysis import EXAMPLES, SHOWN, diagnose
from stages.diagnosis.rates import Share, difference

WORDS = {topic: [f"{topic}{i}" for i in range(12)] for topic in ("tea", "rail")}


def prompts(topic, count, seed):
    rng = random.Random(f"{topic} {seed}")
    return [f"please sort this letter on {' '.join(rng.sample(WORDS[topic], 4))} today" for _ in range(count)]


@pytest.fixture
def office(made):
    """40 letters on tea, of which four fail, and 40 on the railway, of which 30 do."""
    return made.suite(
        prompts("tea", 40, 1) + prompts("rail", 40, 1),
        failed=[1.0] * 4 + [0.0] * 36 + [1.0] * 30 + [0.0] * 10,
        columns=[{"topic": "tea"}] * 40 + [{"topic": "rail"}] * 40,
        references=["left"] * 80,
        name="office",
    )


@pytest.fixture
def taught(made):
    return [made.lesson(prompt, "left") for prompt in prompts("tea", 80, 2)]


def declared(found):
    return {one["name"]: one for one in found["slices"] if one["kind"] == "declared"}


def test_the_slice_whose_rows_are_missing_is_named_and_the_taught_one_is_not(office, taught):
    (found,) = diagnose({"office": office}, taught, {})
    slices = declared(found)
    assert slices["topic=rail"]["verdict"] == "this slice is missing from the data"
    assert slices["topic=tea"]["verdict"] == "no verdict"
    assert slices["topic=rail"]["training"]["rows_near"] == 0 < slices["topic=tea"]["training"]["rows_near"]
    assert slices["topic=rail"]["failure_rate"]["value"] == 0.75 and slices["topic=rail"]["items"] == 40


def test_the_whole_suite_comes_first_then_causes_then_the_rest(office, taught):
    (found,) = diagnose({"office": office}, taught, {})
    assert (found["suite"], found["metric"], found["items"]) == ("office", "accuracy", 80)
    assert found["slices"][0]["kind"] == "all" and found["slices"][0]["excess"] is None
    verdicts = [one["verdict"] for one in found["slices"][1:]]
    assert verdicts[0] == "this slice is missing from the data" and verdicts[-1] == "no verdict"


def test_p_is_corrected_over_the_slices_of_all_suites(made, taught):
    def suite(name, failing):
        columns = [{"part": str(i // 20)} for i in range(80)]
        failed = np.concatenate([np.arange(20) < count for count in failing]).astype(float)
        return made.suite(["?"] * 80, failed=failed, columns=columns, name=name)

    suites = {"one": suite("one", (14, 6, 6, 6)), "two": suite("two", (5, 5, 5, 9))}
    found = {(one["suite"], part["name"]): part for one in diagnose(suites, taught, {}) for part in one["slices"]}
    counts = {("one", k): n for k, n in enumerate((14, 6, 6, 6))} | {("two", k): n for k, n in enumerate((5, 5, 5, 9))}
    total = {"one": 32, "two": 24}
    plain = [difference(Share(n / 20, 20), Share((total[name] - n) / 60, 60)).p for (name, _), n in counts.items()]
    corrected = dict(zip(counts, false_discovery_control(plain), strict=True))
    for (name, k), p in corrected.items():
        assert found[name, f"part={k}"]["excess"]["p"] == pytest.approx(p, rel=0.2)  # sizes are estimated
    assert found["one", "part=0"]["excess"]["p"] > plain[0]


def test_examples_are_the_worst_items_beside_the_row_that_is_nearest_to_each(made, office, taught):
    (found,) = diagnose({"office": office}, taught, {})
    examples = declared(found)["topic=tea"]["examples"]
    assert [one["item"] for one in examples] == ["q0", "q1", "q2"] and len(examples) == EXAMPLES
    assert examples[0]["prompt"] == office.prompts[0] and examples[0]["reference"] == "left"
    assert examples[0]["nearest"]["set"] == "lessons" and "tea" in examples[0]["nearest"]["prompt"]
    same = [*taught, made.lesson(office.prompts[0], "right")]
    (found,) = diagnose({"office": office}, same, {})
    assert declared(found)["topic=tea"]["examples"][0]["nearest"] == {
        "set": "lessons", "prompt": office.prompts[0], "answer": "right",
    }  # fmt: skip


def test_a_partial_failure_comes_after_a_whole_one_and_what_passes_is_no_example(made, taught):
    suite = made.suite(["a", "b", "c"], failed=[0.25, 0.0, 1.0])
    (found,) = diagnose({"quiz": suite}, taught, {})
    assert [one["item"] for one in found["slices"][0]["examples"]] == ["q2", "q0"]


def test_long_texts_are_cut_in_examples(made, taught):
    suite = made.suite(["word " * 400], failed=[1.0])
    (found,) = diagnose({"quiz": suite}, taught, {})
    assert len(found["slices"][0]["examples"][0]["prompt"]) == SHOWN


def test_where_failures_still_fall_more_data_helps_the_whole_and_the_curve_is_told(made, taught):
    hard = np.random.default_rng(3).permutation(200) / 200
    suite = made.suite(prompts("tea", 200, 1), failed=hard < 0.4)
    points = {share: {"quiz": made.suite(suite.prompts, failed=hard < rate)} for share, rate in
              ((0.25, 0.8), (0.5, 0.6), (1.0, 0.4))}  # fmt: skip
    (found,) = diagnose({"quiz": suite}, taught, points)
    whole = found["slices"][0]
    assert whole["verdict"] == "more of the same helps"
    assert [rate["share"] for rate in whole["curve"]["rates"]] == [0.25, 0.5, 1.0]
    assert [rate["value"] for rate in whole["curve"]["rates"]] == pytest.approx([0.8, 0.6, 0.4])
    (alone,) = diagnose({"quiz": suite}, taught, {}, "nothing else was trained")
    assert alone["slices"][0]["curve"] is None and "nothing else was trained" in alone["slices"][0]["sentence"]


def test_the_diagnosis_is_json_whatever_is_unknown(office, made):
    (found,) = diagnose({"office": office}, [made.lesson("", "")], {})
    assert "NaN" not in json.dumps(found, allow_nan=False)
