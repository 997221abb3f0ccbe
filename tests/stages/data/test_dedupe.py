"""Near-duplicates: the first of rows that are alike stays, and what only looks alike stays too."""

import json
import random

import pytest

from stages.data import dedupe, processes
from stages.data.conversion import Chunk, Plan, convert
from stages.data.dedupe import first_of_each

WORDS = [f"{start}{end}" for start in "bdfgklmn" for end in ("ara", "elo", "imu", "oni", "upe", "yra")]


def text(seed, count):
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def chat(prompt, answer, **fields):
    return {"prompt": prompt, "response": answer, **fields}


def gone(raw, form="chat", threshold=0.8, **settings):
    """Number of a row that goes -> what is said of it; rows are numbered from 1 like lines."""
    chunk = Chunk("a.jsonl", [(line, json.dumps(row)) for line, row in enumerate(raw, 1)])
    rows = [(chunk.file, row) for row in convert(chunk, Plan(form))]
    return {row.line: like for _, row, like in first_of_each(iter(rows), threshold, **settings) if like}


def edited(given):
    return given.replace(given.split()[50], "other", 1)


ORIGINAL = chat(text(1, 12), text(2, 90))
OTHERS = [chat(text(i, 12), text(i + 100, 60)) for i in range(3, 8)]


def test_a_later_row_with_few_other_words_goes():
    near = chat(ORIGINAL["prompt"], edited(ORIGINAL["response"]))
    assert gone([OTHERS[0], ORIGINAL, *OTHERS[1:], near]) == {7: "a.jsonl, line 2"}


def test_rows_in_other_case_and_spacing_go():
    again = chat(ORIGINAL["prompt"].upper(), ORIGINAL["response"].replace(" ", "  ") + "!")
    assert gone([ORIGINAL, again]) == {2: "a.jsonl, line 1"}


def test_the_threshold_decides():
    less = chat(ORIGINAL["prompt"], " ".join(ORIGINAL["response"].split()[:70]))
    assert gone([ORIGINAL, less], threshold=0.7) == {2: "a.jsonl, line 1"} and not gone([ORIGINAL, less], threshold=0.8)


def test_one_prompt_with_other_answers_and_one_answer_to_other_prompts_stay():
    document = text(9, 200)
    about_it = [chat(f"{document} What?", text(20, 8)), chat(f"{document} What?", text(21, 8))]
    refusal = text(30, 100)
    assert not gone([*about_it, *(chat(text(i, 6), refusal) for i in range(40, 44))])


def test_rows_of_one_long_instruction_are_told_apart_by_what_else_they_say():
    task = text(50, 100)
    assert not gone([chat(f"{task} {text(i, 9)}", "positive") for i in range(60, 60 + 2 * dedupe.COMMON)])


def test_many_rows_of_one_instruction_that_ask_the_same_go():
    task = text(50, 100)
    rows = [chat(f"{task} {text(i, 9)}", "positive") for i in range(60, 60 + dedupe.COMMON)]
    assert gone([*rows, chat(rows[4]["prompt"] + "!", "positive")]) == {len(rows) + 1: "a.jsonl, line 5"}


def test_of_a_large_group_one_stays():
    rows = [chat(ORIGINAL["prompt"], f"{ORIGINAL['response']} {WORDS[i]}") for i in range(30)]
    assert list(gone(rows)) == list(range(2, 31)) and set(gone(rows).values()) == {"a.jsonl, line 1"}


def test_short_rows_stay():
    assert not gone([chat("Who are you?", "A model."), chat("Who are you??", "A model!")])


def test_turns_of_the_system_do_not_count():
    system = {"role": "system", "content": text(70, 200)}
    turns = [
        [{"role": "user", "content": text(i, 12)}, {"role": "assistant", "content": text(i, 12)}] for i in (71, 72)
    ]
    assert not gone([{"messages": [system, *each]} for each in turns])


def test_one_exchanged_word_makes_no_other_row_unless_it_is_much_of_it():
    def rows(count):
        words = text(5, count).split()
        return [chat(text(4, 6), " ".join(each)) for each in (words, [*words[:9], "other", *words[10:]])]

    assert gone(rows(25)) and not gone(rows(25), threshold=0.9)
    assert not gone(rows(16)) and gone(rows(50), threshold=0.9) and not gone(rows(50), threshold=1.0)
    two = [
        chat(text(4, 6), f"{row['response']} {'more' if i else 'less'} {text(6, 6)}") for i, row in enumerate(rows(25))
    ]
    assert not gone(two)


@pytest.mark.parametrize(("one", "other"), [("40", "55"), ("yes", "no"), ("do", "don't"), ("always", "never")])
def test_a_short_row_with_another_number_or_negation_stays(one, other):
    def rows(count):
        return [chat("How is it done?", f"{text(3, 20)} {word} {text(4, count)}") for word in (one, other)]

    assert not gone(rows(20)) and gone(rows(80))


def test_a_number_that_is_missing_makes_no_other_row():
    assert gone([chat("How is it done?", f"{text(3, 20)} {word} {text(4, 20)}") for word in ("40", "many")])


def test_a_word_at_the_end_of_one_long_instruction_tells_rows_apart():
    task = text(50, 100)
    assert not gone([chat(f"{task} {word}", "noun") for word in WORDS])


def test_other_alphabets_are_read():
    russian = "сегодня хорошая погода и мы идём гулять в парк возле реки с друзьями"
    chinese = "今天天气很好我们一起去公园散步吧然后再去吃饭"
    rows = [{"text": russian}, {"text": chinese}, {"text": russian + "!"}, {"text": "昨天" + chinese}]
    assert gone(rows, "text", 0.7) == {3: "a.jsonl, line 1", 4: "a.jsonl, line 2"}
    assert not gone(
        [{"text": russian}, {"text": "вчера была плохая погода поэтому мы сидели дома и читали книги"}], "text"
    )


def test_pairs_are_compared_with_both_answers():
    def row(*seeds):
        return dict(zip(("prompt", "chosen", "rejected"), (text(seed, 40) for seed in seeds), strict=True))

    near = {**row(1, 2, 3), "rejected": f"{text(3, 40)} indeed"}
    assert gone([row(1, 2, 3), row(1, 2, 4), near], "preference") == {3: "a.jsonl, line 1"}


def test_rows_that_judge_otherwise_stay():
    pair = {"prompt": text(1, 40), "chosen": f"{text(2, 40)} yes", "rejected": f"{text(2, 40)} no"}
    assert not gone([pair, {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}], "preference")
    labelled = {"prompt": text(1, 40), "completion": text(2, 40), "label": True}
    other = {**labelled, "completion": f"{text(2, 40)} indeed"}
    assert gone([labelled, other], "label") and not gone([labelled, {**other, "label": False}], "label")


def test_what_stays_is_like_no_other_that_stays():
    words = text(80, 110).split()
    chain = [{"text": " ".join(words[start : start + 80])} for start in (0, 8, 16, 24)]
    assert gone(chain, "text", 0.8) == {2: "a.jsonl, line 1", 4: "a.jsonl, line 3"}


def test_minhash_finds_the_same(monkeypatch):
    rows = [*OTHERS, ORIGINAL, *map(mildly, OTHERS), *map(mildly, map(mildly, OTHERS))]
    all_pairs = gone(rows)
    monkeypatch.setattr(dedupe, "EXACT", 0)
    assert gone(rows) == all_pairs and len(all_pairs) == 10


def test_several_processes_find_the_same(monkeypatch, tmp_path):
    rows = [*OTHERS, ORIGINAL, chat(ORIGINAL["prompt"], edited(ORIGINAL["response"])), *map(mildly, OTHERS)]
    alone = gone(rows)
    monkeypatch.setattr(dedupe, "PART", 2)
    monkeypatch.setattr(dedupe, "ALONE", 0)
    monkeypatch.setattr(dedupe, "EXACT", 0)
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: {0, 1})
    assert gone(rows, folder=tmp_path) == alone and len(alone) == 6
    assert not list(tmp_path.iterdir())


def mildly(row):
    return {**row, "response": row["response"] + " more"}


def test_nothing_in_nothing_out():
    assert list(first_of_each(iter(()), 0.8)) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "a"}, ("", ("a",))),
        ({"prompt": [{"role": "user", "content": "q"}], "chosen": "c", "rejected": "r"}, ("q", ("c", "r"))),
        ({"prompt": [{"role": "user", "content": "q"}], "answers": ["x", "y"]}, ("q", ("x", "y"))),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                       {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": "t"},
                       {"role": "assistant", "content": "a"}]}, ("q\nt", ("\na",))),
    ],
)  # fmt: skip
def test_what_a_row_asks_and_what_is_said_to_it(row, said):
    assert dedupe.texts(row) == said
