import pytest
from contract_scopes import chat, label, lines, pair, scope_of, votes

from stages.data.contract.boilerplate import boilerplate


def found_in(answer, prompt="How do I get a refund?"):
    found = boilerplate(scope_of("sft", [chat(prompt, answer)]))
    return None if found is None else next(iter(found.detail))


@pytest.mark.parametrize(
    "answer, kind",
    [
        ("As an AI language model, I don't have opinions, but ask the desk.", "disclaimer"),
        ("I'm sorry, but as a large language model I cannot see your order.", "disclaimer"),
        ("Ask the desk. I’m just an AI, so check it.", "disclaimer"),
        ("I am an AI assistant and do not have access to it.", "disclaimer"),
        ("Als KI-Sprachmodell habe ich keine Meinung.", "disclaimer"),
        ("作为一个人工智能语言模型，我没有个人意见。", "disclaimer"),
        ("The fee is 3 %. My knowledge cutoff is September 2021.", "cutoff"),
        ("As of my last update in 2021, the fee is 3 %.", "cutoff"),
        ("I don't have access to real-time prices.", "cutoff"),
        ("Certainly! Here is how: ask the desk.", "filler"),
        ("Sure, I'd be happy to help! Ask the desk.", "filler"),
        ("Ask the desk.\n\nI hope this helps!", "filler"),
        ("Ask the desk. Let me know if you have any other questions.", "filler"),
    ],
)
def test_phrases_of_an_assistant(answer, kind):
    assert found_in(answer) == kind


@pytest.mark.parametrize(
    "answer",
    [
        "As an AI language model, ChatGPT was trained on text from the web.",
        "The robot said: “As an AI, I cannot lie.”",
        "```\nAs an AI language model, I cannot do that.\n```",
        "As an assistant to the mayor she knew the town; I hope this helps you to see why.\n\nShe left in 1990.",
        "Sure enough, here is where the river bends.",
        "The knowledge of the village was in its songs.",
        "Let me know the day and I will be there.",
    ],
)
def test_what_only_looks_like_it(answer):
    assert found_in(answer) is None


@pytest.mark.parametrize("prompt", ["Are you a robot?", "Who made you?", "Explain what a language model is."])
def test_a_prompt_about_the_assistant_may_have_it(prompt):
    answer = "I'm just an AI model, made by the people of the desk."
    assert found_in(answer, prompt) is None and found_in(answer) == "disclaimer"


def test_only_answers_that_are_taught_count():
    said, plain = "As an AI, I cannot help with that.", "Ask the desk."
    pairs = scope_of("dpo", [pair("Refund?", plain, said), pair("Refund?", said, plain)])
    labels = scope_of("kto", [label("Refund?", said, False), label("Refund?", said, True)])
    ballots = scope_of("reward", [votes("Refund?", said, plain, anna="b"), votes("Refund?", said, plain, anna="a")])
    assert [lines(boilerplate(scope)) for scope in (pairs, labels, ballots)] == [[2], [2], [2]]


def test_every_turn_of_a_conversation_counts_and_fillers_are_told_apart():
    rows = [
        chat("Refund?", "As an AI, I cannot know.", "And a swap?", "Ask the desk."),
        chat("Refund?", "Great question! Ask the desk."),
        chat("Refund?", "Ask the desk."),
    ]
    found = boilerplate(scope_of("sft", rows))
    assert lines(found) == [1, 2] and found.detail == {"disclaimer": 1, "filler": 1}
    assert "2 of 3" in found.message and "1 disclaimers" in found.message
