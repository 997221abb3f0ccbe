"""`domain_text_as_instructions`: a set of documents cut into prompts and answers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from misuse_rows import chats, turn

from stages.data.misuse.config import InstructionsConfig
from stages.data.misuse.instructions import domain_text_as_instructions, judge

CONFIG = InstructionsConfig()


def halves(text: str) -> tuple[str, str]:
    parts = text.split()
    return " ".join(parts[: len(parts) // 2]), " ".join(parts[len(parts) // 2 :])


def sentences(text: str) -> tuple[str, str]:
    parts = text.split(". ")
    return ". ".join(parts[: len(parts) // 2]) + ".", ". ".join(parts[len(parts) // 2 :])


def continued(text: str) -> tuple[str, str]:
    first, second = sentences(text)
    return f"Continue the text:\n\n{first}", second


def windows(text: str) -> tuple[str, str]:
    return text[:200], text[200:400]


def titles(text: str) -> tuple[str, str]:
    return " ".join(text.split()[:4]).title(), text


@pytest.mark.parametrize("way", [halves, sentences, continued, windows, titles])
def test_cut_documents_are_an_error_that_shows_rows(bees, way):
    rows = chats([turn(*way(text)) for text in bees])
    found = domain_text_as_instructions(rows, CONFIG)
    assert (found.level, found.code, found.of) == ("error", "domain_text_as_instructions", 80)
    assert found.count > 0.5 * 80 and f"{found.count} of 80" in found.message
    assert found.examples[0].file == "chats.jsonl" and " → " in found.examples[0].text
    assert found.detail["cut"] == pytest.approx(found.count / 80)


def test_requests_are_no_finding(requests):
    assert domain_text_as_instructions(requests, CONFIG) is None


@pytest.mark.parametrize(("cut", "found"), [(0.1, False), (0.2, False), (0.6, True), (0.8, True)])
def test_a_mixture_is_found_by_its_share(bees, requests, cut, found):
    count = round(80 * cut)
    rows = random.Random(0).sample(requests, 80 - count) + chats([turn(*halves(text)) for text in bees[:count]])
    assert (domain_text_as_instructions(rows, CONFIG) is not None) == found


def test_a_document_cut_into_many_turns_is_one_conversation(bees):
    parts = [text.split(". ") for text in bees]
    rows = chats([turn(p[0] + ".", p[1] + ".") + turn(p[2] + ".", p[3] + ".") for p in parts if len(p) > 3])
    found = domain_text_as_instructions(rows, CONFIG)
    assert found.of == len(rows) and found.count <= len(rows)


def test_a_task_in_the_system_turn_is_a_request(bees):
    told = [{"role": "system", "content": "Rewrite the text in plain words."}]
    idle = [{"role": "system", "content": "You are a helpful assistant."}]
    cut = [turn(*sentences(text)) for text in bees]
    assert domain_text_as_instructions(chats([told + said for said in cut]), CONFIG) is None
    assert domain_text_as_instructions(chats([idle + said for said in cut]), CONFIG) is not None


def test_calls_of_tools_are_left_out():
    call = {"role": "assistant", "content": "", "tool_calls": [{}]}
    told = {"role": "tool", "content": "21 degrees"}
    rows = chats(
        [[{"role": "user", "content": "Weather?"}, call, told, {"role": "assistant", "content": "Warm."}]] * 20
    )
    assert domain_text_as_instructions(rows, CONFIG) is None


def test_thresholds_are_read(bees, requests):
    cut = chats([turn(*halves(text)) for text in bees])
    assert domain_text_as_instructions(cut, InstructionsConfig(max_share=1.0)) is None
    assert domain_text_as_instructions(cut, InstructionsConfig(fewest_rows=81)) is None
    assert domain_text_as_instructions(cut, InstructionsConfig(most_exchanges=1.0)) is None
    assert domain_text_as_instructions(cut, InstructionsConfig(most_rows=30)).of <= 30
    opened = chats([turn(f"Rework this: it says nothing. Respond: {text}", "It is so.") for text in bees])
    assert judge(opened, InstructionsConfig(shared_opening=1.0))[0].exchanges[0].prompt.startswith("Rework")


@given(st.lists(st.lists(st.text(min_size=1, max_size=60), min_size=2, max_size=6), max_size=30))
def test_any_conversations_can_be_judged(said):
    roles = ("user", "assistant") * 3
    rows = chats([[{"role": r, "content": c} for r, c in zip(roles, texts, strict=False)] for texts in said])
    found = domain_text_as_instructions(rows, InstructionsConfig(fewest_rows=1))
    assert found is None or 0 < found.count <= found.of <= len(rows)
