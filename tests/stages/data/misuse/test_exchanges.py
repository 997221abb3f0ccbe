"""What one prompt and its answer look like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.misuse.exchanges import exchange, transforms, without_shared_ends

BRIDGE = "The council voted on Tuesday to rebuild the old bridge. Work is to begin in the spring. " * 4
REQUESTS = [
    ("What is the capital of France?", "The capital of France is Paris, on the Seine."),
    ("what is the capital of france", "The capital of France is Paris, on the Seine."),
    ("Translate to German: The train is late today.", "Der Zug hat heute leider etwas Verspätung."),
    ("The meeting was moved to Thursday.", "Die Besprechung wurde auf Donnerstag verlegt, weil der Raum belegt war."),
    ("English: I like the sea.\nSpanish:", "Me gusta mucho el mar azul."),
    (f"Summarize this article in one sentence.\n\n{BRIDGE}", "The council decided to rebuild the old bridge."),
    (f"{BRIDGE}\n\nBased on the passage above, name the month.", "It is to begin in one of the months of spring."),
    (f"Passage: {BRIDGE}\nQuestion: who voted", "The council voted to rebuild the old bridge."),
    ("Complete the sentence: The sun rises in the", "east every morning."),
    ("You are a pirate captain. Stay in character.\n\nA ship to the north!", "Arr, then hoist the sails, lad!"),
    ("*The knight steps into the hall.*", "*The queen rises from the throne.* Welcome back, sir."),
    ("I draw my sword and look around the cave.", "The cave is dark and damp, and something growls."),
    ("Today was rough. The car broke down.", "That sounds hard. Do you want to talk about it?"),
    ("Devise a plan for a school garden.", "The first step is to find a sunny place near a tap."),
    ("Before the sale goes through, write the buyer a line.", "The papers are on their way to your office."),
    ("Given a list of numbers, sort it.", "The sorted list of these numbers is below."),
    ("A haiku about autumn", "Leaves drift to the ground, a cold wind moves through the trees"),
    ("best time to visit japan", "The best times are spring and autumn, for the trees."),
    ("A polite version of this note, please.", "Would it be possible to wait outside for a while?"),
    ("def fib(n):", "```python\ndef fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n```"),
    ("The film was long and dull.", "negative"),
]
PIECES = [
    ("The licence is granted to every person who obtains a copy of the work, and it", "may be used for any purpose. "
     "The notice must be kept in all copies."),
    ("The brood nest lies in the middle of the hive. In spring it grows from week to week.",
     "In autumn the bees draw closer together and the queen lays fewer eggs."),
    ("When the frame is full, the bees close it with wax.", "It is then taken out and the honey is spun from it."),
    ("Chapter 3. The wintering of bees", "In cold weather the bees form a cluster around the queen and her stores."),
    ("List of tools and of their use in the workshop.", "The grinder is for edges, and the clamp holds a piece."),
    ("I was born in a small town by the sea. " * 12, "In those years the harbour was full, and we had a boat."),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "answer"), REQUESTS)
def test_a_request_with_its_reply_is_no_cut(prompt, answer):
    assert not exchange(prompt, answer).cut


@pytest.mark.parametrize(("prompt", "answer"), PIECES)
def test_two_pieces_of_a_text_are_cut(prompt, answer):
    assert exchange(prompt, answer).cut


def test_a_broken_sentence_tells_in_any_language_and_whatever_is_asked():
    german = "Der Vertrag wird mit der Unterschrift beider Seiten gültig und kann von jeder"
    assert exchange(german, "von ihnen zum Ende eines Jahres gekündigt werden. Die Frist beträgt drei Monate.").cut
    asks = "How bees live. In spring the nest grows, and by the end of May the"
    assert exchange(asks, "hive is full. Then the swarm leaves it.").broken


def test_a_full_stop_or_a_new_beginning_is_no_broken_sentence():
    assert not exchange(
        "In spring the nest of the bees grows from week to week.", "the hive is full. It is May."
    ).broken
    assert not exchange("In spring the nest of the bees grows and grows, until the", "The hive is full. Then.").broken


def test_lines_that_end_inside_a_sentence_ask_nothing():
    wrapped = "Redistribution of the work in any form is permitted if the following conditions\nare met:"
    assert not exchange(wrapped, "The notice must be kept in all copies of the work.").asks
    assert exchange("Which conditions\nare met?", "The first and the second of them are.").asks


def test_a_system_turn_can_say_what_is_to_be_done():
    assert transforms("Translate what the user writes.") and not transforms("You are a helpful assistant.")
    assert not exchange("The house is old and the garden is large.", "An old house and a large garden.", told=True).cut


@pytest.mark.parametrize("shared", ["Continue the following text:\n\n", "### Instruction:\n", "Complete this. "])
def test_an_opening_that_asks_for_nothing_is_taken_out(shared):
    said = ["Bees fly.", "Cats sleep.", "Dogs bark.", "Fish swim."]
    assert without_shared_ends([shared + each for each in said], 0.3) == said


def test_the_template_of_alpaca_is_taken_out_at_both_ends():
    head = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    said = ["Bees fly.", "Cats sleep.", "Dogs bark.", "Fish swim."]
    prompts = [f"{head}\n\n### Instruction:\n{each}\n\n### Response:" for each in said]
    assert without_shared_ends(prompts, 0.3) == said


@pytest.mark.parametrize(
    "made", ["Translate into German: {}", "Write a function that {}", "{}\nTL;DR:", "What is {}?", "Summarize. {}"]
)
def test_an_opening_or_ending_that_asks_for_something_stays(made):
    prompts = [made.format(each) for each in ("adds a to b", "sorts a list", "finds the end", "opens a file")]
    assert without_shared_ends(prompts, 0.3) == prompts


@given(st.lists(st.text(max_size=80), max_size=20), st.floats(0.05, 1))
def test_what_is_left_of_a_prompt_is_a_piece_of_it(prompts, share):
    found = without_shared_ends(prompts, share)
    assert len(found) == len(prompts) and all(left in prompt for left, prompt in zip(found, prompts, strict=True))


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_two_texts_can_be_judged(prompt, answer):
    assert exchange(prompt, answer).cut in (True, False)
