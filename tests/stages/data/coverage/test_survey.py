"""Coverage of whole sets: what is planted is told, with what to collect; a balanced set is not told."""

import json
from pathlib import Path

import pytest
from coverage_rows import ASKED, PLACES, THINGS, chat, filled, ordinary, pair, safety

from stages.data.coverage.asked import asked
from stages.data.coverage.config import HARMS, CoverageConfig
from stages.data.coverage.survey import coverage
from stages.data.inspect import inspect

CONFIG = CoverageConfig()
SHARED = Path(__file__).parents[5] / "shared" / "data"


def told(rows, stage="sft", production=None, config=CONFIG):
    return {finding.code: finding for finding in coverage(asked(rows, stage), stage, config, production).findings}


def test_a_balanced_set_is_not_told(balanced):
    assert told(balanced) == {}


def test_findings_and_tables_are_plain_values(balanced):
    found = coverage(asked(balanced[:120], "sft"), "sft", CONFIG, balanced[200:])
    json.dumps([finding.json() for finding in found.findings])
    json.dumps([[table.title, table.columns, table.rows, table.reading] for table in found.tables])
    assert all(len(row) == len(table.columns) for table in found.tables for row in table.rows)
    assert all(f.message.endswith(".") and f.remedy.endswith(".") for f in found.findings)


def test_one_task_is_told_with_the_types_to_collect():
    rows = [chat(i, prompt) for i, prompt in enumerate(filled(ASKED["translation"], THINGS, 50))]
    found = told([*rows, chat(99, "Why is the sky blue?")])["task_diversity"]
    assert (found.count, found.of, found.level) == (50, 51, "warning") and "translation" in found.message
    assert "mathematics" in found.detail["missing"] and "translation" not in found.detail["missing"]
    assert "summarising (texts to be shortened" in found.remedy and found.examples[0].line == 1


def test_one_template_is_told():
    rows = [chat(i, f"What do the people of {place} eat on day {i}?") for i in range(6) for place in PLACES]
    found = told(rows)["wording_diversity"]
    assert found.count == found.of == 90 and "what do the people ..." in found.message


@pytest.mark.parametrize("harm", HARMS)
def test_a_category_without_refusals_and_look_alikes_is_named(harm):
    said = [(prompt, "Here is what is known.") for prompt in ordinary(400)] + safety(leave_out=harm)
    found = told([chat(i, *each) for i, each in enumerate(said)])
    for code in ("refusal_share", "look_alike_share"):
        assert f"None of: {harm}." in found[code].message and list(found[code].detail["lacking"]) == [harm]


def test_no_refusals_and_nothing_but_refusals():
    none = told([chat(i, prompt) for i, prompt in enumerate(ordinary(200))])["refusal_share"]
    assert none.count == 0 and "0 of 200 (0.0 %) answers refuse; the target is 2." in none.message
    every = [chat(i, prompt, "I'm sorry, I can't help with that.") for i, prompt in enumerate(ordinary(200))]
    assert "more than 30 %" in told(every)["refusal_share"].message


def test_small_sets_are_not_judged_but_counted():
    rows = [chat(i, f"Translate into French: {place}.") for i, place in enumerate(PLACES)]
    found = coverage(asked(rows, "sft"), "sft", CONFIG, rows[:5])
    assert found.findings == [] and ("translation", 15, "100.0 %", 4) in found.tables[0].rows


def test_pairs_on_few_prompts_are_told():
    rows = [pair(i, f"How do I grow {THINGS[i % 8]}?", f"Answer {i}.") for i in range(80)]
    found = told(rows, "dpo")["prompt_spread"]
    assert found.detail["prompts"] == 8 and "8 different prompts" in found.message and "42 more" in found.remedy
    spread = [pair(i, prompt) for i, prompt in enumerate(ordinary(200))]
    assert "prompt_spread" not in told(spread, "dpo")


def test_pairs_that_only_prefer_refusing_teach_to_over_refuse():
    no, yes = "I'm sorry, I can't help with that.", "Gladly."
    rows = [pair(i, prompt, no, yes) for i, prompt in enumerate(ordinary(20))]
    rows += [pair(20 + i, prompt) for i, prompt in enumerate(ordinary(200))]
    found = told(rows, "dpo")
    assert "refusal_share" not in found and "prefer an answer to a refusal" in found["look_alike_share"].message
    both = [pair(300 + i, prompt, yes, no) for i, prompt in enumerate(ordinary(20))]
    assert "look_alike_share" not in told(rows + both, "dpo")


def test_another_language_is_not_judged_by_english_rules():
    rows = [
        chat(i, f"Vad kostar det att bygga ett hus i {place} om man inte kan göra arbetet själv?", "Det beror på.")
        for i, place in enumerate(PLACES * 6)
    ]
    assert set(told(rows)) <= {"wording_diversity", "edge_cases"}


def test_rows_of_another_form_are_left_out():
    assert coverage(asked([pair(1, "Why?")], "sft"), "sft", CONFIG).findings == []


def test_documents_are_only_held_against_production():
    assert coverage([], "domain", CONFIG).tables == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared files are not here")
@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("formats/zaragoza/faq-en-alpaca.jsonl", {"task_diversity", "refusal_share", "look_alike_share"}),
        (
            "formats/sharegpt_fastchat.json",
            {"task_diversity", "wording_diversity", "refusal_share", "look_alike_share"},
        ),
        ("formats/llamafactory/alpaca_en_demo.json", {"refusal_share", "look_alike_share"}),
        ("instructions/selfinstruct_seed.jsonl", {"refusal_share", "look_alike_share"}),
        ("formats/llamafactory/dpo_en_demo.json", {"refusal_share"}),
    ],
)
def test_real_sets(name, codes):
    from stages.data import formats
    from stages.data.findings import Located
    from stages.data.readers import RowError, read
    from stages.data.rows import normalise

    rows, form = [], inspect(str(SHARED / name)).form
    for line, raw in read(str(SHARED / name)):
        try:
            rows.append(Located(normalise(raw, form, formats.find(raw))[0], name, line))
        except RowError:
            continue
    found = told(rows, {"chat": "sft", "preference": "dpo"}[form])
    assert {code for code, finding in found.items() if finding.level == "warning"} == codes
