"""What a row asks: its last request whatever its form."""

from coverage_rows import chat, pair

from stages.data.coverage.asked import asked, production
from stages.data.findings import Located


def test_the_last_request_of_a_conversation():
    row = chat(0, "And in winter?")
    row.row["messages"] = [
        {"role": "system", "content": "Be kind."},
        *chat(0, "When do owls sing?").row["messages"],
        *row.row["messages"],
    ]
    found = asked([row], "sft")[0]
    assert found.text == "And in winter?" and found.requests == ("When do owls sing?", "And in winter?")


def test_rows_that_do_not_fit_are_left_out():
    rows = [chat(0, "Why?"), pair(1, "Why?"), Located({"messages": []}, "f", 3)]
    assert [each.item.index for each in asked(rows, "sft")] == [0]


def test_a_production_sample_may_have_any_form():
    prompt = Located({"prompt": [{"role": "user", "content": "One?"}]}, "f", 1)
    rows = [prompt, Located({"text": "Two?"}, "f", 2), chat(2, "Three?"), pair(3, "Four?"), Located({"x": 1}, "f", 5)]
    assert [each.text for each in production(rows)] == ["One?", "Two?", "Three?", "Four?"]
