"""The legal data sets as they are: sizes, balance, wording, and nothing shared between training and measuring."""

import re
from collections import Counter

import pytest

from stages.data import similar

TRAINING = ("legal_sft", "legal_domain", "legal_general_text", "legal_pairs")
MEASURED = (
    "legal_heldout_text", "legal_heldout_category", "legal_heldout_conditions", "legal_heldout_compat",
    "legal_heldout_pairs", "general_heldout_text", "general_heldout_checks", "general_heldout_constraints",
    "safety_heldout",
    "legal_heldout_paraphrases",
)  # fmt: skip
DEV = ("legal_heldout_text", "legal_heldout_category", "legal_heldout_conditions", "legal_heldout_compat",
       "legal_heldout_pairs", "general_heldout_text", "general_heldout_checks", "safety_heldout")  # fmt: skip


def asked(row):
    """What the model is given: the prompt, all user turns, or the text."""
    turns = row.get("prompt") or [turn for turn in row.get("messages", []) if turn["role"] != "assistant"]
    return row.get("text") or " ".join(turn["content"] for turn in turns)


def answered(row):
    return [row["chosen"], row["rejected"]] if "chosen" in row else [row["messages"][-1]["content"]]


@pytest.mark.parametrize("split", ["heldout", "dev"])
def test_no_near_duplicate_and_no_cluster_in_training_and_measuring(built, split):
    trained = [(name, row) for name in TRAINING for row in built(name)]
    sets = [(name, built(name)) for name in MEASURED] if split == "heldout" else [(n, built(n, "dev")) for n in DEV]
    measured = [(name, row) for name, part in sets for row in part]
    assert {row["cluster"] for _, row in trained}.isdisjoint(row["cluster"] for _, row in measured)
    said = [similar.shingles(asked(row)) for _, row in trained + measured]
    crossing = [(i, j) for i, j in similar.pairs(said, 0.5) if i < len(trained) <= j]
    assert not [(trained[i], measured[j - len(trained)]) for i, j in crossing]


def test_every_paraphrased_question_has_three_wordings_and_one_check(built):
    groups = {}
    for row in built("legal_heldout_paraphrases"):
        groups.setdefault(row["cluster"], []).append(row)
    assert all(len({asked(r).casefold() for r in group}) == 3 for group in map(as_texts, groups.values()))
    assert all(len({str(row["check"]) for row in group}) == 1 for group in groups.values())
    assert Counter(group[0]["slices"]["part"] for group in groups.values()) == {"legal": 24, "general": 20}


def as_texts(group):
    return [{"text": row["prompt"][-1]["content"]} for row in group]


def test_dev_and_heldout_share_nothing(built):
    for name in DEV:
        dev, held = built(name, "dev"), built(name)
        assert dev and not {row["cluster"] for row in dev} & {row["cluster"] for row in held}, name


@pytest.mark.parametrize(
    ("name", "rows", "clusters"),
    [
        ("legal_sft", 5000, 2000), ("legal_domain", 2000, 800), ("legal_general_text", 600, 600),
        ("legal_pairs", 1500, 800), ("legal_heldout_text", 150, 45), ("legal_heldout_category", 150, 50),
        ("legal_heldout_conditions", 200, 11), ("legal_heldout_compat", 240, 150), ("legal_heldout_pairs", 250, 150),
        ("general_heldout_text", 100, 100), ("general_heldout_checks", 120, 60), ("safety_heldout", 120, 60),
        ("legal_heldout_paraphrases", 132, 44),
    ],
)  # fmt: skip
def test_sizes(built, name, rows, clusters):
    part = built(name)
    assert len(part) >= rows and len({row["cluster"] for row in part}) >= clusters
    assert len({row["id"] for row in part}) == len(part)


def test_breadth_of_instruction_tuning(built):
    tasks = {
        tag: Counter(row["task"] for row in built("legal_sft") if tag in row["tags"]) for tag in ("legal", "general")
    }
    assert len(tasks["legal"]) >= 12 and len(tasks["general"]) >= 12
    assert max(tasks["legal"].values()) < 0.25 * sum(tasks["legal"].values())


@pytest.mark.parametrize("total", [150, 400])
def test_a_limited_set_is_mostly_about_what_is_measured(built, total):
    from stages.data.legal.questions import CHAT_COUNTS, legal_chats

    built("legal_sft")  # skips without the packages
    rows = legal_chats(total, 0.6, 0)
    tasks = Counter(row["task"] for row in rows)
    assert tasks["rule"] == tasks["category of an excerpt"] == 0.3 * total
    assert len(tasks) == len(CHAT_COUNTS) and len(rows) == pytest.approx(total, rel=0.02)
    first = {
        task: Counter(row["messages"][1]["content"].split(".")[0] for row in rows if row["task"] == task)
        for task in ("rule", "category of an excerpt")
    }
    assert abs(first["rule"]["Yes"] - first["rule"]["No"]) <= 1
    assert total > 150 or max(first["category of an excerpt"].values()) <= total * 0.3 / 4 + 1
    natural = Counter(row["task"] for row in legal_chats(total, 0.0, 0))
    assert natural["rule"] < 0.15 * total


def test_excerpts_of_categories_are_short(built):
    rows = [row for row in built("legal_sft") if row["task"] == "category of an excerpt"]
    assert all(len(row["messages"][0]["content"].split()) <= 100 for row in rows)


def test_the_first_rows_stand_for_the_whole(built):
    rows = built("legal_sft")
    whole, first = (Counter(row["tags"][0] for row in part) for part in (rows, rows[:300]))
    assert all(abs(first[tag] / 300 - whole[tag] / len(rows)) < 0.02 for tag in whole)


@pytest.mark.parametrize("name", ["legal_sft", "legal_pairs", "legal_heldout_pairs"])
def test_answers_are_short_and_read_like_sentences(built, name):
    for row in built(name):
        for answer in answered(row) if "legal" in row["tags"] else []:
            assert 3 <= len(answer.split()) <= 60, answer
            assert not re.search(
                r"[{}]|--(source|file|library)|include-|LicenseRef|\b(a) [AEIO]\w|\bthe The\b|\.\.", answer
            )


@pytest.mark.parametrize("name", [*TRAINING, *MEASURED])
def test_no_template_is_left_unfilled(built, name):
    for row in built(name):
        assert not re.search(r"\{(L|E|IN|OUT|A|B|X|ID|four|gist|question|lang|label|goal|owner)(_cap)?\}", asked(row))


def test_measured_questions_are_put_in_other_words():
    from stages.data.legal.wording import wording

    def lists(node):
        if isinstance(node, dict):
            if "train" in node:
                yield node
            for value in node.values():
                yield from lists(value)

    found = list(lists(wording()))
    assert len(found) > 25 and all(not set(node["train"]) & set(node.get("measure", [])) for node in found)
    assert all(len(node["train"]) >= 6 for node in wording().values() if "train" in node)


@pytest.mark.parametrize("name", ["legal_heldout_conditions", "legal_heldout_compat"])
def test_yes_and_no_are_equally_often_right(built, name):
    for column in ("rule", "cell"):
        seen = Counter((row["slices"].get(column), row["answer"]) for row in built(name))
        if column == "rule" and name == "legal_heldout_conditions":
            assert all(seen[rule, 0] == seen[rule, 1] for rule, _ in seen)
    right = Counter(row["choices"][row["answer"]] for row in built(name))
    assert right["Yes"] == right["No"]


def test_baselines_of_the_hard_cells_are_at_chance(built):
    rows = built("legal_heldout_compat")
    for baseline in ("always_yes", "category_rule"):
        assert abs(sum(row["baselines"][baseline] for row in rows) / len(rows) - 0.5) < 0.05, baseline


def test_categories_are_as_even_as_there_are_texts(built):
    rows = built("legal_heldout_category")
    seen = Counter(row["slices"]["category"] for row in rows)
    assert (
        min(seen[name] for name in ("Permissive", "Copyleft", "Copyleft Limited")) >= 40 and seen["Public Domain"] >= 5
    )
    assert sum(row["baselines"]["majority"] for row in rows) / len(rows) < 0.4


@pytest.mark.parametrize(
    ("name", "split"), [("legal_pairs", ""), ("legal_heldout_pairs", ""), ("legal_heldout_pairs", "dev")]
)
def test_neither_length_nor_first_word_gives_a_label_true_answer_away(built, name, split):
    rows = [row for row in built(name, split) if "legal" in row["tags"]]
    sizes = [(len(row["chosen"].split()), len(row["rejected"].split())) for row in rows]
    longer, shorter = sum(a > b for a, b in sizes), sum(a < b for a, b in sizes)
    assert abs(longer - shorter) <= 0.03 * len(rows)
    chosen, rejected = map(sum, zip(*sizes, strict=True))
    assert chosen == pytest.approx(rejected, rel=0.05)
    first = [Counter(row[side].split()[0] for row in rows) for side in ("chosen", "rejected")]
    assert all(abs(first[0][word] - first[1][word]) < 0.04 * len(rows) for word in first[0] | first[1])
    yes_no = Counter(row["chosen"][:3] for row in rows if row["task"] in ("rule", "compatibility"))
    assert yes_no["Yes"] == yes_no["No."]


def test_pairs_and_chats_do_not_repeat_each_other(built):
    chats = {asked(row) for row in built("legal_sft") if "legal" in row["tags"]}
    assert not [row for row in built("legal_pairs") if asked(row) in chats]


def test_chats_for_rehearsal_are_fit(built):
    for row in built("legal_general_text"):
        assert len(row["messages"]) >= 4 and not re.search(r"@|http|\d{3}-\d{4}", asked(row))


@pytest.mark.parametrize("split", ["heldout", "dev"])
def test_measured_pairs_have_the_parts_of_training(built, split):
    rows = built("legal_heldout_pairs", split)
    parts = Counter(row["slices"]["part"] for row in rows)
    assert parts.keys() == {"legal", "general", "safety"} and min(parts.values()) >= 38
    assert {row["slices"].get("seen_category") for row in rows} == {None, "yes", "no"}


def test_instructions_with_constraints_ask_for_every_type(built):
    from stages.evaluation.constraints import TYPES, problem

    rows = built("general_heldout_constraints")
    assert len(rows) >= 60 and not [row["id"] for row in rows if problem(row["constraints"])]
    assert {given["type"] for row in rows for given in row["constraints"]} == set(TYPES)
    assert Counter(row["slices"]["constraints"] for row in rows).keys() == {1, 2, 3}


@pytest.mark.parametrize("split", ["heldout", "dev"])
def test_refusals_come_with_look_alikes(built, split):
    rows = built("safety_heldout", split)
    assert {row["seen_category"] for row in rows} == {True, False}
    assert 0.3 < sum(row["harmful"] for row in rows) / len(rows) < 0.7


@pytest.mark.parametrize("split", ["train", "heldout", "dev"])
def test_prompts_of_reinforcement_learning_have_a_check_that_their_right_answer_passes(built, split):
    from stages.data.legal.talk import authored
    from stages.evaluation.checks import passes, problem

    rows = built("legal_checked", split)
    assert not [row["id"] for row in rows if problem(row["check"])]
    assert Counter(row["slices"]["part"] for row in rows).keys() == {"general", "safety"}
    wanted = Counter(row["check"]["wanted"] for row in rows if row["check"]["type"] == "refusal")
    assert 0.3 < wanted[True] / wanted.total() < 0.7
    if split == "train":
        known = {row["id"]: row["response"] for name in ("general", "safety") for row in authored(f"{name}_train")
                 if "response" in row}  # fmt: skip
        right = [passes(row["check"], known[row["id"]]) for row in rows if row["id"] in known]
        assert sum(right) / len(right) > 0.99


def test_the_same_seed_makes_the_same_rows(built):
    from stages.data.legal.measured import CountOptions, legal_heldout_conditions

    def made(seed):
        return [row["id"] for row in legal_heldout_conditions(CountOptions(), seed)]

    assert made(1) == made(1) != made(2)
