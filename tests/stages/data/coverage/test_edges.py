"""Edge cases: each kind is told from an ordinary prompt, and missing kinds are named with what to collect."""

import pytest
from coverage_rows import chat, ordinary

from stages.data.coverage import edges
from stages.data.coverage.asked import asked
from stages.data.coverage.config import CoverageConfig

CONFIG = CoverageConfig()
GERMAN = "Können Sie mir bitte erklären, wie ich meine Rechnung in diesem Monat bezahlen kann?"


def kinds(prompt, *before):
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate((*before, prompt))]
    row = chat(0, prompt)
    row.row["messages"] = [*turns, {"role": "assistant", "content": "Well."}]
    return edges.kinds(asked([row], "sft")[0], "en", CONFIG)


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("Summarize the following article:", "empty_input"),
        ("Please translate this text into French.", "empty_input"),
        ("Correct the grammar.\n\n<noinput>", "empty_input"),
        ("Reply to [insert the email here]", "empty_input"),
        ("How do I fix it?", "ambiguous"),
        ("is this better than that", "ambiguous"),
        ("python", "underspecified"),
        ("marketing email", "underspecified"),
        ("word " * 900, "over_long"),
        (GERMAN, "wrong_language"),
        ("can u tell me wich bus goes to the airport", "typos"),
        ("I didnt recieve my order, what now", "typos"),
        ("What is a fjord? And how deep is the deepest?", "multi_question"),
        ("What is a fjord and how is it made?", "multi_question"),
        ("In one sentence, explain in great detail how rain forms.", "contradictory"),
        ("Write at least 200 words, but no more than 100 words.", "contradictory"),
    ],
)
def test_a_kind_is_told(prompt, kind):
    assert kind in kinds(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "What is the capital of Norway?",
        "Write a short poem about the U.S. coast.",
        "Summarize the following text: Snow fell all night and the road was closed.",
        "Define inertia.",
        "What is 3 + 4?",
        "Explain how it rains in the mountains.",
        "Visit https://www.example.com/uuu and tell me what it sells.",
        "Don't use jargon: what's a bond?",
    ],
)
def test_an_ordinary_prompt_is_none(prompt):
    assert kinds(prompt) == []


def test_what_was_said_before_makes_a_pointer_clear():
    assert kinds("How do I fix it?", "My bicycle chain is loose.", "I see.") == []


def test_missing_kinds_are_named_and_a_target_of_zero_asks_for_none():
    rows = asked([chat(i, prompt) for i, prompt in enumerate([*ordinary(200), "fix it", "marketing email"])], "sft")
    found = [edges.kinds(each, "en", CONFIG) for each in rows]
    short = edges.edge_cases(rows, found, CONFIG)
    assert "ambiguous" not in short.detail["lacking"] and "underspecified" not in short.detail["lacking"]
    assert {"typos", "wrong_language", "over_long", "contradictory"} <= set(short.detail["lacking"])
    assert "typos: misspelt" in short.remedy and len(short.examples) == 2
    assert edges.edge_cases(rows, found, CoverageConfig(edge=0)) is None
