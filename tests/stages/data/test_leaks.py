"""Leaks: planted ones are found with both rows, templates and short prompts are none, and the fast way is right."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from stages.data.contract.view import plain
from stages.data.findings import Located
from stages.data.leaks import LeakConfig, check, dropped, finding, leaks

VOCABULARY = [f"{a}{b}{c}" for a in "bdfglmnprst" for b in "aeiou" for c in "bdfglmnprst"]


def sentence(seed, count):
    """`count` random words that no other seed has in this order."""
    return " ".join(random.Random(str(seed)).choices(VOCABULARY, k=count))


def row(name, file, **content):
    return Located({"id": name, "cluster": content.pop("cluster", name), **content}, file, int(name[1:]) + 1)


def document(name, file, text, **labels):
    return row(name, file, text=text, **labels)


def chat(name, file, *turns, system=None, **labels):
    said = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    before = [{"role": "system", "content": system}] if system else []
    return row(name, file, messages=[*before, *said], **labels)


def asked(name, file, prompt, **content):
    return row(name, file, prompt=[{"role": "user", "content": prompt}], **content)


def found(training, measured, **settings):
    """(kind, training row, item) of the leaks between two sets."""
    return [
        (leak.kind, leak.row.row["id"], leak.item.row["id"])
        for leak in leaks({"t": training}, {"m": measured}, LeakConfig(**settings))
    ]


@pytest.fixture
def training():
    return [document(f"t{i}", "train.jsonl", sentence(i, 120)) for i in range(40)]


@pytest.fixture
def measured():
    return [document(f"m{i}", "eval.jsonl", sentence(1000 + i, 120)) for i in range(20)]


# -- planted leaks ------------------------------------------------------------------------------------------------
def test_nothing_is_found_in_disjoint_sets(training, measured):
    assert found(training, measured) == []


def test_a_document_that_is_also_measured(training, measured):
    training[7] = document("t7", "train.jsonl", f"  {measured[3].row['text'].upper()}. ")
    assert found(training, measured) == [("exact", "t7", "m3")]


def test_a_near_duplicate(training, measured):
    words = measured[3].row["text"].split()
    training[7] = document("t7", "train.jsonl", " ".join([*words[:60], "otherwise", *words[61:]]))
    assert found(training, measured) == [("near", "t7", "m3")]


@pytest.mark.parametrize(("every", "leak"), [(20, True), (6, False)])
def test_a_document_with_words_changed(training, measured, every, leak):
    words = measured[3].row["text"].split()
    changed = ("otherwise" if i % every == 0 else word for i, word in enumerate(words))
    training[7] = document("t7", "train.jsonl", f"{sentence(1, 90)} {' '.join(changed)}")
    assert found(training, measured) == ([("overlap", "t7", "m3")] if leak else [])


@pytest.mark.parametrize("form", ["text", "messages"])
@pytest.mark.parametrize(("words", "leak"), [(40, True), (30, False)])
def test_a_passage_of_a_measured_document(training, measured, form, words, leak):
    measured[3] = document("m3", "eval.jsonl", sentence("long", 300))
    passage = " ".join(sentence("long", 300).split()[100 : 100 + words])
    told = f"{sentence(1, 90)} {passage} {sentence(2, 90)}"
    make = {"text": document, "messages": lambda *names: chat(*names[:2], "Go on, what is next?", names[2])}[form]
    training[7] = make("t7", "train.jsonl", told)
    assert found(training, measured) == ([("overlap", "t7", "m3")] if leak else [])


def test_a_clause_of_many_training_rows_is_no_passage(measured):
    clause = sentence("clause", 50)
    measured[3] = document("m3", "eval.jsonl", f"{sentence(1, 150)} {clause} {sentence(2, 150)}")
    for rows, leaking in ((10, 10), (11, 0)):
        training = [document(f"t{i}", "train.jsonl", f"{sentence((3, i), 90)} {clause}") for i in range(rows)]
        assert len(found(training, measured, fewest_groups=20)) == leaking


def test_a_measured_sentence_inside_a_longer_document(training, measured):
    measured[3] = document("m3", "eval.jsonl", sentence("short", 20))
    training[7] = document("t7", "train.jsonl", f"{sentence(1, 90)} {sentence('short', 20)} {sentence(2, 90)}")
    assert ("overlap", "t7", "m3") in found(training, measured)


def test_a_training_row_that_is_a_piece_of_a_measured_document(training, measured):
    piece = " ".join(measured[3].row["text"].split()[40:60])
    training[7] = document("t7", "train.jsonl", piece)
    assert found(training, measured) == [("overlap", "t7", "m3")]
    training[7] = document("t7", "train.jsonl", f"{piece} {sentence('more', 20)}")
    assert found(training, measured) == []


def test_the_same_source_cluster(training, measured):
    training[7] = document("t7", "train.jsonl", sentence(7, 120), cluster="gpl-3.0")
    measured[3] = document("m3", "eval.jsonl", sentence(1003, 120), cluster="gpl-3.0")
    assert found(training, measured) == [("cluster", "t7", "m3")]


def test_a_bare_number_as_cluster_means_something_in_its_own_file_only(training, measured):
    training[7] = document("t7", "train.jsonl", sentence(7, 120), cluster="12")
    measured[3] = document("m3", "eval.jsonl", sentence(1003, 120), cluster="12")
    assert found(training, measured) == []
    assert found(training, [replace(measured[3], file="train.jsonl")]) == [("cluster", "t7", "m3")]


def test_rows_are_no_cluster_by_their_own_name(training, measured):
    measured[3] = document("t7", "eval.jsonl", sentence(1003, 120))
    assert found(training, measured) == []


# -- conversations and what is measured by them -------------------------------------------------------------------
PROMPT = "Which notice must stay in a copy of this file?"
MEASURING = {
    "choice": {"choices": ["All of them", "None"], "answer": 0},
    "generate": {"check": {"type": "exact", "answer": "All of them"}},
    "refusal": {"harmful": True},
    "constraints": {"constraints": [{"type": "title"}]},
    "classification": {"labels": ["All of them", "None"], "label": "None"},
    "overlap": {"references": ["All of them"]},
    "preference": {"chosen": "All of them", "rejected": "None"},
}
TRAINING = {
    "chat": {"messages": [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "I do not know."}]},
    "label": {"prompt": [{"role": "user", "content": PROMPT}], "completion": "No idea.", "label": False},
    "ranking": {"prompt": [{"role": "user", "content": PROMPT}], "answers": ["None of them at all.", "No idea."]},
    "votes": {"prompt": [{"role": "user", "content": PROMPT}], "a": "No.", "b": "Yes.", "votes": []},
    "prompt": {"prompt": [{"role": "user", "content": PROMPT}]},
    "text": {"text": PROMPT},
}


@pytest.mark.parametrize("measure", MEASURING)
@pytest.mark.parametrize("form", TRAINING)
def test_a_measured_prompt_in_training_is_a_leak_whatever_its_answer(form, measure):
    item = asked("m0", "eval.jsonl", PROMPT, **MEASURING[measure])
    assert found([row("t0", "train.jsonl", **TRAINING[form])], [item]) == [("exact", "t0", "m0")]


def test_a_measured_prompt_in_the_middle_of_a_conversation():
    long = chat("t0", "train.jsonl", "Hello", "Good day.", PROMPT, "All of them.", "Thank you", "You are welcome.")
    assert found([long], [asked("m0", "eval.jsonl", PROMPT, harmful=False)]) == [("exact", "t0", "m0")]


def test_a_short_prompt_is_a_leak_only_with_its_answer():
    hello = [chat("t0", "train.jsonl", "Hello", "Good day, what can I do?")]
    assert found(hello, [chat("m0", "eval.jsonl", "Hello", "Hi!")]) == []
    assert found(hello, [asked("m0", "eval.jsonl", "Hello", harmful=False)]) == []
    assert found(hello, [chat("m0", "eval.jsonl", "hello!", "Good day, what can I do?")]) == [("exact", "t0", "m0")]


def test_a_system_turn_in_common_is_no_leak():
    system = sentence("system", 100)
    here = [chat("t0", "train.jsonl", sentence(1, 30), sentence(2, 30), system=system)]
    assert found(here, [chat("m0", "eval.jsonl", sentence(3, 30), sentence(4, 30), system=system)]) == []


def test_symbols_tell_short_texts_apart():
    assert (
        found([chat("t0", "a", "What is the value of 2+2?", "4")], [chat("m0", "b", "What is the value of 2-2?", "0")])
        == []
    )


def test_languages_without_spaces_are_compared_letter_by_letter():
    text = "许可证要求在所有副本中保留版权声明和本许可声明并且不得使用作者的名字来宣传衍生产品"
    inside = document("t0", "train.jsonl", f"{sentence(1, 50)} {text} {sentence(2, 50)}")
    assert found([inside], [document("m0", "eval.jsonl", text)]) == [("overlap", "t0", "m0")]


# -- what is no leak ----------------------------------------------------------------------------------------------
TEMPLATE = f"Read what follows with care, and say in a word of which kind it is. {sentence('template', 40)}: "


@pytest.mark.parametrize("count", [8, 300])
def test_a_template_of_many_rows_is_no_leak(count):
    rows = [chat(f"t{i}", "train.jsonl", f"{TEMPLATE} {sentence(i, 6)}", "Permissive") for i in range(count)]
    items = [asked(f"m{i}", "eval.jsonl", f"{TEMPLATE} {sentence(-1 - i, 6)}", harmful=True) for i in range(count)]
    assert found(rows, items) == []


def test_a_leak_inside_a_template_is_found():
    rows = [chat(f"t{i}", "train.jsonl", f"{TEMPLATE} {sentence(i, 40)}", "Permissive") for i in range(30)]
    items = [asked(f"m{i}", "eval.jsonl", f"{TEMPLATE} {sentence(1000 + i, 40)}", harmful=True) for i in range(30)]
    rows[4] = document("t4", "train.jsonl", f"{sentence(50, 40)} {sentence(1009, 40)} {sentence(51, 40)}")
    assert found(rows, items) == [("overlap", "t4", "m9")]


def test_one_prompt_for_many_answers_is_a_template():
    items = [asked(f"m{i}", "eval.jsonl", PROMPT, chosen=sentence(i, 20), rejected="No.") for i in range(30)]
    rows = [
        chat("t0", "train.jsonl", PROMPT, sentence("other", 20)),
        chat("t1", "train.jsonl", PROMPT, sentence(3, 20)),
    ]
    assert found(rows, items) == [("exact", "t1", "m3")]


def test_a_passage_with_many_questions_is_no_template():
    """Rows of one cluster count once, so that a passage which 20 items share is still found in training."""
    items = [
        chat(f"m{i}", "e", f"{sentence(i // 20, 40)} {sentence(-1 - i, 5)}", "Yes", cluster=f"passage {i // 20}")
        for i in range(240)
    ]
    inside = document("t0", "train.jsonl", f"{sentence('more', 60)} {sentence(3, 40)}")
    assert found([inside], items) == [("overlap", "t0", "m60")]


# -- against comparing everything with everything ------------------------------------------------------------------
SEGMENTS = [*"abc", *(sentence(f"segment {i}", 5) for i in range(5))]
few = st.lists(
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=7, unique=True
)


def pieces(text, size):
    words = plain(text).split()
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def frequent(texts, size, config, most):
    """The pieces in more than `most` of the texts that are compared by pieces."""
    held = [pieces(text, size) for text in texts if len(text.split()) >= config.ngram]
    return {gram for each in held for gram in each if sum(gram in other for other in held) > most}


def leak_kind(text, item, texts, items, config):
    """The kind of leak between two documents, straight from the definitions."""

    def telling(size, most):
        """The pieces of both that tell something."""
        measured = set().union(*(pieces(each, size) for each in items if len(each.split()) >= config.ngram))
        known = frequent(texts, size, config, most) & measured | frequent(items, size, config, config.fewest_groups)
        return [pieces(each, size) - known if len(each.split()) >= config.ngram else set() for each in (text, item)]

    if text == item:
        return "exact"
    shingles = telling(5, config.fewest_groups)
    (a, b), (c, d) = shingles, telling(config.ngram, config.fewest_groups)
    if a & b and len(a & b) / len(a | b) >= config.near:
        return "near"
    reworded = len(a & b) >= config.ngram - 4 and len(a & b) / len(b) >= config.reworded
    overlap = c & d and (len(c & d) / len(d) >= config.overlap or len(c & d) / len(c) >= config.inside)
    e, f = telling(config.ngram, config.clause)
    return "overlap" if reworded or overlap or len(e & f) >= config.passage - config.ngram + 1 else None


@given(few, few, st.integers(1, 3), st.integers(1, 3), st.sampled_from([0.3, 0.5, 0.8]), st.integers(6, 8))
@settings(max_examples=100, deadline=None)
def test_the_index_finds_what_comparing_all_finds(texts, items, groups, clause, least, ngram):
    config = LeakConfig(
        ngram=ngram, near=least, overlap=least, reworded=least, passage=ngram + 3, clause=clause,
        fewest_groups=groups, fewest_shared=1, common=0.0,
    )  # fmt: skip
    training = [document(f"t{i}", "train.jsonl", text) for i, text in enumerate(texts)]
    measured = [document(f"m{i}", "eval.jsonl", text) for i, text in enumerate(items)]
    order = ("exact", "near", "overlap")
    expected = {}
    for i, text in enumerate(texts):
        kinds = [kind for item in items if (kind := leak_kind(text, item, texts, items, config))]
        if kinds:
            expected[f"t{i}"] = min(kinds, key=order.index)
    got = {leak.row.row["id"]: leak for leak in leaks({"t": training}, {"m": measured}, config)}
    assert {name: leak.kind for name, leak in got.items()} == expected
    for leak in got.values():
        assert leak_kind(leak.row.row["text"], leak.item.row["text"], texts, items, config) == leak.kind


# -- what is told and dropped --------------------------------------------------------------------------------------
@pytest.fixture
def two(training, measured):
    training[7] = document("t7", "train.jsonl", measured[3].row["text"])
    training[9] = document("t9", "train.jsonl", " ".join(measured[5].row["text"].split()[:-1]))
    other = [document("u0", "other.jsonl", measured[3].row["text"])]
    return leaks({"t": training, "u": other}, {"m": measured}, LeakConfig())


def test_the_finding_names_both_rows(two):
    told = finding(two, 41, dropped=False)
    assert (told.level, told.code, told.count, told.of) == ("error", "evaluation_leak", 3, 41)
    assert told.detail == {"kinds": {"exact": 2, "near": 1}, "sets": {"t": {"m": 2}, "u": {"m": 1}}}
    first = told.examples[0]
    assert (first.file, first.line) == ("train.jsonl", 8) and first.text.count(sentence(1003, 120)[:40]) == 2
    assert "measured: eval.jsonl, line 4" in first.text and "contract.leaks=drop" in told.remedy


def test_dropped_rows_are_counted_and_only_a_warning(two):
    told = finding(two, 41, dropped=True)
    assert told.level == "warning" and "3 of 41 (7.3 %)" in told.message and "left out" in told.message
    assert dropped(two) == {"t": ["t7", "t9"], "u": ["u0"]}


def test_no_leak_is_no_finding():
    assert (
        finding([], 41, dropped=False) is None and dropped([]) == {} and leaks({"t": []}, {"m": []}, LeakConfig()) == []
    )


# -- settings -----------------------------------------------------------------------------------------------------
def test_the_default_thresholds_are_right():
    check(LeakConfig())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"overlap": 0.0}, "contract.leak.overlap=0.0: give a share above 0 and up to 1"),
        ({"near": 1.5}, "contract.leak.near=1.5: give a share above 0 and up to 1"),
        ({"common": -0.1}, "contract.leak.common=-0.1: give a share from 0 to 1"),
        ({"clause": 0}, "contract.leak.clause=0: give a whole number from 1"),
        ({"ngram": 4}, "contract.leak.ngram=4: give at least 5 words"),
        ({"passage": 12}, "contract.leak.passage=12: give at least ngram=13 words"),
    ],
)
def test_thresholds_that_cannot_be_meant_are_refused(fields, says):
    with pytest.raises(ConfigError) as error:
        check(LeakConfig(**fields))
    assert says in str(error.value)
