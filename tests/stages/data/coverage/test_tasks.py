"""Task types: plain prompts of every type are told, courtesies and passages do not mislead."""

import time

import pytest
from coverage_rows import ASKED, THINGS, filled
from hypothesis import given
from hypothesis import strategies as st

from stages.data.coverage.task_rules import RULES
from stages.data.coverage.tasks import OTHER, TASKS, task_of

PASSAGE = (
    "The lighthouse was built in 1862 by two brothers. It was lit with oil for forty years, and its keeper kept goats. "
    "Today it holds a small museum of the sea."
)
PROMPTS = [
    ("Who painted the ceiling of the chapel?", "question_answering"),
    ("Compare rugby and football.", "question_answering"),
    (f"{PASSAGE}\n\nWho built the lighthouse?", "closed_qa"),
    (f"When was it built?\n{PASSAGE}", "closed_qa"),
    (f"{PASSAGE} What did the keeper keep?", "closed_qa"),
    ("Classify the review as positive or negative: the soup was cold.", "classification"),
    ("Is the following statement true or false? Snow is hot.", "classification"),
    ("Extract all the names from the text: Ann met Bob.", "extraction"),
    (f"Summarise this in one line: {PASSAGE}", "summarising"),
    ("Rephrase so that it sounds more polite: shut the door", "rewriting"),
    ("Put these in alphabetical order: pear, apple", "rewriting"),
    ("Translate 'good night' into Swedish.", "translation"),
    ("Give me ten ideas for a birthday party", "brainstorming"),
    ("Could you please write a short story about a fox?", "writing"),
    ("write a function in javascript that reverses a string", "code"),
    ("```python\nprint(1\n```\nWhat is wrong here?", "code"),
    ("What is 15 + 27?", "mathematics"),
    ("A train leaves with 40 people and 12 get off. How many are left?", "mathematics"),
    ("How should I tell my boss that I want to leave?", "advice"),
    ("hello there, how are you", "chat"),
    ("Return a JSON object with the keys name and age.", "constraints"),
    ("Pretend you are a pirate and greet me.", "role_play"),
    ("Act as a travel guide.", "role_play"),
    ("blue", OTHER),
]


@pytest.mark.parametrize(("prompt", "task"), PROMPTS)
def test_a_plain_prompt(prompt, task):
    assert task_of(prompt) == task


def test_every_type_has_a_rule_and_an_example():
    assert {task for task, *_ in RULES} <= set(TASKS) and {task for _, task in PROMPTS} == {*TASKS, OTHER}


@pytest.mark.parametrize("task", ASKED)
def test_most_fillings_of_a_type_are_told(task):
    said = filled(ASKED[task], THINGS, 40)
    assert sum(task_of(prompt) == task for prompt in said) >= 36


@given(st.text(max_size=700))
def test_any_text_has_one_type(text):
    assert task_of(text) in (*TASKS, OTHER)


def test_boilerplate_of_instruction_sets_is_skipped():
    prompt = "Given the task definition and input, reply with output. Translate the sentence into French.\n\nI am here."
    assert task_of(prompt) == "translation"
    assert task_of(
        "Teacher: Translate into German: hello\nTeacher: Now, understand the problem? Solve this instance:"
    ) == ("translation")


def test_a_long_prompt_and_one_full_of_numbers_are_read_in_no_time():
    numbers = "1 2 3 " * 80
    start = time.process_time()
    for prompt in (numbers, f"{numbers}?", "lorem ipsum dolor. " * 50_000, "how many " * 5_000, "(a) " * 9_000):
        task_of(prompt)
    assert time.process_time() - start < 1
